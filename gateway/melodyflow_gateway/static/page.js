// The gateway's page: a clip goes in, takes of it come back, both are heard at equal loudness.
// No framework and no build step: this file is what runs.

const SWEEP = 6; // variations of "try these six"
const DRAG = 5; // pixels that make a drag of a click
// How many of several takes run at once: a browser opens six connections to a host, and the page needs
// one for itself.
const CONCURRENCY = 4;
const PEAKS = 600; // columns kept of a waveform
const DECODED_RATE = 48000; // Hz, of files that do not say their rate before they are decoded
const START_SECONDS = 0.02; // ahead, so that A and B start at the same sample
const SWITCH_SECONDS = 0.012; // crossfade between A and B, too short to hear and long enough not to click

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------- files

/**
 * What the header of a WAV or FLAC file says, null for any other file.
 * @param {ArrayBuffer} bytes
 * @returns {{kind: string, rate: number, channels: number, bits: number} | null} rate in Hz
 */
function readHeader(bytes) {
  const view = new DataView(bytes);
  const tag = (at) => (at + 4 <= view.byteLength ? String.fromCharCode(...new Uint8Array(bytes, at, 4)) : "");
  if (tag(0) === "fLaC" && view.byteLength >= 26) {
    // STREAMINFO: 20 bits of rate, 3 of channels - 1, 5 of bits - 1 (RFC 9639, section 8.2).
    const packed = view.getUint32(18);
    return {
      kind: "FLAC",
      rate: packed >>> 12,
      channels: ((packed >>> 9) & 7) + 1,
      bits: ((packed >>> 4) & 31) + 1,
    };
  }
  if ((tag(0) === "RIFF" || tag(0) === "RF64") && tag(8) === "WAVE") {
    let at = 12;
    while (at + 24 <= view.byteLength) {
      if (tag(at) === "fmt ") {
        return {
          kind: "WAV",
          channels: view.getUint16(at + 10, true),
          rate: view.getUint32(at + 12, true),
          bits: view.getUint16(at + 22, true),
        };
      }
      const size = view.getUint32(at + 4, true);
      at += 8 + size + (size % 2);
    }
  }
  return null;
}

/**
 * Decodes a file at a rate; the browser resamples where the file has another.
 * @param {ArrayBuffer} bytes  kept as they are
 * @param {number} rate  Hz
 * @returns {Promise<AudioBuffer>}
 */
function decode(bytes, rate) {
  return new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes.slice(0));
}

/** Decodes a result, which is WAV, at its own rate. */
const decodeResult = (bytes) => decode(bytes, readHeader(bytes).rate);

/**
 * A WAV file of 16 bits: what is decoded here has lost more before, and the server's limits are in
 * bytes. Turned down where the sound exceeds full scale.
 * @param {AudioBuffer} buffer
 * @param {number} peak  its largest absolute sample
 * @returns {Blob}
 */
function encodeWav(buffer, peak) {
  const { numberOfChannels: channels, length, sampleRate } = buffer;
  const scale = 32767 / Math.max(1, peak);
  const size = length * channels * 2;
  const bytes = new ArrayBuffer(44 + size);
  const view = new DataView(bytes);
  const text = (at, tag) => [...tag].forEach((sign, n) => view.setUint8(at + n, sign.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, channels, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * channels * 2, true);
  view.setUint16(32, channels * 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, size, true);
  for (let channel = 0; channel < channels; channel++) {
    buffer.getChannelData(channel).forEach((sample, n) => {
      view.setInt16(44 + (n * channels + channel) * 2, Math.round(sample * scale), true);
    });
  }
  return new Blob([bytes], { type: "audio/wav" });
}

/** Base64 to bytes. @param {string} text @returns {Uint8Array} */
function fromBase64(text) {
  const signs = atob(text);
  const bytes = new Uint8Array(signs.length);
  for (let n = 0; n < signs.length; n++) bytes[n] = signs.charCodeAt(n);
  return bytes;
}

/**
 * A file as a clip to edit: WAV and FLAC keep their bytes, anything else that the browser decodes
 * becomes WAV. Throws an Error in words for people.
 * @param {Blob} file
 * @param {string} name  with its extension
 */
async function readClip(file, name) {
  const bytes = await file.arrayBuffer();
  const header = readHeader(bytes);
  let buffer;
  try {
    buffer = await decode(bytes, header?.rate ?? DECODED_RATE);
  } catch {
    throw new Error(
      `${name} cannot be read as sound. WAV and FLAC always can; MP3, M4A and OGG in most browsers.`,
    );
  }
  const facts = header
    ? [header.kind, rateInWords(header.rate), channelsInWords(header.channels), `${header.bits} bit`]
    : [rateInWords(buffer.sampleRate), channelsInWords(buffer.numberOfChannels), "turned into WAV here"];
  const sound = examine(buffer);
  return {
    name,
    stem: name.replace(/\.[^.]*$/, "") || "clip",
    upload: header ? file : encodeWav(buffer, sound.peak),
    // The result has the depth of the source: 16 bits, or 24 where there were more.
    format: header && header.bits > 16 ? "wav24" : "wav",
    facts: inOneLine([`${buffer.duration.toFixed(1)} s`, ...facts]),
    seed: null, // the last one, kept so that takes compare and the server shares work among them
    ...sound,
  };
}

// Where it has to break, it breaks after a dot.
const inOneLine = (facts) => facts.map((fact) => fact.replaceAll(" ", "\u00a0")).join("\u00a0· ");
const rateInWords = (rate) => `${+(rate / 1000).toFixed(2)} kHz`;
const channelsInWords = (channels) => ["mono", "stereo"][channels - 1] ?? `${channels} channels`;

// ---------------------------------------------------------------- measuring

/** What the page keeps of decoded sound: itself, its loudness, its peak and those of its columns. */
function examine(buffer) {
  return { buffer, loudness: loudness(buffer), ...peaks(buffer) };
}

/**
 * Integrated loudness, ITU-R BS.1770-4: K-weighted, gated, over all channels at weight 1. One channel
 * counts twice: both speakers play it.
 * @param {AudioBuffer} buffer
 * @returns {number} LUFS; -Infinity for silence
 */
export function loudness(buffer) {
  const rate = buffer.sampleRate;
  // Blocks of 400 ms that overlap by three quarters; what is shorter is one block.
  const hop = Math.max(1, Math.round(rate / 10));
  const hops = Math.max(1, Math.floor(buffer.length / hop));
  const speakers = buffer.numberOfChannels === 1 ? 2 : 1; // a channel
  const energies = new Float64Array(hops); // of all channels, summed over each hop
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const weighted = kWeighted(buffer.getChannelData(channel), rate);
    for (let n = 0; n < Math.min(weighted.length, hops * hop); n++) {
      energies[Math.floor(n / hop)] += speakers * weighted[n] ** 2;
    }
  }
  const width = Math.min(4, hops);
  const blocks = [];
  for (let first = 0; first + width <= hops; first++) {
    const energy = energies.subarray(first, first + width).reduce((sum, each) => sum + each, 0);
    blocks.push(energy / Math.min(width * hop, buffer.length));
  }
  const level = (power) => -0.691 + 10 * Math.log10(power);
  const mean = (powers) => powers.reduce((sum, each) => sum + each, 0) / powers.length;
  const audible = blocks.filter((power) => level(power) > -70);
  if (!audible.length) return -Infinity;
  const gate = level(mean(audible)) - 10;
  return level(mean(audible.filter((power) => level(power) > gate)));
}

