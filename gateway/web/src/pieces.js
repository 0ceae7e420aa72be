// @ts-check

/** Samples, or characters, that are worked through before the page may draw again: some 5 ms. */
export const PIECE = 1 << 19;

/** Lets the browser answer and draw in the middle of long work. */
export const breathe = () => new Promise((resolve) => setTimeout(resolve));
