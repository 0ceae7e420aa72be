// @ts-check
// The server's variations: by family, and some to try.

/**
 * @typedef {{prompt: string, flowstep: number, category?: string}} Preset
 * @typedef {Record<string, Preset>} Presets  by name
 */

/**
 * The names of each family's variations, families in the order in which they appear.
 * @param {Presets} presets
 * @returns {Map<string, string[]>}
 */
export function familiesOf(presets) {
  /** @type {Map<string, string[]>} */
  const families = new Map();
  for (const [name, { category = "others" }] of Object.entries(presets)) {
    families.set(category, [...(families.get(category) ?? []), name]);
  }
  return families;
}

/**
 * Some variations that differ: of as many families as there are, none twice.
 * @param {Presets} presets
 * @param {number} count
 * @param {() => number} random  0 <= number < 1
 * @returns {string[]}
 */
export function drawSome(presets, count, random = Math.random) {
  const families = shuffled([...familiesOf(presets).values()], random);
  const drawn = families.slice(0, count).map((names) => shuffled(names, random)[0] ?? "");
  const others = Object.keys(presets).filter((name) => !drawn.includes(name));
  return [...drawn, ...shuffled(others, random).slice(0, count - drawn.length)];
}

/**
 * @template T
 * @param {readonly T[]} list
 * @param {() => number} random
 */
function shuffled(list, random) {
  return list
    .map((each) => ({ each, key: random() }))
    .sort((one, other) => one.key - other.key)
    .map(({ each }) => each);
}
