/** The golden frames that the Python and the JS tests share. */

import { readFileSync } from "node:fs";

export const GOLDEN = JSON.parse(readFileSync(new URL("../frames.json", import.meta.url), "utf8"));

/** A text that may be written as pieces, or as [piece, times]. */
export function spelled(text) {
  if (!Array.isArray(text)) return text;
  return text.map((piece) => (typeof piece === "string" ? piece : piece[0].repeat(piece[1]))).join("");
}

/** Numbers in [0, 1), the same ones in each run. */
export function chance(seed) {
  return () => {
    seed = (seed * 1664525 + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
}
