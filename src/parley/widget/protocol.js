/**
 * The wire: events in, commands out, and what a close means. Pure; all of it is DESIGN 4.1 and 4.2.
 *
 * @typedef {Record<string, any>} Event what the server tells, one JSON object; `type` names it
 * @typedef {{type: string, [field: string]: any}} Command
 * @typedef {"come_back" | "later" | "renew" | "stay_away"} Move what to do next; all waits are jittered, `later` begins long
 */

export const SUBPROTOCOL = "parley.v1";
export const MAX_CONTENT_BYTES = 32 * 1024;

/** States of a reply that has not ended. */
export const LIVE = new Set(["queued", "streaming", "stopping"]);

/** @type {Record<number, Move>} */
export const NEXT_MOVE = {
  1000: "stay_away",
  1001: "come_back",
  // The client's own fault, so only slowly: at once it would do the same again.
  1002: "later",
  1007: "later",
  1009: "later",
  1011: "come_back",
  1012: "come_back",
  1013: "come_back",
  4400: "stay_away",
  4401: "renew",
  4403: "stay_away",
  4404: "stay_away",
  4408: "later",
  4429: "later",
};

/**
 * A lost connection (1006) and codes of later versions: come back.
 * @param {number} code
 * @returns {Move}
 */
export function nextMove(code) {
  return NEXT_MOVE[code] ?? "come_back";
}

/**
 * The event of a frame, null for what is none; a member `id` is its cursor.
 * @param {unknown} text
 * @param {string | null} [cursor] the `id:` line that stood before it
 * @returns {{event: Event, cursor: string | null} | null}
 */
export function readEvent(text, cursor = null) {
  if (typeof text !== "string") return null;
  let event;
  try {
    event = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof event?.type !== "string") return null;
  const { id, ...rest } = event;
  return { event: rest, cursor: (typeof id === "string" && id) || cursor };
}

/**
 * What an answer to a command is named by; null where none is given.
 * @param {Command} command
 * @returns {string | null}
 */
export function refOf(command) {
  return command.client_id ?? command.message_id ?? null;
}

/**
 * Why nobody would take this text; null where it is well.
 * @param {string} content
 * @returns {"empty" | "too_long" | "invalid_text" | null}
 */
export function faultOf(content) {
  if (content.length > MAX_CONTENT_BYTES || byteLength(content) > MAX_CONTENT_BYTES) return "too_long";
  // What PostgreSQL's text and UTF-8 cannot hold: NUL, and halves of pairs.
  if (/[\0\ud800-\udfff]/u.test(content)) return "invalid_text";
  return content.trim() ? null : "empty";
}

/** @param {string} text */
export function byteLength(text) {
  return new TextEncoder().encode(text).length;
}

/** The name of a new command: the same one, sent again, is done once. */
export function newClientId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
