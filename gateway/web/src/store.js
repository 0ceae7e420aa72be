// @ts-check

/**
 * The state that the page's parts share. The value is replaced and never changed in place; whoever
 * watches a piece of it is called when that piece is another one.
 * @template {object} T
 */
export class Store {
  /** @type {T} */
  #value;
  /** @type {Set<() => void>} */
  #listeners = new Set();

  /** @param {T} value */
  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  /** @param {Partial<T>} change */
  set(change) {
    this.#value = { ...this.#value, ...change };
    for (const listener of [...this.#listeners]) listener();
  }

  /**
   * Calls `show` now, and again whenever what `select` returns changes.
   * @template S
   * @param {(value: T) => S} select
   * @param {(selected: S) => void} show
   * @returns {() => void}  stops watching
   */
  watch(select, show) {
    let last = select(this.#value);
    const listener = () => {
      const next = select(this.#value);
      if (Object.is(next, last)) return;
      last = next;
      show(next);
    };
    this.#listeners.add(listener);
    show(last);
    return () => this.#listeners.delete(listener);
  }
}
