// @ts-check

const DRAG = 5; // pixels that make a drag of a click
const BAR = 3; // pixels of a bar, and the gap to the next one
const LINE = 1.5; // pixels of an outline
const UNPLAYED = 0.62; // opacity: 3:1 on the page's grounds

/**
 * <wave-form>: a waveform as bars in its CSS colour and size; what has been played is in full
 * colour. The outline of another one can be drawn over it, in the colour --outline. A click is the event "seek", whose detail is a share of its width, 0 to 1. With the
 * attribute `selectable` a drag is the event "select", whose detail has two shares. Written by hand:
 * it draws peaks that the page has anyway, and a library would decode and play the file itself.
 */
export class Waveform extends HTMLElement {
  #canvas = document.createElement("canvas");
  /** @type {Float32Array | null} */
  #peaks = null;
  /** @type {Float32Array | null} */
  #outline = null;
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
   * @param {Float32Array | null} outline  like peaks
   */
  show(peaks, played, part = null, outline = null) {
    this.#peaks = peaks;
    this.#outline = outline;
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
    const style = getComputedStyle(this);
    pen.fillStyle = style.color;
    this.#drawBars(pen, this.#peaks, width, height);
    pen.strokeStyle = style.getPropertyValue("--outline");
    if (this.#outline) drawOutline(pen, this.#outline, width, height);
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
    const [left, right] = this.#part ?? [0, 1];
    for (const { x, y, size, share, middle } of barsOf(peaks, width, height)) {
      const outside = middle < left || middle > right;
      pen.globalAlpha = (share < this.#played ? 1 : UNPLAYED) * (outside ? 0.5 : 1);
      pen.fillRect(x, y, BAR - 1, size);
    }
  }
}

/**
 * The bars of a waveform: where they stand, in pixels; and where they begin and have their middle,
 * as shares of the width.
 * @param {Float32Array} peaks
 * @param {number} width
 * @param {number} height
 */
function* barsOf(peaks, width, height) {
  const bars = Math.floor(width / BAR);
  for (let bar = 0; bar < bars; bar++) {
    const first = Math.floor((bar * peaks.length) / bars);
    const last = Math.max(first + 1, Math.floor(((bar + 1) * peaks.length) / bars));
    const largest = peaks.subarray(first, last).reduce((a, b) => Math.max(a, b), 0);
    const size = Math.max(2, largest * height);
    yield { x: bar * BAR, y: (height - size) / 2, size, share: bar / bars, middle: (bar + 0.5) / bars };
  }
}

/**
 * Draws a line over the ends of a waveform's bars, and a gap around it.
 * @param {CanvasRenderingContext2D} pen
 * @param {Float32Array} peaks
 * @param {number} width
 * @param {number} height
 */
function drawOutline(pen, peaks, width, height) {
  const line = new Path2D();
  for (const side of [-1, 1]) {
    const points = [...barsOf(peaks, width, height)];
    for (const [n, { x, size }] of points.entries()) {
      const y = (height + side * (size - LINE)) / 2;
      if (n) line.lineTo(x + BAR / 2, y);
      else line.moveTo(x, y);
    }
  }
  pen.globalAlpha = 1;
  pen.lineJoin = "round";
  pen.lineWidth = 3 * LINE;
  pen.globalCompositeOperation = "destination-out";
  pen.stroke(line);
  pen.lineWidth = LINE;
  pen.globalCompositeOperation = "source-over";
  pen.stroke(line);
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
