/**
 * One conversation kept connected: WebSocket first, a stream where none gets through, and back again after every end.
 * Knows neither what events mean nor who else listens.
 *
 * @typedef {"connecting" | "online" | "reconnecting" | "offline" | "signed-out"} Status
 * @typedef {object} Parts
 * @property {import("./http.js").Api} api
 * @property {typeof WebSocket | null} WebSocket null: streams only
 * @property {import("./tickets.js").Credentials} credentials
 * @property {() => number} random
 * @property {() => string | null} cursor where to read on
 * @property {(event: import("./protocol.js").Event, cursor: string | null) => void} onEvent
 * @property {(status: Status, retryAt: number | null) => void} onStatus
 * @property {(ended: Interrupted) => void} onGone there will be no further try
 */

import { Backoff, Interrupted } from "./backoff.js";
import { openStream } from "./event-source.js";
import { asInterrupted, persist, request } from "./http.js";
import { refOf } from "./protocol.js";
import { openSocket } from "./websocket.js";

const TICKET_MS = 10_000;
const READY_MS = 8_000; // until the first word; proxies swallow upgrades without one
const PONG_MS = 10_000;
const PROBE_MS = 3_000; // somebody waits for it
const STREAM_SILENCE_MS = 45_000; // three of the server's comments
const STREAM_COMMENT_MS = 16_000;
const BLOCKED = 2; // sockets in a row that never spoke; then streams come first, until the network is another

/** @typedef {import("./protocol.js").Command} Command */

/** Begins with `start`, ends with `close`. */
export class Connection {
  #id;
  #parts;
  #backoff = new Backoff();
  /** @type {{close: () => void, send?: (command: Command) => boolean} | null} */
  #link = null;
  #epoch = 0;
  #blocked = 0;
  #openedAt = 0;
  #heardAt = 0;
  #heartbeatMs = 25_000;
  /** @type {number | null} */
  #leaveAt = null;
  #isReady = false;
  #isWaiting = false; // for the next try
  #isHinted = false; // by the server, so that only a person may hasten it
  #isDetour = false; // a socket was tried just before
  #isOffline = false;
  #hasStayed = false; // was connected once
  #isStopped = false;
  /** @type {any} */
  #timer;
  /** @type {any} */
  #leaveTimer;

  /**
   * @param {string} id of the conversation
   * @param {Parts} parts
   */
  constructor(id, parts) {
    this.#id = id;
    this.#parts = parts;
  }

  start() {
    this.#drop();
    this.#isStopped = this.#isDetour = false;
    const epoch = this.#epoch;
    this.#openedAt = Date.now();
    this.#tell(this.#hasStayed ? "reconnecting" : "connecting");
    void this.#open(epoch, this.#parts.WebSocket !== null && this.#blocked < BLOCKED);
  }

  close() {
    this.#drop();
    this.#isStopped = true;
  }

  /** Begin anew where `cursor` now says. @param {Interrupted} why */
  restart(why) {
    this.#ended(why);
  }

