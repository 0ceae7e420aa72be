// @ts-check

import { element } from "./dom.js";

/**
 * Shows what is wrong with a field below it, or clears it ("").
 * @param {string} field  an input's id, or "audio" for the clip
 * @param {string} text
 * @returns {boolean}  whether it can be seen there
 */
export function complain(field, text) {
  const place = element(field === "audio" ? "clip-error" : `${field}-error`);
  place.textContent = text;
  place.hidden = !text;
  if (field !== "audio") {
    if (text) element(field).setAttribute("aria-invalid", "true");
    else element(field).removeAttribute("aria-invalid");
  }
  return place.checkVisibility();
}