/**
 * The two filters of BS.1770-4 (a shelf for the head, a high pass), at any rate: the analogue
 * prototypes whose bilinear transforms at 48 kHz are the coefficients that the standard prints.
 * @param {Float32Array} samples
 * @param {number} rate  Hz
 * @returns {Float64Array}
 */
function kWeighted(samples, rate) {
  const shelf = (() => {
    const k = Math.tan((Math.PI * 1681.974450955533) / rate);
    const q = 0.7071752369554196;
    const high = 10 ** (3.999843853973347 / 20);
    const band = high ** 0.4996667741545416;
    const a0 = 1 + k / q + k * k;
    return {
      b: [(high + (band * k) / q + k * k) / a0, (2 * (k * k - high)) / a0, (high - (band * k) / q + k * k) / a0],
      a: [(2 * (k * k - 1)) / a0, (1 - k / q + k * k) / a0],
    };
  })();
  const highPass = (() => {
    const k = Math.tan((Math.PI * 38.13547087602444) / rate);
    const q = 0.5003270373238773;
    const a0 = 1 + k / q + k * k;
    return { b: [1, -2, 1], a: [(2 * (k * k - 1)) / a0, (1 - k / q + k * k) / a0] };
  })();
  const out = Float64Array.from(samples);
  for (const { b, a } of [shelf, highPass]) {
    let s1 = 0; // transposed direct form II
    let s2 = 0;
    for (let n = 0; n < out.length; n++) {
      const x = out[n];
      const y = b[0] * x + s1;
      s1 = b[1] * x - a[0] * y + s2;
      s2 = b[2] * x - a[1] * y;
      out[n] = y;
    }
  }
  return out;
}

/**
 * Gains that make A and B equally loud. The louder one is turned down, so nothing clips.
 * @param {number} a  LUFS
 * @param {number} b  LUFS
 * @returns {{a: number, b: number}} decibels, 0 or less
 */
function matchingGains(a, b) {
  if (!Number.isFinite(a) || !Number.isFinite(b)) return { a: 0, b: 0 }; // silence has no loudness
  return { a: Math.min(0, b - a), b: Math.min(0, a - b) };
}

/** The largest absolute sample, and as a share of it that of each of PEAKS columns. */
function peaks(buffer) {
  const columns = new Float32Array(PEAKS);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let n = 0; n < samples.length; n++) {
      const column = Math.floor((n * PEAKS) / samples.length);
      const size = Math.abs(samples[n]);
      if (size > columns[column]) columns[column] = size;
    }
  }
  const peak = columns.reduce((largest, each) => Math.max(largest, each), 0);
  return { peak, peaks: columns.map((each) => each / (peak || 1)) };
}

// ---------------------------------------------------------------- the gateway

// Fields of the gateway whose input has another name here, or whose complaints stand at another.
const INPUTS = { custom_prompt: "prompt", end: "start", loudness: "lufs" };

/** A refusal or a failed edit. `field`: the input that it is about, where the text names one. */
class EditError extends Error {
  constructor(message) {
    const [, name, rest] = /^(audio|prompt|custom_prompt|seed|start|end|loudness|duration): (.*)$/s.exec(message) ?? [];
    const text = rest ?? message;
    super(text.charAt(0).toUpperCase() + text.slice(1));
    this.field = INPUTS[name] ?? name ?? null;
  }
}

/** The words for an answer that is no stream. @param {Response} answer */
async function refusal(answer) {
  const body = await answer.json().catch(() => ({}));
  const wait = Number(answer.headers.get("Retry-After"));
  const known = {
    401: "Your sign-in has ended. Reload the page to sign in again; takes not downloaded are lost.",
    413: "audio: this file is larger than the server takes; as FLAC it is smaller.",
    429: "The server is busy with others.",
    503: "The music server cannot be reached.",
  };
  const said = typeof body.error === "string" ? body.error : null;
  const message = ([401, 413].includes(answer.status) ? null : said) ?? known[answer.status] ?? `The server answered ${answer.status}.`;
  return new EditError(wait > 0 ? `${message} Try again in ${wait} s.` : message);
}

async function getJson(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  const body = await answer.json();
  return { ok: answer.ok, body };
}

