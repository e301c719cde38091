/**
 * When to come back after a connection ended. Pure: time and chance are handed in.
 *
 * @typedef {import("./protocol.js").Move} Move
 */

import { nextMove } from "./protocol.js";

export const BASE_MS = 500;
export const CAP_MS = 30_000;
export const LATER_MS = 5_000; // at least, where we did too much or something wrong
export const STEADY_MS = 10_000; // a connection that held so long was a good one: the next wait is short again
export const LONGEST_MS = 300_000; // whatever a Retry-After says
export const RENEWALS = 3; // fresh tokens refused in a row: it is not the token
const PASSING = new Set([408, 425, 429]);

/** A connection ended, was not opened, or a request failed; `move` says what to do about it. */
export class Interrupted extends Error {
  /**
   * @param {Move} move
   * @param {string} code
   * @param {string} message safe to show
   * @param {{waitMs?: number | null, retryAfterMs?: number}} [hints] `waitMs`: asked for by the server, and spread already
   */
  constructor(move, code, message, { waitMs = null, retryAfterMs = 0 } = {}) {
    super(message);
    this.move = move;
    this.code = code;
    this.waitMs = waitMs;
    this.retryAfterMs = retryAfterMs;
  }
}

/** How one stream has fared so far. */
export class Backoff {
  #attempt = 0;
  #renewals = 0;

  /**
   * How long to wait, null for stay away.
   * @param {Interrupted} ended
   * @param {number} lastedMs
   * @param {number} random in [0, 1)
   * @returns {number | null}
   */
  waitMs(ended, lastedMs, random) {
    if (lastedMs >= STEADY_MS) this.reset();
    this.#renewals = ended.move === "renew" ? this.#renewals + 1 : 0;
    if (ended.move === "stay_away" || this.#renewals > RENEWALS) return null;
    if (ended.waitMs !== null) return ended.waitMs;
    const isLater = ended.move === "later";
    const ceilingMs = Math.min(CAP_MS, (isLater ? LATER_MS : BASE_MS) * 2 ** Math.min(this.#attempt, 16));
    this.#attempt += 1;
    return ceilingMs * random + (isLater ? LATER_MS : ended.retryAfterMs);
  }

  /** Begin anew: somebody is here and waits, or the network is another one. */
  reset() {
    this.#attempt = this.#renewals = 0;
  }
}

/**
 * What the close of a WebSocket means.
 * @param {number} code
 * @param {string} [reason]
 */
export function ofClose(code, reason) {
  return new Interrupted(nextMove(code), `closed_${code}`, reason || "The connection was closed.");
}

/**
 * What a refusal over HTTP means.
 * @param {number} status
 * @param {string | null} retryAfter the header
 * @param {{code?: unknown, message?: unknown} | null} [error] of the body
 */
export function ofStatus(status, retryAfter, error) {
  /** @type {Move} */
  let move = "stay_away";
  if (status === 401) move = "renew";
  else if (PASSING.has(status) || status >= 500) move = "come_back";
  const code = typeof error?.code === "string" ? error.code : `http_${status}`;
  const message = typeof error?.message === "string" ? error.message : "The server refused the request.";
  // A date is allowed there too; who sends one gets our own wait.
  const retryAfterMs = /^[0-9]{1,9}$/.test(retryAfter ?? "") ? Math.min(Number(retryAfter) * 1000, LONGEST_MS) : 0;
  return new Interrupted(move, code, message, { retryAfterMs });
}

/** No answer at all. */
export function unreachable() {
  return new Interrupted("come_back", "unreachable", "The server cannot be reached.");
}
