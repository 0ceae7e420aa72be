// @ts-check

const DRAG = 5; // pixels that make a drag of a click
const BAR = 3; // pixels of a bar, and the gap to the next one

/**
 * <wave-form>: a waveform as bars in its CSS colour and size; what has been played is in full
 * colour. A click is the event "seek", whose detail is a share of its width, 0 to 1. With the
 * attribute `selectable` a drag is the event "select", whose detail has two shares. Written by hand:
 * it draws peaks that the page has anyway, and a library would decode and play the file itself.
 */
export class Waveform extends HTMLElement {
  #canvas = document.createElement("canvas");
  /** @type {Float32Array | null} */
  #peaks = null;
  #played = 0;
  /** @type {[number, number] | null} */
  #part = null;
  #resizes = new ResizeObserver(() => this.#draw());
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #redraw = () => this.#draw();
  #drag = { down: false, moved: false, from: 0 }; // from: a share

  connectedCallback() {
    if (!this.#canvas.isConnected) {
      this.#canvas.setAttribute("aria-hidden", "true");
      this.append(this.#canvas);
      this.#listen();
    }
    this.#resizes.observe(this);
    this.#scheme.addEventListener("change", this.#redraw);
  }

  disconnectedCallback() {
    this.#resizes.disconnect();
    this.#scheme.removeEventListener("change", this.#redraw);
  }

  /**
   * @param {Float32Array | null} peaks  of columns, 0 to 1; null: none
   * @param {number} played  0 to 1
   * @param {[number, number] | null} part  0 to 1, marked
   */
  show(peaks, played, part = null) {
    this.#peaks = peaks;
    this.#played = played;
    this.#part = part;
    this.#draw();
  }

  #listen() {
    const drag = this.#drag;
    this.addEventListener("click", (event) => {
      if (!drag.moved) this.#tell("seek", this.#shareAt(event));
    });
    this.addEventListener("pointerdown", (event) => {
      const down = this.#peaks !== null && this.hasAttribute("selectable");
      Object.assign(drag, { down, moved: false, from: this.#shareAt(event) });
      if (down) this.setPointerCapture(event.pointerId);
    });
    this.addEventListener("pointermove", (event) => {
      const at = this.#shareAt(event);
      const moved = Math.abs(at - drag.from) * this.clientWidth >= DRAG;
      if (!drag.down || !(drag.moved || moved)) return;
      drag.moved = true;
      this.#tell("select", { from: drag.from, to: at });
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.addEventListener(end, () => {
        drag.down = false;
      });
    }
  }

  /** @param {MouseEvent} event */
  #shareAt(event) {
    const { left, width } = this.getBoundingClientRect();
    return (event.clientX - left) / width;
  }

  /**
   * @param {string} name
   * @param {unknown} detail
   */
  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = window.devicePixelRatio;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    const pen = this.#canvas.getContext("2d");
    if (!pen || !this.#peaks || !width) return;
    pen.scale(scale, scale);
    pen.fillStyle = getComputedStyle(this).color;
    this.#drawBars(pen, this.#peaks, width, height);
    if (this.#part) drawPart(pen, this.#part, width, height);
    pen.globalAlpha = 1;
    const played = this.#played;
    if (played > 0 && played < 1) pen.fillRect(Math.min(played * width, width - 1), 0, 1, height);
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {Float32Array} peaks
   * @param {number} width
   * @param {number} height
   */
  #drawBars(pen, peaks, width, height) {
    const bars = Math.floor(width / BAR);
    const [left, right] = this.#part ?? [0, 1];
    for (let bar = 0; bar < bars; bar++) {
      const first = Math.floor((bar * peaks.length) / bars);
      const last = Math.max(first + 1, Math.floor(((bar + 1) * peaks.length) / bars));
      const largest = peaks.subarray(first, last).reduce((a, b) => Math.max(a, b), 0);
      const size = Math.max(2, largest * height);
      const outside = bar + 0.5 < left * bars || bar + 0.5 > right * bars;
      pen.globalAlpha = (bar / bars < this.#played ? 1 : 0.45) * (outside ? 0.5 : 1);
      pen.fillRect(bar * BAR, (height - size) / 2, BAR - 1, size);
    }
  }
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {[number, number]} part  shares
 * @param {number} width
 * @param {number} height
 */
function drawPart(pen, part, width, height) {
  const [left, right] = [part[0] * width, part[1] * width];
  pen.globalAlpha = 0.15;
  pen.fillRect(left, 0, right - left, height);
  pen.globalAlpha = 1;
  for (const edge of [left, right - 2]) pen.fillRect(Math.max(0, edge), 0, 2, height);
}

customElements.define("wave-form", Waveform);
