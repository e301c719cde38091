/**
 * The client: one conversation at a time, through every reconnect, reload and tab. No DOM; prints nothing.
 *
 *     const client = createClient({ origin: "https://chat.example", getToken: () => token, storage: localStorage });
 *     client.addEventListener("change", () => draw(shown(client.state), client.outbox)); // `shown` of state.js
 *     client.connect();
 *     client.send("Where is my order?");
 *
 * Events: `change` (state or outbox; often, so draw in a frame), `status`, `error` (CustomEvent, detail {code, message,
 * retryable, ref?}), `event` (CustomEvent, detail: one event as it came in, or null for a state told by another tab).
 * No method rejects or throws: what fails is an `error`, and the promise is false, or null where a value was asked for.
 *
 * @typedef {object} Options
 * @property {string} origin of the server, as `https://chat.example`
 * @property {import("./auth.js").Auth} [auth] signs in by itself
 * @property {import("./tickets.js").TokenSource} [getToken] in place of `auth`: gives an access token
 * @property {import("./tickets.js").TicketSource} [getTicket] in place of both: sockets only, nothing over HTTP
 * @property {string | null} [conversationId] default: the stored one, else a new one at the first question
 * @property {import("./tabs.js").Store | null} [storage] for the unsent questions and the last conversation
 * @property {string} [key] tells sites apart in the storage
 * @property {import("./tabs.js").Tabs} [tabs] of openTabs: one connection for all tabs
 * @property {(told: (news: "awake" | "online" | "offline") => void) => () => void} [watch] see waking.js
 * @property {{agent?: string, title?: string}} [fresh] fields of a new conversation
 * @property {typeof fetch} [fetch]
 * @property {typeof WebSocket | null} [WebSocket] null: streams only
 * @property {() => number} [random]
 */

import { asInterrupted, persist, request } from "./http.js";
import { Outbox } from "./outbox.js";
import { faultOf, newClientId } from "./protocol.js";
import { Room } from "./room.js";
import { EMPTY } from "./state.js";
import { openTabs, safe } from "./tabs.js";
import { Credentials } from "./tickets.js";

const TYPING_MS = 3_000; // the same is told again only so often
const FAULTS = {
  empty: "The text is empty.",
  too_long: "The text is too long.",
  invalid_text: "The text must not contain NUL or unpaired surrogates.",
};

/** @param {Options} options */
export function createClient(options) {
  return new ParleyClient(options);
}

export class ParleyClient extends EventTarget {
  /** @type {string | null} */
  conversationId;
  /** @type {Room | null} */
  #room = null;
  #api;
  #credentials;
  #outbox;
  #parts;
  #tabs;
  #storage;
  #key;
  #fresh;
  #isOpen = false;
  #isMaking = false;
  #hasten = () => {};
  /** @type {Set<string>} */
  #sending = new Set();
  #typing = { on: false, at: 0 };
  #watch;
  #unwatch = () => {};

  /** @param {Options} options */
  constructor(options) {
    super();
    const { origin, auth, conversationId, storage, key = "", tabs, watch, fresh = {}, random = Math.random } = options;
    this.#api = { origin: origin.replace(/\/+$/, ""), fetch: options.fetch ?? globalThis.fetch };
    const { getTicket, getToken = auth && ((isRefused) => auth.token(isRefused)) } = options;
    this.#credentials = new Credentials(this.#api, { getToken, getTicket });
    const socket = options.WebSocket === undefined ? globalThis.WebSocket : options.WebSocket;
    this.#parts = { api: this.#api, WebSocket: socket ?? null, credentials: this.#credentials, random };
    this.#storage = safe(storage);
    this.#key = `parley:${key}`;
    this.#outbox = new Outbox(this.#storage, `${this.#key}:outbox`);
    this.#tabs = tabs ?? openTabs({ key, locks: null, Channel: null });
    this.#fresh = fresh;
    this.conversationId = conversationId ?? this.#storage.getItem(`${this.#key}:conversation`);
    this.#watch = watch;
  }

  /** What is known of the conversation: see state.js. Another object after each change. */
  get state() {
    return this.#room?.state ?? EMPTY;
  }

