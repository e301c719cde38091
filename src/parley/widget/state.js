/**
 * What a client shows, from what it was told: a fold over events. Pure; unknown types and fields change nothing.
 *
 * States are never changed, and what did not change is the same object in the next one; `structuredClone` keeps them.
 *
 * @typedef {Record<string, any>} Row a message as on the wire: id, seq, rev, role, content, status, author{id, name},
 *   created_at, client_id, steps[], sources[], replaces, feedback{rating, comment}; `error{code, message, retryable}` of a
 *   reply that failed while we watched
 * @typedef {{attempt: number, text: string, steps: any[], sources: any[], label: string}} Live what is here of a reply
 *   that is being written; `label`: what goes on, until more text comes
 * @typedef {object} State
 * @property {{id: string, title: string | null, mode: "ai" | "human", archived?: boolean, rev?: number} | null} conversation
 * @property {{id: string, name: string, role: string} | null} user
 * @property {ReadonlyMap<string, Row>} messages by id, in no order
 * @property {ReadonlyMap<string, Live>} lives by message id
 * @property {ReadonlyMap<string, string>} typing names by user id; an end may get lost, so whoever shows it lets it fade
 * @property {boolean} hasMore whether there are older messages than these
 * @typedef {{id: string, role: string, status: string, content: string, steps: any[], sources: any[], label: string,
 *   isLive: boolean, row: Row}} Shown
 */

import { byteLength, LIVE } from "./protocol.js";

/** @type {State} */
export const EMPTY = Object.freeze({
  conversation: null,
  user: null,
  messages: new Map(),
  lives: new Map(),
  typing: new Map(),
  hasMore: false,
});
/** @type {Live} */
const NOTHING = Object.freeze({ attempt: 0, text: "", steps: [], sources: [], label: "" });

/** A reply's text is not what its end says. */
export class ContentMismatch extends Error {
  /**
   * @param {string} messageId
   * @param {number} length of what is held
   */
  constructor(messageId, length) {
    super("A reply did not arrive whole.");
    this.code = "content_mismatch";
    this.messageId = messageId;
    this.length = length;
  }
}

/**
 * The state after an event. Throws ContentMismatch where a reply has another length than its end says; whether it is
 * the same text, `isWhole` tells.
 * @param {State} state
 * @param {import("./protocol.js").Event} event also `older` {messages, has_more}, a page that was asked for
 * @returns {State}
 */
export function fold(state, event) {
  return Object.hasOwn(FOLDS, event.type) ? FOLDS[event.type](state, event) : state;
}

/**
 * The messages in their order; of what did not change, the same objects again.
 * @param {State} state
 * @returns {Shown[]}
 */
export function shown(state) {
  let all = orders.get(state.messages);
  if (!all) {
    all = [...state.messages.values()].sort((one, other) => one.seq - other.seq).map((row) => show(row));
    orders.set(state.messages, all);
  }
  if (!state.lives.size) return all;
  return all.map((one) => (state.lives.has(one.id) ? show(one.row, state.lives.get(one.id)) : one));
}

/**
 * One message as it is shown.
 * @param {State} state
 * @param {string} id
 * @returns {Shown | null}
 */
export function find(state, id) {
  const row = state.messages.get(id);
  return row ? show(row, state.lives.get(id)) : null;
}

/**
 * Whether a text is the one an end tells of: its length in UTF-8 and its SHA-256. Where the page has no digests (it was
 * not loaded over https), the length alone.
 * @param {string} text
 * @param {{content_length: number, content_sha256: string}} end
 * @param {SubtleCrypto | undefined} [subtle]
 * @returns {Promise<boolean>}
 */
export async function isWhole(text, end, subtle = globalThis.crypto?.subtle) {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length !== end.content_length) return false;
  if (!subtle) return true;
  const digest = new Uint8Array(await subtle.digest("SHA-256", bytes));
  return digest.reduce((hex, byte) => hex + byte.toString(16).padStart(2, "0"), "") === end.content_sha256;
}

// Remembered for as long as what they were made of is held by somebody.
/** @type {WeakMap<ReadonlyMap<string, Row>, Shown[]>} */
const orders = new WeakMap();
/** @type {WeakMap<Row | Live, Shown>} */
const shows = new WeakMap();

/**
 * @param {Row} row
 * @param {Live} [live]
 */
