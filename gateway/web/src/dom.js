// @ts-check

/**
 * The element with an id, which is of the given class. Throws where the page has none.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`#${id}: no ${type.name} on the page`);
  return found;
}

/**
 * The first element inside another one that matches. Throws where there is none.
 * @template {HTMLElement} T
 * @param {ParentNode} parent
 * @param {string} selector
 * @param {new () => T} type
 * @returns {T}
 */
export function find(parent, selector, type) {
  const found = parent.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`${selector}: no ${type.name}`);
  return found;
}

/** @param {string} id */
export const element = (id) => byId(id, HTMLElement);
/** @param {string} id */
export const button = (id) => byId(id, HTMLButtonElement);
/** @param {string} id */
export const input = (id) => byId(id, HTMLInputElement);
/** @param {string} id */
export const select = (id) => byId(id, HTMLSelectElement);

const TYPED = "textarea, select, input:not([type=range], [type=radio], [type=checkbox])";

/** Whether a key is typed into a field, or is the browser's. @param {KeyboardEvent} event */
export const isTyped = (event) =>
  event.ctrlKey ||
  event.metaKey ||
  event.altKey ||
  (event.target instanceof Element && event.target.matches(TYPED));

/** Tells a screen reader. @param {string} text */
export function announce(text) {
  element("announcer").textContent = text;
}