  /** @returns {import("./connection.js").Status} `online` also where there is no conversation yet */
  get status() {
    if (this.#room) return this.#room.status;
    if (this.#isMaking) return "connecting";
    return this.#isOpen ? "online" : "offline";
  }

  /** When the next try begins, in ms since the epoch; null where none is planned. */
  get retryAt() {
    return this.#room?.retryAt ?? null;
  }

  /** Questions of this conversation that are not rows yet, oldest first. */
  get outbox() {
    return this.#outbox.questions.filter((one) => one.conversationId === this.conversationId);
  }

  /** Whether this tab holds the connection. */
  get isLeader() {
    return this.#room?.isLeader ?? true;
  }

  /** Begin; sends what was not sent before a reload. */
  connect() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#unwatch = this.#watch?.((news) => this.#news(news)) ?? this.#unwatch;
    this.#enter();
  }

  /** Begin anew in the same conversation: after `auth.identify()`, as whom it says. */
  reconnect() {
    this.#room?.close();
    this.#room = null;
    this.#enter();
  }

  /** End the connection; answers are written to their end all the same. */
  close() {
    this.#isOpen = false;
    this.#unwatch();
    this.#room?.close();
    this.#room = null;
    this.#emit("status");
  }

  /** Try now, also where coming back was given up. */
  wake() {
    this.#room?.wake({ isAnew: true });
    this.#hasten();
    this.#flush();
  }

  /**
   * Ask. Kept until the server has it.
   * @param {string} content
   * @returns {string | null} its clientId; null for what nobody would take
   */
  send(content) {
    if (!this.#isSound(content)) return null;
    const [clientId, createdAt] = [newClientId(), new Date().toISOString()];
    this.#outbox.add({ clientId, conversationId: this.conversationId, content, createdAt, status: "waiting" });
    this.#typing = { on: false, at: 0 };
    this.#emit("change");
    this.#flush();
    return clientId;
  }

  /** Send a question again that failed. @param {string} clientId */
  retry(clientId) {
    this.#outbox.change(clientId, { status: "waiting", error: undefined });
    this.#emit("change");
    this.#flush();
  }

  /** Forget a question that was not sent. @param {string} clientId */
  discard(clientId) {
    this.#room?.cancel(clientId);
    this.#outbox.drop((one) => one.clientId === clientId);
    this.#emit("change");
  }

  /** End a reply; what was written so far stays. @param {string} messageId */
  stop(messageId) {
    return this.#run({ type: "stop", message_id: messageId });
  }

  /** Have the newest question answered again. @param {string} messageId of the reply */
  regenerate(messageId) {
    return this.#run({ type: "regenerate", message_id: messageId, client_id: newClientId() });
  }

  /**
   * Put another question in the place of the newest; only over a socket.
   * @param {string} messageId
   * @param {string} content
   */
  async edit(messageId, content) {
    if (!this.#isSound(content)) return false;
    return this.#run({ type: "edit", message_id: messageId, content, client_id: newClientId() });
  }

  /**
   * @param {string} messageId
   * @param {"up" | "down" | null} rating null takes it back
   * @param {string | null} [comment]
   */
  rate(messageId, rating, comment = null) {
    return this.#run({ type: "feedback", message_id: messageId, rating, comment });
  }

  /** Let the others see that somebody types; call it at each key. @param {boolean} on */
  typing(on) {
    const now = Date.now();
    if (on === this.#typing.on && (!on || now - this.#typing.at < TYPING_MS)) return;
    this.#typing = { on, at: now };
    this.#room?.say({ type: "typing", on });
  }

  /** Load the page before. @returns {Promise<boolean>} whether there are still older messages */
  async older() {
    const room = this.#room;
    const before = this.#oldest();
    if (!room || !before || !room.state.hasMore) return false;
    const path = `/chat/conversations/${this.conversationId}/messages?limit=50&before=${before}`;
    const page = await this.#ask("GET", path);
    // A reset came in between: this page would not touch what is held now.
    if (page && room === this.#room && this.#oldest() === before)
      room.fold({ type: "older", messages: page.data, has_more: page.has_more });
    return this.state.hasMore;
  }

  /**
   * Conversations, newest activity first.
   * @param {{after?: string, limit?: number, q?: string}} [which]
   * @returns {Promise<{data: any[], last_id: string | null, has_more: boolean} | null>}
   */
  conversations({ after, limit = 20, q } = {}) {
    const query = new URLSearchParams({ limit: String(limit), ...(after && { after }), ...(q && { q }) });
    return this.#ask("GET", `/chat/conversations?${query}`);
  }

  /** @param {string | null} conversationId null: a new one, made at the first question */
  switchTo(conversationId) {
    if (conversationId === this.conversationId && (conversationId === null || this.#room)) return;
    this.#room?.close();
    this.#room = null;
    this.#settle(conversationId);
    this.#enter();
  }

  /** Ask for a person, or with "ai" for the assistant again. @param {"human" | "ai"} [mode] */
  async handoff(mode = "human") {
    if (this.conversationId === null) return false;
    return Boolean(await this.#ask("PATCH", `/chat/conversations/${this.conversationId}`, { mode }));
  }

  /** Forget conversation and unsent questions; sign out with `auth.reset()`. */
  reset() {
    this.#outbox.drop(() => true);
    this.switchTo(null);
    this.#emit("change");
  }

  #enter() {
    const id = this.conversationId;
    if (this.#isOpen && id !== null && !this.#room)
      this.#room = new Room(id, this.#parts, this.#tabs, {
        onChange: (event) => this.#changed(event),
        onStatus: () => this.#emit("status"),
        onFault: (fault) => this.#emit("error", fault),
        onGone: (ended) => this.#gone(ended),
      });
    this.#sending.clear();
    this.#emit("change");
    this.#emit("status");
    this.#flush();
  }

  /** @param {string | null} conversationId */
  #settle(conversationId) {
    this.conversationId = conversationId;
    if (conversationId) this.#storage.setItem(`${this.#key}:conversation`, conversationId);
    else this.#storage.removeItem(`${this.#key}:conversation`);
  }

  /** Send what waits; a question is sent again at every reconnect until it is answered. */
  #flush() {
    if (!this.#isOpen) return;
    const waiting = this.outbox.filter((one) => one.status === "waiting" && !this.#sending.has(one.clientId));
    if (this.conversationId === null && waiting[0]) void this.#make(waiting[0]);
    for (const question of this.#room ? waiting : []) void this.#put(/** @type {Room} */ (this.#room), question);
  }

  /**
   * @param {Room} room
   * @param {import("./outbox.js").Question} question
   */
  async #put(room, { clientId, content }) {
    this.#sending.add(clientId);
    const answer = await room.run({ type: "chat", client_id: clientId, content }, Infinity);
    if (room !== this.#room) return;
    this.#sending.delete(clientId);
    if ("type" in answer) this.#outbox.change(clientId, { status: "sent" });
    else this.#fail(clientId, /** @type {import("./room.js").Fault} */ (answer));
    this.#clear(false);
    this.#emit("change");
  }

  /**
   * Make the conversation of a first question; under a name of its own, so that it is made once.
   * @param {import("./outbox.js").Question} question
   */
  async #make({ clientId }) {
    if (this.#isMaking) return;
    this.#isMaking = true;
    this.#emit("status");
    const body = { ...this.#fresh, client_id: `c_${clientId}` };
    const made = await this.#ask("POST", "/chat/conversations", body, {
      deadlineMs: Infinity,
      isOver: () => !this.#isOpen,
      pause: (waitMs) =>
        new Promise((done) => {
          const timer = setTimeout(done, waitMs);
          this.#hasten = () => (clearTimeout(timer), done(undefined));
        }),
      onFault: (fault) => this.#fail(clientId, fault),
    });
    this.#isMaking = false;
    if (made) this.#rehome(null, made.id);
    if (made && this.#isOpen && this.conversationId === null) this.switchTo(made.id);
    this.#emit("change");
    this.#emit("status");
  }

  /**
   * Ask what waits there in another conversation.
   * @param {string | null} from
   * @param {string | null} to
   */
  #rehome(from, to) {
    for (const one of this.#outbox.questions)
      if (one.conversationId === from) this.#outbox.change(one.clientId, { conversationId: to });
  }

  /**
   * @param {string} clientId
   * @param {import("./room.js").Fault} error
   */
  #fail(clientId, { code, message, retryable }) {
    this.#outbox.change(clientId, { status: "failed", error: { code, message, retryable } });
  }

  /** @param {import("./protocol.js").Event | null} event */
  #changed(event) {
    if (event === null || event.type === "message" || event.type === "reset") this.#clear(event?.type === "reset");
    this.#emit("event", event);
    this.#emit("change");
  }

  /** Forget the questions that are rows now. @param {boolean} isAnew all rows are told: who is stored is among them, or older */
  #clear(isAnew) {
    if (!this.#outbox.questions.length) return;
    const told = new Set([...this.state.messages.values()].map((row) => row.client_id));
    this.#outbox.drop((one) => told.has(one.clientId) || (isAnew && one.status === "sent"));
  }

  /** @param {import("./backoff.js").Interrupted} ended */
  #gone({ code, message }) {
    this.#emit("error", { code, message, retryable: false });
    // Deleted, or another user's: the next question begins a new one.
    if (!/^closed_4404$|not_found$/.test(code)) return;
    this.#rehome(this.conversationId, null);
    this.switchTo(null);
  }

  /** @param {import("./protocol.js").Command} command */
  async #run(command) {
    if (!this.#room) return false;
    const answer = await this.#room.run(command);
    if ("type" in answer) return true;
    this.#emit("error", { ...answer, ref: answer.ref ?? command.message_id });
    return false;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {{onFault?: (fault: import("./room.js").Fault) => void, [how: string]: any}} [how] of `persist`
   * @returns {Promise<any>} null where it failed
   */
  async #ask(method, path, body, { onFault, ...how } = {}) {
    const act = async () => request(this.#api, method, path, { token: await this.#credentials.token(), body });
    try {
      return await persist(act, { renew: () => this.#credentials.renew(), random: this.#parts.random, ...how });
    } catch (error) {
      const { code, message, move } = asInterrupted(error);
      const fault = { code, message, retryable: move === "come_back" };
      onFault?.(fault);
      this.#emit("error", fault);
      return null;
    }
  }

  /** @param {string} content */
  #isSound(content) {
    const code = faultOf(content);
    if (code) this.#emit("error", { code, message: FAULTS[code], retryable: false });
    return !code;
  }

  #oldest() {
    /** @type {any} */
    let oldest = null;
    for (const row of this.state.messages.values()) if (!oldest || row.seq < oldest.seq) oldest = row;
    return oldest?.id;
  }

  /** @param {"awake" | "online" | "offline"} news */
  #news(news) {
    if (news === "awake") this.#room?.wake();
    else this.#room?.setNetwork(news === "offline");
    if (news === "offline") return;
    this.#hasten();
    this.#flush();
  }

  /**
   * @param {string} name
   * @param {any} [detail]
   */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
