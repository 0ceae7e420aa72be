// @ts-check

/**
 * Follows the previews that one edit tells of: reads the newest one, one at a time, and drops those
 * that come in the meantime. One that can't be had is left out; the edit goes on.
 * @template E, P
 */
export class Previewer {
  #read;
  #show;
  #end = new AbortController();
  /** @type {E | null} */
  #next = null;
  #busy = false;

  /**
   * @param {(event: E, signal: AbortSignal) => Promise<P>} read
   * @param {(preview: P) => Promise<void>} show  the next one is read after it
   */
  constructor(read, show) {
    this.#read = read;
    this.#show = show;
  }

  /** There is a newer preview. @param {E} event */
  tell(event) {
    if (this.#end.signal.aborted) return;
    this.#next = event;
    if (!this.#busy) this.#work();
  }

  /** Nothing is shown from now on. */
  end() {
    this.#next = null;
    this.#end.abort();
  }

  async #work() {
    const { signal } = this.#end;
    this.#busy = true;
    for (let event = this.#next; event; event = this.#next) {
      this.#next = null;
      const preview = await this.#read(event, signal).catch(() => null);
      if (preview && !signal.aborted) await this.#show(preview).catch(() => {});
    }
    this.#busy = false;
  }
}