  /**
   * Somebody is here and waits: what sleeps tries now, what seems connected is asked.
   * @param {{isAnew?: boolean}} [how] also where coming back was given up
   */
  wake({ isAnew = false } = {}) {
    if ((this.#isStopped || (this.#isWaiting && this.#isHinted)) && !isAnew) return;
    const now = Date.now();
    if (this.#isReady) {
      if (this.#link?.send) this.#probe(PROBE_MS);
      else if (now - this.#heardAt > STREAM_COMMENT_MS) this.#ended(silent());
    } else if (this.#isWaiting || this.#isStopped || now - this.#openedAt > PROBE_MS) {
      this.#backoff.reset();
      this.start();
    }
  }

  /** @param {boolean} isOffline what the browser says of the network */
  setNetwork(isOffline) {
    this.#isOffline = isOffline;
    this.#blocked = 0;
    if (this.#isStopped) return;
    if (isOffline) this.#ended(new Interrupted("come_back", "offline", "There is no network."));
    else this.wake();
  }

  /**
   * Send a command, if there is a connection; its answer comes as an event. Sent again it is the same command.
   * @param {Command} command
   */
  send(command) {
    if (!this.#isReady) return;
    if (this.#link?.send) this.#link.send(command);
    else if (command.type !== "typing") void this.#post(command, this.#epoch);
  }

  #drop() {
    this.#epoch += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#leaveTimer);
    this.#link?.close();
    this.#link = null;
    this.#isReady = this.#isWaiting = false;
    this.#leaveAt = null;
  }

  /**
   * @param {number} epoch
   * @param {boolean} bySocket
   */
  async #open(epoch, bySocket) {
    const { api, credentials, cursor } = this.#parts;
    const isOld = () => epoch !== this.#epoch;
    const hears = {
      onHeard: () => void (this.#heardAt = Date.now()),
      onEvent: (/** @type {any} */ event, /** @type {string | null} */ at) => !isOld() && this.#take(event, at),
      onEnd: (/** @type {Interrupted} */ ended) => !isOld() && this.#linkEnded(ended, bySocket),
    };
    // A ticket that does not come says nothing of sockets.
    this.#timer = setTimeout(() => this.#ended(silent()), TICKET_MS);
    try {
      // Of a stream the token stands in a header; where there is none, a ticket.
      const token = bySocket ? null : await credentials.token();
      const ticket = token === null ? await credentials.ticket(this.#id) : null;
      if (isOld()) return;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => hears.onEnd(silent()), READY_MS);
      const query = new URLSearchParams();
      if (ticket !== null) query.set("ticket", ticket);
      if (bySocket) {
        const at = cursor();
        if (at !== null) query.set("cursor", at);
        const url = `${api.origin.replace(/^http/, "ws")}/chat/ws/${encodeURIComponent(this.#id)}?${query}`;
        this.#link = openSocket(/** @type {typeof WebSocket} */ (this.#parts.WebSocket), url, hears);
      } else {
        const path = `/chat/conversations/${encodeURIComponent(this.#id)}/stream?${query}`;
        this.#link = openStream(api, path, { token, cursor: cursor() }, hears);
      }
    } catch (error) {
      if (!isOld()) this.#ended(asInterrupted(error));
    }
  }

  /**
   * @param {Interrupted} ended
   * @param {boolean} bySocket
   */
  #linkEnded(ended, bySocket) {
    // A browser does not tell why a socket did not open: the stream will, or it gets through.
    if (bySocket && !this.#isReady && ended.move === "come_back" && !this.#isOffline) {
      this.#drop();
      this.#isDetour = true;
      void this.#open(this.#epoch, false);
    } else this.#ended(ended);
  }

  /** @param {Interrupted} ended */
  #ended(ended) {
    const now = Date.now();
    const lastedMs = this.#isReady ? now - this.#openedAt : 0;
    if (ended.move === "come_back" && this.#leaveAt !== null) ended.waitMs = Math.max(this.#leaveAt - now, 0);
    this.#drop();
    const waitMs = this.#backoff.waitMs(ended, lastedMs, this.#parts.random());
    if (waitMs === null) {
      this.#isStopped = true;
      const isSignedOut = ended.move === "renew" || ended.code === "signed_out";
      this.#tell(isSignedOut ? "signed-out" : "offline");
      this.#parts.onGone(ended);
      return;
    }
    if (ended.move === "renew") this.#parts.credentials.renew();
    this.#tell("reconnecting", now + waitMs);
    this.#isWaiting = true;
    this.#isHinted = ended.waitMs !== null || ended.retryAfterMs > 0 || ended.move === "later";
    this.#timer = setTimeout(() => this.start(), waitMs);
  }

  /**
   * @param {Status} status
   * @param {number | null} [retryAt]
   */
  #tell(status, retryAt = null) {
    const isWaiting = status === "reconnecting" || status === "connecting";
    this.#parts.onStatus(isWaiting && this.#isOffline ? "offline" : status, retryAt);
  }

  /**
   * @param {import("./protocol.js").Event} event
   * @param {string | null} cursor
   */
  #take(event, cursor) {
    if (event.type === "draining") {
      this.#leaveAt = Date.now() + event.reconnect_in_ms;
      const leave = () => this.#ended(new Interrupted("come_back", "draining", "The server goes away."));
      this.#leaveTimer = setTimeout(leave, event.reconnect_in_ms);
    }
    if (event.type === "ready") this.#welcome(event);
    this.#parts.onEvent(event, cursor);
  }

  /** @param {import("./protocol.js").Event} ready */
  #welcome(ready) {
    this.#isReady = this.#hasStayed = true;
    this.#isOffline = false;
    // Only where a stream gets through was it the upgrade that did not.
    this.#blocked = this.#link?.send ? 0 : this.#blocked + Number(this.#isDetour);
    this.#heartbeatMs = ready.heartbeat_s * 1000;
    this.#watch();
    this.#tell("online");
  }

  /** One timer for a whole heartbeat: an open page that is told nothing does nothing. */
  #watch() {
    clearTimeout(this.#timer);
    const patienceMs = this.#link?.send ? this.#heartbeatMs : STREAM_SILENCE_MS;
    const leftMs = this.#heardAt + patienceMs - Date.now();
    if (leftMs > 0) this.#timer = setTimeout(() => this.#watch(), leftMs);
    else if (this.#link?.send) this.#probe(PONG_MS);
    else this.#ended(silent());
  }

  /** @param {number} withinMs */
  #probe(withinMs) {
    clearTimeout(this.#timer);
    this.#heardAt = 0;
    this.#link?.send?.({ type: "ping" });
    const judge = () => (this.#heardAt ? this.#watch() : this.#ended(silent()));
    this.#timer = setTimeout(judge, withinMs);
  }

  /**
   * A command over HTTP, answered as a socket would.
   * @param {Command} command
   * @param {number} epoch
   */
  async #post(command, epoch) {
    const isOver = () => epoch !== this.#epoch;
    const { api, credentials, random } = this.#parts;
    const ref = refOf(command);
    /** @type {any} */
    let answer;
    try {
      const route = routeOf(command, this.#id);
      if (!route) throw new Interrupted("stay_away", "unavailable", "This is not possible over this connection.");
      const act = async () => request(api, "POST", route.path, { token: await credentials.token(), body: route.body });
      const { message, reply } = await persist(act, { renew: () => credentials.renew(), random, isOver });
      answer = { type: "ack", ref, message_id: message?.id ?? command.message_id, reply_id: reply?.id ?? null };
    } catch (error) {
      const { code, message, move } = asInterrupted(error);
      answer = { type: "error", ref, error: { code, message, retryable: move === "come_back", param: null } };
    }
    if (!isOver()) this.#parts.onEvent(answer, null);
  }
}

function silent() {
  return new Interrupted("come_back", "silent", "The server does not answer.");
}

/**
 * @param {Command} command
 * @param {string} id of the conversation
 */
function routeOf({ type, message_id, client_id, content, rating, comment }, id) {
  if (type === "chat") return { path: `/chat/conversations/${id}/messages`, body: { content, client_id } };
  const path = `/chat/messages/${message_id}/${type}`;
  if (type === "stop") return { path, body: undefined };
  if (type === "regenerate") return { path, body: { client_id } };
  if (type === "feedback") return { path, body: { rating, comment } };
  return null;
}
