// Runs in the page before its own script: what the tests hear, see and measure there.
(() => {
  window.sent = []; // the form of each edit, with the audio's SHA-256
  window.buffers = []; // that were played
  window.tamper = null; // called with each form before it is sent
  const fetch = window.fetch;
  window.fetch = async (address, options) => {
    const form = options?.body;
    if (address === "transform/stream") {
      window.tamper?.(form);
      const fields = Object.fromEntries([...form].filter(([name]) => name !== "audio"));
      const audio = (await form.get("audio")?.arrayBuffer()) ?? new ArrayBuffer(0);
      const digest = await crypto.subtle.digest("SHA-256", audio);
      const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0"));
      window.sent.push({ ...fields, audio: hex.join("") });
    }
    return fetch(address, options);
  };

  // All that goes to the loudspeakers goes through here.
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (!(to instanceof AudioDestinationNode) || !(this.context instanceof AudioContext)) {
      return connect.call(this, to, ...rest);
    }
    window.tap ??= new AnalyserNode(this.context, { fftSize: 8192 });
    connect.call(window.tap, to);
    return connect.call(this, window.tap, ...rest);
  };
  window.starts = 0; // of sources
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (...times) {
    window.starts += 1;
    window.buffers.push(this.buffer);
    return start.apply(this, times);
  };
  window.heard = () => {
    const samples = new Float32Array(8192);
    window.tap.getFloatTimeDomainData(samples);
    return [...samples];
  };

  window.urls = new Set(); // of objects that the page holds
  const { createObjectURL, revokeObjectURL } = URL;
  URL.createObjectURL = (object) => {
    const url = createObjectURL(object);
    window.urls.add(url);
    return url;
  };
  URL.revokeObjectURL = (url) => {
    window.urls.delete(url);
    revokeObjectURL(url);
  };

  /** Notes [progress, words] of the newest take whenever they change, and what is announced. */
  window.watch = () => {
    window.seen = [];
    window.told = [];
    const changes = { subtree: true, childList: true, characterData: true };
    new MutationObserver(() => {
      const bar = document.querySelector(".take progress");
      if (bar) window.seen.push([bar.value, document.querySelector(".take .doing").textContent]);
    }).observe(document.querySelector("#takes"), changes);
    const announcer = document.querySelector("#announcer");
    const tell = () => window.told.push(announcer.textContent);
    new MutationObserver(tell).observe(announcer, changes);
  };

  /** What has the focus: its name, and whether it is told from what has not. */
  window.focused = () => {
    const element = document.activeElement;
    const shown = element.closest(".variation, .button") ?? element;
    const { outlineStyle, outlineWidth } = getComputedStyle(shown);
    return {
      id: element.id || element.className || element.name || element.tagName,
      name: (element.ariaLabel ?? element.labels?.[0]?.textContent ?? element.textContent).trim(),
      outlined: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
    };
  };

  // The lowest contrast of a text with what lies behind it, and that text (WCAG 2.2, 1.4.3).
  // Controls that are disabled are exempt there.
  window.lowestContrast = () => {
    const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
    const linear = (each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    const luminance = (colour) => {
      const [r, g, b] = numbers(colour).map((each) => linear(each / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
      const colour = getComputedStyle(element).backgroundColor;
      return (numbers(colour)[3] ?? 1) === 1 ? colour : ground(element.parentElement);
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let lowest = [Infinity, ""];
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      const text = texts.currentNode.data.trim();
      if (!text || !element.checkVisibility() || element.closest(":disabled, noscript")) continue;
      const pair = [luminance(getComputedStyle(element).color), luminance(ground(element))];
      const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      if (contrast < lowest[0]) lowest = [contrast, text];
    }
    return lowest;
  };

  document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`);
  });
})();
