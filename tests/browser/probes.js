// Runs in the page before its own script: what the tests hear, see and measure there.
(() => {
  window.sent = []; // the form of each edit, with the audio's SHA-256
  window.buffers = []; // that were played
  window.tamper = null; // called with each form before it is sent
  // Solver steps of edits that don't say how many, beyond what is noted as sent: nobody listens to
  // how good they are; even, for midpoint. null: the server's own.
  window.steps = 4;
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
      if (window.steps && !form.has("steps")) form.set("steps", String(window.steps));
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

  /** Notes from now on what B is, how it looks, what moves, and what live regions say. */
  window.watchForming = () => {
    const facts = document.querySelector("#facts-b");
    const canvas = document.querySelector("#wave-b canvas");
    const changes = { subtree: true, childList: true, characterData: true };
    Object.assign(window, { animations: 0, said: [] });
    window.facts = new Set([facts.textContent]);
    window.pictures = new Set([canvas.toDataURL()]);
    new MutationObserver(() => window.facts.add(facts.textContent)).observe(facts, changes);
    // Its size is set whenever it is drawn.
    const drawn = new MutationObserver(() => window.pictures.add(canvas.toDataURL()));
    drawn.observe(canvas, { attributes: true });
    for (const live of document.querySelectorAll("[role=status], [role=alert], [aria-live]")) {
      let before = live.textContent;
      new MutationObserver(() => {
        if (live.textContent !== before) window.said.push(live.textContent);
        before = live.textContent;
      }).observe(live, changes);
    }
    const look = () => {
      window.animations += document.getAnimations().length;
      requestAnimationFrame(look);
    };
    look();
  };

  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [r, g, b] = numbers(colour).map((each) => linear(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (...colours) => {
    const [dark, light] = colours.map(luminance).sort((one, other) => one - other);
    return (light + 0.05) / (dark + 0.05);
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return (numbers(colour)[3] ?? 1) === 1 ? colour : ground(element.parentElement);
  };

  /** The colours of a waveform's bars and of its outline. */
  const coloursOf = (waveform) => {
    const probe = document.createElement("i");
    probe.style.color = "var(--outline)";
    waveform.append(probe);
    const outline = getComputedStyle(probe).color;
    probe.remove();
    return [getComputedStyle(waveform).color, outline];
  };

  /** How they stand out from what lies behind the waveform. */
  window.contrasts = (selector) => {
    const waveform = document.querySelector(selector);
    return coloursOf(waveform).map((colour) => contrast(colour, ground(waveform)));
  };

  /** How many pixels of a waveform are bars, and how many outline. */
  window.drawn = (selector) => {
    const waveform = document.querySelector(selector);
    const colours = coloursOf(waveform).map(numbers);
    const canvas = waveform.querySelector("canvas");
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    const counts = [0, 0];
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] < 64) continue;
      const [bars, outline] = colours.map((colour) =>
        Math.hypot(...colour.map((each, n) => each - data[at + n])),
      );
      counts[Number(outline < bars)] += 1;
    }
    return counts;
  };

  // The lowest contrast of a text with what lies behind it, and that text (WCAG 2.2, 1.4.3).
  // Controls that are disabled are exempt there.
  window.lowestContrast = () => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let lowest = [Infinity, ""];
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      const text = texts.currentNode.data.trim();
      if (!text || !element.checkVisibility() || element.closest(":disabled, noscript")) continue;
      const found = contrast(getComputedStyle(element).color, ground(element));
      if (found < lowest[0]) lowest = [found, text];
    }
    return lowest;
  };

  document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`);
  });
})();