function show(row, live) {
  const known = shows.get(live ?? row);
  if (known?.row === row) return known;
  const { id, role, status } = row;
  const { steps, sources } = live ?? row;
  const content = live ? live.text : row.content;
  const made = { id, role, status, content, steps, sources, label: live?.label ?? "", isLive: LIVE.has(status), row };
  shows.set(live ?? row, made);
  return made;
}

/** @type {Record<string, (state: State, event: any) => State>} */
const FOLDS = {
  ready: (state, event) => ({
    ...state,
    conversation: { ...state.conversation, ...event.conversation },
    user: event.user,
  }),
  reset: (state, event) => ({
    ...EMPTY,
    conversation: event.conversation,
    user: state.user,
    messages: new Map(event.messages.map((/** @type {Row} */ row) => [row.id, row])),
    hasMore: event.has_more,
  }),
  conversation(state, { title, mode, archived, rev }) {
    if ((state.conversation?.rev ?? 0) > rev) return state;
    return { ...state, conversation: { .../** @type {any} */ (state.conversation), title, mode, archived, rev } };
  },
  message(state, { message: row }) {
    // The same revision again tells nothing new, and `complete` alone may have ended what it still calls live.
    if ((state.messages.get(row.id)?.rev ?? -1) >= row.rev) return state;
    const lives = LIVE.has(row.status) ? state.lives : without(state.lives, row.id);
    return { ...state, messages: new Map(state.messages).set(row.id, row), lives };
  },
  older(state, event) {
    const messages = new Map(state.messages);
    for (const row of event.messages) if (!messages.has(row.id)) messages.set(row.id, row);
    return { ...state, messages, hasMore: event.has_more };
  },
  // A `restart` precedes a later attempt; should it not, its text is still another's.
  start: (state, event) =>
    change(state, event, (live) => (event.attempt === live.attempt ? live : { ...NOTHING, attempt: event.attempt })),
  restart: (state, event) => change(state, event, () => ({ ...NOTHING, attempt: event.attempt })),
  token: (state, event) => change(state, event, (live) => ({ ...live, text: live.text + event.content, label: "" })),
  status: (state, event) => change(state, event, (live) => ({ ...live, label: event.label })),
  sources: (state, event) => change(state, event, (live) => ({ ...live, sources: [...live.sources, ...event.sources] })),
  tool_call(state, event) {
    const { call_id, name, label, arguments: given } = event;
    const step = { call_id, name, label, ...(given && { arguments: given }), ok: null, summary: "" };
    return change(state, event, (live) => ({ ...live, steps: [...live.steps, step] }));
  },
  tool_result(state, { ok, summary, ...event }) {
    const join = (/** @type {any} */ step) => (step.call_id === event.call_id ? { ...step, ok, summary } : step);
    return change(state, event, (live) => ({ ...live, steps: live.steps.map(join) }));
  },
  complete(state, event) {
    const id = event.message_id;
    const row = state.messages.get(id);
    if (!row || row.status === "deleted") return { ...state, lives: without(state.lives, id) };
    const isLive = LIVE.has(row.status);
    const { text, steps, sources } = isLive ? (state.lives.get(id) ?? NOTHING) : { ...NOTHING, text: row.content };
    const length = byteLength(text);
    if (length !== event.content_length) throw new ContentMismatch(id, length);
    if (!isLive) return state;
    const ended = { ...row, status: event.status, content: text, steps, sources, ...(event.error && { error: event.error }) };
    return { ...state, messages: new Map(state.messages).set(id, ended), lives: without(state.lives, id) };
  },
  typing(state, { user, on }) {
    const typing = new Map(without(state.typing, user.id));
    return { ...state, typing: on ? typing.set(user.id, user.name) : typing };
  },
};

/**
 * @param {State} state
 * @param {{message_id: string}} event
 * @param {(live: Live) => Live} step
 */
function change(state, { message_id: id }, step) {
  const row = state.messages.get(id);
  if (row && !LIVE.has(row.status)) return state;
  return { ...state, lives: new Map(state.lives).set(id, step(state.lives.get(id) ?? NOTHING)) };
}

/**
 * @template Value
 * @param {ReadonlyMap<string, Value>} map
 * @param {string} key
 */
function without(map, key) {
  if (!map.has(key)) return map;
  const rest = new Map(map);
  rest.delete(key);
  return rest;
}