/** The lines of a stream of bytes, without their ends. */
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let pieces = []; // of the line that has not ended: the result is one line of many megabytes
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const [rest, ...further] = value.split("\n");
    pieces.push(rest);
    for (const piece of further) {
      yield pieces.join("").replace(/\r$/, "");
      pieces = [piece];
    }
  }
}

/**
 * Asks for one edit and yields its server-sent events. EventSource cannot send a file.
 * @param {FormData} form
 * @param {AbortSignal} signal  aborting cancels the edit on the server
 */
async function* editEvents(form, signal) {
  let answer;
  try {
    answer = await fetch("transform/stream", { method: "POST", body: form, signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new EditError("The server does not answer. Is it still running?");
  }
  if (!answer.ok) throw await refusal(answer);
  let event = "message";
  let data = [];
  for await (const line of lines(answer.body)) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    else if (line === "" && data.length) {
      yield { event, data: JSON.parse(data.join("\n")) };
      event = "message";
      data = [];
    }
  }
}

// ---------------------------------------------------------------- listening

/**
 * Plays A and B in step and lets one of them be heard: switching changes gains, so the position is
 * kept to the sample.
 */
class Player {
  #context = null;
  #voices = { a: null, b: null }; // {buffer, gain: linear, fader, source}
  #side = "a";
  #loop = true;
  #playing = false;
  #offset = 0; // seconds into the clip at ...
  #since = 0; // ... this time of the context
  onchange = () => {};

  get side() { return this.#side; }
  get loop() { return this.#loop; }
  get playing() { return this.#playing; }
  get duration() { return (this.#voices.a ?? this.#voices.b)?.buffer.duration ?? 0; }

  /** Seconds into the clip. */
  get position() {
    return this.#playing ? this.#positionAt(this.#context.currentTime) : this.#offset;
  }

  #positionAt(time) {
    const at = this.#offset + Math.max(0, time - this.#since);
    return this.#loop ? at % this.duration : Math.min(at, this.duration);
  }

  /**
   * What is A or B from now on; position and side stay.
   * @param {"a" | "b"} side
   * @param {AudioBuffer | null} buffer
   */
  load(side, buffer) {
    this.#silence(this.#voices[side]);
    this.#voices[side] = buffer && { buffer, gain: 1, fader: null, source: null };
    if (!this.#voices[this.#side]) this.#side = this.#voices.b ? "b" : "a";
    if (this.#playing) this.#start(side, this.#context.currentTime + START_SECONDS);
    this.onchange();
  }

  /** Gains in decibels that make both equally loud. */
  level(gains) {
    for (const side of ["a", "b"]) {
      if (this.#voices[side]) this.#voices[side].gain = 10 ** (gains[side] / 20);
    }
    this.#fade();
  }

  hear(side) {
    if (!this.#voices[side]) return;
    this.#side = side;
    this.#fade();
    this.onchange();
  }

  async play() {
    if (!this.duration) return;
    this.#context ??= new AudioContext();
    await this.#context.resume();
    this.stop();
    if (this.#offset >= this.duration) this.#offset = 0;
    this.#playing = true;
    this.#since = this.#context.currentTime + START_SECONDS;
    this.#start("a", this.#since);
    this.#start("b", this.#since);
    this.onchange();
  }

  stop() {
    if (!this.#playing) return;
    this.#offset = this.position;
    this.#playing = false;
    this.#silence(this.#voices.a);
    this.#silence(this.#voices.b);
    this.onchange();
  }

  seek(seconds) {
    const playing = this.#playing;
    this.stop();
    this.#offset = Math.max(0, Math.min(seconds, this.duration));
    if (playing) this.play();
    else this.onchange();
  }

  setLoop(loop) {
    if (this.#playing) {
      const now = this.#context.currentTime;
      this.#offset = this.#positionAt(now);
      this.#since = now;
    }
    this.#loop = loop;
    for (const voice of Object.values(this.#voices)) if (voice?.source) voice.source.loop = loop;
    this.onchange();
  }

  #start(side, time) {
    const voice = this.#voices[side];
    if (!voice) return;
    voice.fader = new GainNode(this.#context, { gain: side === this.#side ? voice.gain : 0 });
    voice.source = new AudioBufferSourceNode(this.#context, { buffer: voice.buffer, loop: this.#loop });
    voice.source.connect(voice.fader).connect(this.#context.destination);
    if (side === "a" || !this.#voices.a) {
      const source = voice.source;
      source.onended = () => {
        if (voice.source === source) this.stop();
      };
    }
    voice.source.start(time, this.#positionAt(time));
  }

  #silence(voice) {
    if (!voice?.source) return;
    const { source, fader } = voice;
    voice.source = null;
    source.stop();
    source.disconnect();
    fader.disconnect();
  }

  #fade() {
    for (const [side, voice] of Object.entries(this.#voices)) {
      const wanted = side === this.#side ? voice?.gain : 0;
      voice?.fader?.gain.setTargetAtTime(wanted, this.#context.currentTime, SWITCH_SECONDS / 3);
    }
  }
}

// ---------------------------------------------------------------- drawing

/**
 * A waveform as bars on its canvas, what has been played in full colour.
 * @param {HTMLCanvasElement} canvas  drawn in its CSS colour and size
 * @param {Float32Array | null} columns  as `peaks` gives them
 * @param {number} played  0 to 1
 * @param {[number, number] | null} part  0 to 1, marked; null: there is none
 */
function drawWave(canvas, columns, played, part = null) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  if (!columns || !width) return;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.fillStyle = getComputedStyle(canvas).color;
  const bars = Math.floor(width / 3);
  for (let bar = 0; bar < bars; bar++) {
    const first = Math.floor((bar * columns.length) / bars);
    const last = Math.max(first + 1, Math.floor(((bar + 1) * columns.length) / bars));
    const size = Math.max(2, columns.subarray(first, last).reduce((a, b) => Math.max(a, b), 0) * height);
    const outside = part && (bar + 0.5 < part[0] * bars || bar + 0.5 > part[1] * bars);
    pen.globalAlpha = (bar / bars < played ? 1 : 0.45) * (outside ? 0.5 : 1);
    pen.fillRect(bar * 3, (height - size) / 2, 2, size);
  }
  if (part) {
    const [left, right] = part.map((share) => share * width);
    pen.globalAlpha = 0.15;
    pen.fillRect(left, 0, right - left, height);
    pen.globalAlpha = 1;
    for (const edge of [left, right - 2]) pen.fillRect(Math.max(0, edge), 0, 2, height);
  }
  pen.globalAlpha = 1;
  if (played > 0 && played < 1) pen.fillRect(Math.min(played * width, width - 1), 0, 1, height);
}

// ---------------------------------------------------------------- the page

const player = new Player();
const state = {
  clip: null, // null: takes are made from nothing
  putAway: null, // a clip that was A before
  take: null, // the one that is B
  takes: [], // newest first: running, done and failed
  limits: {}, // of the server, by the names of its settings; null: it does not say
  fields: {}, // by name: {lowest, highest} under those limits
  presets: {}, // by name: {prompt, flowstep, category}
  families: new Map(), // category -> names of its variations
  variation: "",
  six: [],
  session: null, // the gateway names it with the first edit
  strengthTouched: false,
  recorder: null,
};

/** strings_quartet -> Strings quartet */
function inWords(name) {
  const words = name.replaceAll("_", " ").replace(/\b(edm|rpg)\b/, (letters) => letters.toUpperCase());
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const announce = (text) => { $("announcer").textContent = text; };

function clock(seconds) {
  const tenths = Math.floor(seconds * 10);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

/** Shows an error where it belongs, or takes it away. Tells whether it can be seen there. */
function complain(field, text) {
  const place = $(field === "audio" ? "clip-error" : `${field}-error`);
  place.textContent = text;
  place.hidden = !text;
  const input = field === "audio" ? null : $(field);
  if (text) input?.setAttribute("aria-invalid", "true");
  else input?.removeAttribute("aria-invalid");
  return place.checkVisibility();
}

// ------------------------------------------------ the clip

async function takeClip(file, name = file.name) {
  complain("audio", "");
  try {
    setClip(await readClip(file, name));
  } catch (error) {
    complain("audio", error.message);
    return;
  }
  makeB(null);
  announce(`${name} is ready.`);
}

/** Makes a clip A, or takes it away: null. */
function setClip(clip) {
  player.stop();
  player.seek(0);
  if (state.clip && !clip) state.putAway = state.clip;
  state.clip = clip;
  document.body.classList.toggle("nothing", !clip);
  $("stage").classList.toggle("filled", Boolean(clip));
  $("invitation").hidden = Boolean(clip);
  $("put-away").hidden = !clip && !state.putAway;
  $("put-away").textContent = clip ? "×" : `Back to ${state.putAway?.name}`;
  $("put-away").ariaLabel = clip ? "Put the clip away" : null;
  $("name-a").textContent = clip?.name ?? "Your clip";
  $("facts-a").textContent = clip?.facts ?? "";
  $("end").placeholder = clip?.buffer.duration.toFixed(2) ?? "";
  player.load("a", clip?.buffer ?? null);
  choosePart(0, Infinity);
}

/** Makes a take B, and its clip A where that is another one, or none; null: there is no B yet. */
async function makeB(take) {
  if (take && take.clip !== state.clip) setClip(take.clip);
  state.take = take;
  let gains = { a: 0, b: 0 };
  if (take) {
    const buffer = await decodeResult(await take.file.arrayBuffer());
    if (state.take !== take) return;
    player.load("b", buffer);
    if (take.clip) gains = matchingGains(take.clip.loudness, take.loudness);
  } else {
    player.load("b", null);
  }
  player.level(gains);
  const lower = gains.a < 0 ? `A ${(-gains.a).toFixed(1)} dB` : `B ${(-gains.b).toFixed(1)} dB`;
  $("stage-note").textContent = take?.clip ? `Both are played at equal loudness (BS.1770): ${lower} lower.` : "";
  $("name-b").textContent = take ? take.title : "The take";
  $("facts-b").textContent = take ? take.facts : "";
  $("hear-b-name").textContent = take ? take.title : "Take";
  $("hear-b").disabled = !take;
  showTakes();
  showListening();
}

async function record() {
  if (state.recorder) {
    state.recorder.stop();
    return;
  }
  complain("audio", "");
  if (!navigator.mediaDevices) {
    complain("audio", "Recording needs https, or the page on localhost: browsers give no microphone to others.");
    return;
  }
  let microphone;
  try {
    // What helps speech harms music.
    microphone = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    const denied = error.name === "NotAllowedError";
    complain("audio", denied ? "The browser was not allowed to use the microphone." : "No microphone was found.");
    return;
  }
  const pcm = "audio/webm;codecs=pcm"; // without loss, where the browser has it
  const recorder = new MediaRecorder(microphone, {
    ...(MediaRecorder.isTypeSupported(pcm) && { mimeType: pcm }),
    audioBitsPerSecond: 256000,
  });
  const pieces = [];
  const started = performance.now();
  const ticking = setInterval(() => {
    $("record").textContent = `Stop  ${clock((performance.now() - started) / 1000)}`;
  }, 100);
  recorder.ondataavailable = (event) => pieces.push(event.data);
  recorder.onstop = () => {
    clearInterval(ticking);
    for (const track of microphone.getTracks()) track.stop();
    state.recorder = null;
    $("record").textContent = "Record";
    $("record").classList.remove("recording");
    takeClip(new Blob(pieces, { type: recorder.mimeType }), "recording.wav");
  };
  state.recorder = recorder;
  $("record").classList.add("recording");
  player.stop();
  recorder.start();
}

// ------------------------------------------------ what it should become

const OWN = "custom";

function showLibrary() {
  for (const [name, { category = "others" }] of Object.entries(state.presets)) {
    state.families.set(category, [...(state.families.get(category) ?? []), name]);
  }
  const families = [...state.families.keys()];
  const buttons = [...families, OWN].map((family) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = family === OWN ? "Your own words" : inWords(family);
    button.addEventListener("click", () => chooseFamily(family));
    button.dataset.family = family;
    return button;
  });
  $("families").replaceChildren(...buttons);
  chooseFamily(families[0] ?? OWN);
}

function chooseFamily(family) {
  for (const button of $("families").children) {
    button.setAttribute("aria-pressed", String(button.dataset.family === family));
  }
  $("own").hidden = family !== OWN;
  $("variations").hidden = family === OWN;
  if (family === OWN) {
    state.variation = OWN;
    showForm();
    return;
  }
  const names = state.families.get(family);
  const choices = names.map((name) => {
    const label = document.createElement("label");
    label.className = "variation";
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "variation", value: name, checked: name === state.variation });
    input.addEventListener("change", () => chooseVariation(name));
    const title = document.createElement("strong");
    title.textContent = inWords(name);
    const prompt = document.createElement("span");
    prompt.textContent = state.presets[name].prompt;
    label.append(input, title, prompt);
    return label;
  });
  $("variations").replaceChildren($("variations").firstElementChild, ...choices);
  if (state.variation === OWN || !state.variation) {
    choices[0].querySelector("input").checked = true;
    chooseVariation(names[0]);
  }
}

function chooseVariation(name) {
  state.variation = name;
  if (!state.strengthTouched) {
    $("strength").value = 1 - state.presets[name].flowstep;
    showStrength();
  }
  showForm();
}

// What a strength below the number does, in words.
const STRENGTHS = [
  [0.845, "keep most of it"],
  [0.87, "keep a lot"],
  [0.9, "an even balance"],
  [0.93, "change a lot"],
  [0.96, "change most of it"],
  [Infinity, "almost a new piece"],
];

function showStrength() {
  const strength = Number($("strength").value);
  const [, words] = STRENGTHS.find(([below]) => strength < below);
  $("strength-words").textContent = words;
  $("strength").setAttribute("aria-valuetext", `${words}, ${strength.toFixed(3)}`);
  $("strength-number").textContent =
    `Strength ${strength.toFixed(3)}, flowstep ${(1 - strength).toFixed(3)}. Small steps matter; the marks bound the useful range.`;
}

function drawSix() {
  // One of each of six families, so that they differ.
  const anyOf = (list) => list[Math.floor(Math.random() * list.length)];
  const shuffled = [...state.families.values()].sort(() => Math.random() - 0.5);
  state.six = shuffled.slice(0, SWEEP).map(anyOf);
  const others = Object.keys(state.presets).filter((name) => !state.six.includes(name));
  while (state.six.length < SWEEP && others.length) {
    state.six.push(others.splice(Math.floor(Math.random() * others.length), 1)[0]);
  }
  $("six-names").replaceChildren(
    ...state.six.map((name) => Object.assign(document.createElement("li"), { textContent: inWords(name) })),
  );
}

function showForm() {
  const { clip } = state;
  const part = partOf();
  const named = state.variation && state.variation !== OWN;
  $("make").textContent = named ? `Make “${inWords(state.variation)}”` : "Make it";
  for (const id of ["make", "new-take", "try-six", "make-takes"]) $(id).disabled = !Object.keys(state.presets).length;
  $("go-note").textContent = clip ? "The same again with another seed." : "There is no clip: this makes music from nothing.";
  $("loop").disabled = Boolean(part);
  if (part) $("loop").checked = false;
  $("loop-note").textContent = part ? "Not with a part: a loop is the whole clip." : "Its takes repeat without a seam.";
  $("lufs").hidden = $("loudness").value !== "lufs";
  $("make-takes").textContent = `Make ${$("count").value} takes`;
  const kept = clip?.seed;
  $("seed").placeholder = kept ?? "any";
  $("seed-note").textContent =
    kept == null
      ? "The same number plays the same take again."
      : "Left empty, the last one is kept, so that takes compare.";
}

/** Seconds that a part has at least. */
const shortest = () => state.limits.min_seconds ?? 0;

/** The part that is to change, in seconds, as its fields say; null: the whole clip. */
function partOf() {
  const [start, end] = ["start", "end"].map((id) => $(id).value);
  if (!state.clip || (!start && !end)) return null;
  return { start: Number(start), end: end ? Number(end) : state.clip.buffer.duration };
}

/** Writes a part into its fields; what ends with the clip is left empty there. */
function choosePart(one, other) {
  const duration = state.clip?.buffer.duration ?? 0;
  const start = Math.max(0, Math.min(one, other, duration - shortest()));
  const end = Math.max(one, other, start + shortest() + 0.01); // it is rounded to hundredths
  $("start").value = start > 0 ? start.toFixed(2) : "";
  $("end").value = end < duration ? end.toFixed(2) : "";
  showPart();
}

function showPart() {
  complain("start", "");
  showForm();
  showPosition();
}

/** A part as shares of its clip, for drawing; null for none. */
function sharesOf(part) {
  return part?.start < part?.end ? [part.start, part.end].map((at) => Math.min(1, at / player.duration)) : null;
}

// ------------------------------------------------ takes

/** Whether the number in a field is one that can be asked for; complains where it is not. */
function isTyped(id, what) {
  const { value, min, max } = $(id);
  const good = value !== "" && $(id).checkValidity();
  complain(id, good ? "" : `${what}${min && max ? ` from ${min} to ${max}` : ""}.`);
  if (!good) {
    $(id).closest("details")?.setAttribute("open", "");
    $(id).focus();
    readLimits();
  }
  return good;
}

/** The same of the fields of the part, which may be empty. */
function isPartTyped() {
  const part = partOf();
  const duration = state.clip?.buffer.duration;
  const numbers = ["start", "end"].every((id) => $(id).checkValidity());
  const good = numbers && (!part || (part.end - part.start > shortest() - 1e-6 && part.end < duration + 0.01));
  complain("start", good ? "" : `A part has ${shortest()} s at least, and lies within the clip's ${duration?.toFixed(2)} s.`);
  if (!good) {
    readLimits();
    $("start").focus();
  }
  return good;
}

/** The seed that was typed, null for none; undefined, with a complaint shown, where it is no seed. */
function typedSeed() {
  const text = $("seed").value.trim();
  if (!text) return null;
  const { highest } = state.fields.seed;
  if (/^\d+$/.test(text) && Number(text) <= highest) return Number(text);
  complain("seed", `A seed is a whole number from 0 to ${highest}; leave it empty for any.`);
  $("seed").focus();
  return undefined;
}

/** What is asked for, from the form; undefined, with a complaint shown, where it cannot be asked. */
function readForm() {
  complain("seed", "");
  complain("prompt", "");
  complain("audio", "");
  const typed = typedSeed();
  if (typed === undefined) return undefined;
  const { clip } = state;
  if (clip ? !isPartTyped() : !isTyped("duration", "A number of seconds")) return undefined;
  let loudness = $("loudness").value;
  if (loudness === "lufs") {
    if (!isTyped("lufs", "A number")) return undefined;
    loudness = $("lufs").value;
  }
  const seed = typed ?? clip?.seed ?? drawSeed();
  if (!clip) return { clip, seed, duration: Number($("duration").value), loudness: loudness === "source" ? "none" : loudness };
  clip.seed = seed;
  return { clip, seed, strength: Number($("strength").value), part: partOf(), loop: $("loop").checked, loudness };
}

/** The seed so many after another one; after the highest comes 0. */
const seedAfter = (seed, count) => (seed + count) % (state.fields.seed.highest + 1);
const drawSeed = () => seedAfter(crypto.getRandomValues(new Uint32Array(1))[0], 0);

/** The same with what it should become. */
function readOne() {
  const asked = readForm();
  if (!asked) return undefined;
  const own = state.variation === OWN;
  const prompt = $("prompt").value.trim();
  if (own && !prompt) {
    complain("prompt", "Write what it should become.");
    $("prompt").focus();
    return undefined;
  }
  return { ...asked, variation: state.variation, prompt: own ? prompt : null };
}

function makeOne() {
  const asked = readOne();
  if (!asked) return;
  run(addTake(asked));
  showForm();
}

function makeNewTake() {
  $("seed").value = "";
  if (state.clip) state.clip.seed = null;
  makeOne();
}

function makeTakes() {
  const asked = readOne();
  if (!asked) return;
  const seeds = Array.from({ length: Number($("count").value) }, (_, n) => seedAfter(asked.seed, n));
  makeSeveral(seeds.map((seed) => ({ ...asked, seed, named: `${asked.variation}-${seed}` })));
}

function makeSix() {
  const asked = readForm();
  if (!asked) return;
  makeSeveral(
    state.six.map((variation) => {
      const own = 1 - state.presets[variation].flowstep;
      const strength = state.strengthTouched ? asked.strength : own;
      return { ...asked, strength, variation, prompt: null };
    }),
  );
}

/** Several takes, behind single ones of others in the server's queue. */
async function makeSeveral(wanted) {
  const takes = wanted.reverse().map((asked) => addTake({ ...asked, priority: 3 })).reverse(); // the newest stand first
  showForm();
  const waiting = takes.values();
  const work = async () => {
    for (const take of waiting) if (take.state === "running") await run(take);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
}

function addTake(asked) {
  const row = $("take").content.firstElementChild.cloneNode(true);
  const take = {
    ...asked,
    row,
    state: "running",
    title: asked.prompt ?? inWords(asked.variation),
    abort: new AbortController(),
    stage: "",
  };
  const on = (selector, action) => row.querySelector(selector).addEventListener("click", action);
  row.querySelector(".title strong").textContent = take.title;
  row.querySelector(".title small").textContent = choicesOf(take).join(" · ");
  row.querySelector(".reuse").textContent = `seed ${take.seed}`;
  row.querySelector(".compare").hidden = !take.clip;
  row.querySelector("progress").setAttribute("aria-label", take.title);
  on(".cancel", () => cancel(take));
  on(".dismiss", () => removeTake(take));
  on(".again", () => {
    take.state = "running";
    take.abort = new AbortController();
    showTake(take);
    run(take);
  });
  on(".listen", () => listen(take));
  on(".compare", () => compare(take));
  on(".reuse", () => {
    $("seed").value = take.seed;
    $("seed").focus();
  });
  state.takes.unshift(take);
  $("takes").prepend(row);
  showTake(take);
  return take;
}

/** What was chosen for a take, in words. */
function choicesOf({ clip, duration, strength, part, loop }) {
  if (!clip) return [`${duration} s from nothing`];
  const words = [`strength ${+strength.toFixed(3)}`];
  if (part) words.push(`${part.start.toFixed(2)} to ${part.end.toFixed(2)} s`);
  if (loop) words.push("a loop");
  return words;
}

function formOf(take) {
  const { clip, part } = take;
  const form = new FormData();
  const set = (name, value) => value != null && form.set(name, String(value));
  if (clip) {
    form.set("audio", clip.upload, clip.name);
    set("strength", take.strength.toFixed(3));
    // Beside a part the samples stay as they are, also those above full scale.
    set("format", part && clip.peak > 1 ? "wav32f" : clip.format);
    if (take.loop) set("loop", true);
  }
  set("start", part?.start);
  if (part && part.end < clip.buffer.duration) set("end", part.end);
  set("duration", take.duration);
  set("variation", take.variation);
  set("custom_prompt", take.prompt);
  set("seed", take.seed);
  set("loudness", take.loudness);
  set("priority", take.priority);
  set("session_id", state.session);
  return form;
}

const STAGES = {
  encoding: "listening to your clip",
  inverting: "taking it apart",
  generating: "playing it anew",
  decoding: "writing it down",
};

const AWAY = "The server is restarting; your edit continues when it's back.";

/** One edit from the request to its end. Never throws: what goes wrong is shown at the take. */
async function run(take) {
  try {
    for await (const { event, data } of editEvents(formOf(take), take.abort.signal)) {
      if (event === "queued") showQueued(take, data);
      else if (event === "progress") showProgress(take, data);
      else if (event === "error") throw new EditError(data.error);
      else if (event === "result") await finish(take, data);
    }
    if (take.state === "running") throw new EditError("The connection ended before the take was ready.");
  } catch (error) {
    if (!take.abort.signal.aborted) fail(take, error);
  }
}

function showQueued(take, { session_id: session, position, estimated_seconds: seconds, warming }) {
  state.session ??= session;
  if (warming) {
    take.row.querySelector(".doing").textContent = AWAY;
    if (take.stage !== "warming") announce(`${take.title}: ${AWAY}`);
    take.stage = "warming";
    return;
  }
  const parts = ["waiting"];
  if (position > 0) parts.push(`${position} ahead`);
  if (seconds > 0) parts.push(`about ${Math.ceil(seconds)} s`);
  take.row.querySelector(".doing").textContent = parts.join(", ");
}

function showProgress(take, { progress, stage }) {
  const words = STAGES[stage] ?? stage;
  take.row.querySelector("progress").value = progress;
  take.row.querySelector(".doing").textContent = `${words}, ${Math.floor(progress)} %`;
  if (stage !== take.stage) announce(`${take.title}: ${words}`);
  take.stage = stage;
}

/** What was done to a result's level beyond what was asked for, in words. */
function levelsOf({ gain_db: gain, info }) {
  if (info?.loudness?.limited_by) return ["quieter than asked for: its peak is at -1 dBTP"];
  const unclipped = gain - (info?.loudness?.gain_db ?? 0);
  return unclipped < -0.05 ? [`turned down ${(-unclipped).toFixed(1)} dB so that it does not clip`] : [];
}

async function finish(take, data) {
  const bytes = fromBase64(data.audio);
  const { loudness: measured, peaks: columns } = examine(await decodeResult(bytes.buffer));
  Object.assign(take, {
    state: "done",
    file: new Blob([bytes], { type: "audio/wav" }),
    loudness: measured,
    peaks: columns,
    facts: inOneLine([...choicesOf(take), `seed ${take.seed}`]),
  });
  if (data.info?.checkpoint) showCheckpoint(data.info.checkpoint);
  const row = take.row;
  const save = row.querySelector(".save");
  save.href = URL.createObjectURL(take.file);
  save.download = `${take.clip?.stem ?? "new"}-${take.named ?? take.variation}.wav`;
  save.setAttribute("aria-label", `Download ${take.title}`);
  row.querySelector(".title small").textContent = [...choicesOf(take), ...levelsOf(data)].join(" · ");
  showTake(take);
  showForm();
  announce(`${take.title} is ready.`);
  // What is being listened to stays, and so does another clip; otherwise the newest take is the next
  // to hear.
  if (!player.playing && take.clip === state.clip) {
    await makeB(take);
    player.hear("b");
  }
}

function fail(take, error) {
  const expected = error instanceof EditError;
  if (!expected) console.error(error);
  const text = expected ? error.message : "This take could not be read.";
  announce(`${take.title} failed: ${text}`);
  if (error.field && complain(error.field, text)) {
    removeTake(take);
    return;
  }
  take.state = "failed";
  take.row.querySelector(".failed .error").textContent = text;
  showTake(take);
}

function cancel(take) {
  take.state = "cancelled";
  take.abort.abort();
  announce(`${take.title} is cancelled.`);
  removeTake(take);
}

function removeTake(take) {
  const focused = take.row.contains(document.activeElement);
  state.takes.splice(state.takes.indexOf(take), 1);
  take.row.remove();
  if (focused) $("make").focus();
  showTakes();
}

function showTake(take) {
  for (const name of ["running", "done", "failed"]) take.row.querySelector(`.${name}`).hidden = take.state !== name;
  if (take.state === "done") drawWave(take.row.querySelector("canvas"), take.peaks, 1);
  showTakes();
}

function showTakes() {
  $("no-takes").hidden = state.takes.length > 0;
  $("cancel-all").hidden = state.takes.filter((take) => take.state === "running").length < 2;
  for (const take of state.takes) {
    const current = take === state.take;
    take.row.classList.toggle("current", current);
    const heard = current && player.playing && player.side === "b";
    take.row.querySelector(".listen").textContent = heard ? "Pause" : "Play";
    take.row.querySelector(".compare").setAttribute("aria-pressed", String(current && player.side === "b"));
  }
}

async function listen(take) {
  if (take === state.take && player.playing && player.side === "b") {
    player.stop();
    return;
  }
  if (take !== state.take) await makeB(take);
  player.hear("b");
  if (!player.playing) await player.play();
}

async function compare(take) {
  const other = take !== state.take || player.side === "a" ? "b" : "a";
  if (take !== state.take) await makeB(take);
  player.hear(other);
}

// ------------------------------------------------ listening

function showListening() {
  $("transport").classList.toggle("playing", player.playing);
  $("play-label").textContent = player.playing ? "Pause" : "Play";
  $("transport").hidden = !player.duration;
  $("hear-a").disabled = !state.clip;
  $("repeat").setAttribute("aria-pressed", String(player.loop));
  for (const side of ["a", "b"]) {
    $(`hear-${side}`).setAttribute("aria-pressed", String(player.side === side));
    $(`part-${side}`).classList.toggle("heard", player.side === side);
  }
  showTakes();
  showPosition();
}

let frame = 0;

function showPosition() {
  const { position, duration } = player;
  const played = duration ? position / duration : 0;
  drawWave($("wave-a"), state.clip?.peaks, played, sharesOf(partOf()));
  drawWave($("wave-b"), state.take?.peaks, played, sharesOf(state.take?.part));
  $("position").max = duration;
  $("position").value = position;
  $("position").setAttribute("aria-valuetext", `${position.toFixed(1)} of ${duration.toFixed(1)} seconds`);
  $("time").textContent = `${clock(position)} / ${clock(duration)}`;
  cancelAnimationFrame(frame);
  if (player.playing) frame = requestAnimationFrame(showPosition);
}

const togglePlay = () => (player.playing ? player.stop() : player.play());

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !player.duration) return;
  const { target } = event;
  if (target.matches("textarea, select, input:not([type=range], [type=radio], [type=checkbox])")) return;
  if (event.key === "x" || event.key === "X") player.hear(player.side === "a" ? "b" : "a");
  else if (event.key === " " && !target.matches("button, a, input, summary")) togglePlay();
  else return;
  event.preventDefault();
}

// ------------------------------------------------ the server

/** Says which checkpoint makes the takes. @param {{name: string, licence: string}} checkpoint */
function showCheckpoint({ name, licence }) {
  $("server").textContent = `${name} · ${licence === "unknown" ? "licence unknown" : licence}`;
  const restricted = /\bNC\b/.test(licence) ? " No commercial use." : "";
  $("licence").textContent = `Made with ${name}; the licence of its weights: ${licence}.${restricted}`;
}

/** Asks what the server accepts. Where something is refused here it is asked again: the server may
 * have been started anew with other limits. */
async function readLimits() {
  const { body } = await getJson("limits");
  const { limits, fields } = Object.assign(state, body);
  const bound = (id, { lowest, highest }) => Object.assign($(id), { min: lowest ?? "", max: highest ?? "" });
  bound("duration", fields.duration);
  bound("lufs", fields.loudness);
  $("lufs-label").textContent = `LUFS, from ${fields.loudness.lowest} to ${fields.loudness.highest}`;
  if (limits.max_prompt_characters) $("prompt").maxLength = limits.max_prompt_characters;
  else $("prompt").removeAttribute("maxlength");
}

async function meetServer() {
  try {
    const [health, variations] = await Promise.all([getJson("health"), getJson("variations"), readLimits()]);
    state.presets = variations.body.variations;
    // Where the gateway cannot tell the checkpoint, the first take does.
    if (health.ok && health.body.checkpoint) showCheckpoint(health.body.checkpoint);
    else $("server").textContent = health.ok ? "Ready." : "The music server is not ready yet.";
    if (!$("families").children.length) {
      showLibrary();
      drawSix();
      showForm();
    }
    if (health.ok) return;
  } catch {
    $("server").textContent = "The server does not answer.";
  }
  setTimeout(meetServer, 5000);
}

// ------------------------------------------------ wiring

function takeChosen() {
  const [file] = $("file").files;
  $("file").value = ""; // the same file can be chosen again
  if (file) takeClip(file);
}
$("file").addEventListener("change", takeChosen);
$("record").addEventListener("click", record);
$("put-away").addEventListener("click", () => {
  setClip(state.clip ? null : state.putAway);
  makeB(null);
});
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (!file) return; // text dropped into a field
  event.preventDefault();
  takeClip(file);
});

$("strength").addEventListener("input", () => {
  state.strengthTouched = true;
  showStrength();
});
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("make").disabled) makeOne();
});
$("new-take").addEventListener("click", makeNewTake);
$("try-six").addEventListener("click", makeSix);
$("make-takes").addEventListener("click", makeTakes);
for (const id of ["count", "loudness"]) $(id).addEventListener("change", showForm);
for (const id of ["start", "end"]) $(id).addEventListener("input", showPart);
$("whole").addEventListener("click", () => choosePart(0, Infinity));
$("other-six").addEventListener("click", drawSix);
$("cancel-all").addEventListener("click", () => {
  for (const take of state.takes.filter((each) => each.state === "running")) cancel(take);
});

$("play").addEventListener("click", togglePlay);
$("repeat").addEventListener("click", () => player.setLoop(!player.loop));
$("position").addEventListener("input", ({ target }) => player.seek(Number(target.value)));
// Dragging over A chooses the part that changes; the click that follows a drag does nothing more.
const drag = { down: false, moved: false, from: 0, at: 0 }; // from: pixels, at: seconds
const secondsAt = ({ offsetX, target }) => (offsetX / target.clientWidth) * player.duration;
for (const side of ["a", "b"]) {
  $(`hear-${side}`).addEventListener("click", () => player.hear(side));
  $(`wave-${side}`).addEventListener("click", (event) => {
    if (side === "a" && drag.moved) return;
    player.seek(secondsAt(event));
    player.hear(side);
  });
}
$("wave-a").addEventListener("pointerdown", (event) => {
  Object.assign(drag, { down: Boolean(state.clip), moved: false, from: event.offsetX, at: secondsAt(event) });
  event.target.setPointerCapture(event.pointerId);
});
$("wave-a").addEventListener("pointermove", (event) => {
  if (!drag.down || (!drag.moved && Math.abs(event.offsetX - drag.from) < DRAG)) return;
  drag.moved = true;
  choosePart(drag.at, secondsAt(event));
});
for (const end of ["pointerup", "pointercancel"]) $("wave-a").addEventListener(end, () => { drag.down = false; });
document.addEventListener("keydown", onKey);
player.onchange = showListening;

const redraw = () => {
  showPosition();
  for (const take of state.takes) if (take.state === "done") showTake(take);
};
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

showStrength();
showForm();
meetServer();
takeChosen(); // a file may have been chosen before this script was there
