/**
 * One conversation in this tab: its state, where it reads on, and commands until they are answered. Led by this tab,
 * which then holds the connection, or by another one that tells what it hears.
 */

import { Interrupted } from "./backoff.js";
import { Connection } from "./connection.js";
import { DEADLINE_MS } from "./http.js";
import { newClientId, refOf } from "./protocol.js";
import { ContentMismatch, EMPTY, find, fold, isWhole } from "./state.js";

/**
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {import("./protocol.js").Event} Event
 * @typedef {{code: string, message: string, retryable: boolean, ref?: string | null}} Fault
 * @typedef {{command: Command, ref: string | null, settle: (answer: Event | Fault) => void, timer: any}} Waiting
 * @typedef {object} Hears
 * @property {(event: Event | null) => void} onChange the state is another one; null: as told by another tab
 * @property {() => void} onStatus
 * @property {(fault: Fault) => void} onFault
 * @property {(ended: Interrupted) => void} onGone
 */

/** Begins at once, ends with `close`. */
export class Room {
  state = EMPTY;
  /** @type {import("./connection.js").Status} */
  status = "connecting";
  /** @type {number | null} */
  retryAt = null;
  #id;
  #hears;
  #connection;
  #line;
  /** @type {string | null} */
  #cursor = null;
  /** @type {Set<string>} */
  #torn = new Set();
  /** @type {Waiting[]} */
  #waiting = [];
  #name = newClientId(); // of this tab, as a leader
  #leader = "";
  #heard = 0; // how many events the leader has told
  #isClosed = false;

  /**
   * @param {string} id
   * @param {Omit<import("./connection.js").Parts, "cursor" | "onEvent" | "onStatus" | "onGone">} parts
   * @param {import("./tabs.js").Tabs} tabs
   * @param {Hears} hears
   */
  constructor(id, parts, tabs, hears) {
    this.#id = id;
    this.#hears = hears;
    this.#connection = new Connection(id, {
      ...parts,
      cursor: () => this.#cursor,
      onEvent: (event, cursor) => this.#take(event, cursor),
      onStatus: (status, retryAt) => this.#tell(status, retryAt),
      onGone: (ended) => hears.onGone(ended),
    });
    this.#line = tabs.line(id, {
      onLead: () => this.#connection.start(),
      onFollow: () => this.#follow(),
      onMessage: (message) => this.#hear(message),
    });
  }

  /** Whether this tab holds the connection. */
  get isLeader() {
    return this.#line.isLeader;
  }

  /**
   * Send a command until it is answered: over all reconnects, under one id.
   * @param {Command} command
   * @param {number} [deadlineMs] Infinity: for as long as it takes
   * @returns {Promise<Event | Fault>} an `ack`, or what is wrong
   */
  run(command, deadlineMs = DEADLINE_MS) {
    return new Promise((done) => {
      /** @type {Waiting} */
      const waiting = { command, ref: refOf(command), settle, timer: null };
      const drop = () => this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      /** @param {Event | Fault} answer */
      function settle(answer) {
        clearTimeout(waiting.timer);
        drop();
        done(answer);
      }
      const late = { code: "no_answer", message: "The server did not answer in time.", retryable: true };
      if (deadlineMs !== Infinity) waiting.timer = setTimeout(() => settle(late), deadlineMs);
      this.#waiting.push(waiting);
      this.say(command);
    });
  }

  /** Send a command once, if there is a connection. @param {Command} command */
  say(command) {
    if (this.isLeader) this.#connection.send(command);
    else this.#line.post({ command });
  }

  /** No longer send what was not answered. @param {string} ref */
  cancel(ref) {
    const waiting = this.#waiting.find((one) => one.ref === ref);
    waiting?.settle({ code: "cancelled", message: "It was not sent.", retryable: true });
  }

  /** Fold something that this tab asked for itself. @param {Event} event */
  fold(event) {
    this.state = fold(this.state, event);
    this.#hears.onChange(event);
  }

  /** @param {{isAnew?: boolean}} [how] */
  wake(how) {
    if (this.isLeader) this.#connection.wake(how);
    else this.#line.ask({ hello: true, how });
  }

  /** @param {boolean} isOffline */
  setNetwork(isOffline) {
    if (this.isLeader) this.#connection.setNetwork(isOffline);
  }

  close() {
    this.#isClosed = true;
    this.#line.close();
    this.#connection.close();
    for (const { settle } of [...this.#waiting])
      settle({ code: "closed", message: "The conversation was closed.", retryable: true });
  }

  #follow() {
    this.#connection.close();
    this.#leader = "";
    this.#line.ask({ hello: true });
  }

  /**
   * @param {Event} event
   * @param {string | null} cursor
   */
  #take(event, cursor) {
    if (!this.#apply(event)) return;
    this.#cursor = cursor ?? this.#cursor;
    this.#heard += 1;
    this.#line.post({ leader: this.#name, number: this.#heard, event, cursor });
    if (event.type === "ready") this.#resend();
    this.#hears.onChange(event);
    if (event.type === "complete") void this.#verify(event);
  }

  /** @param {Event} event */
  #apply(event) {
    try {
      this.state = fold(this.state, event);
    } catch (error) {
      if (!(error instanceof ContentMismatch)) throw error;
      if (this.#isTorn(error)) return false;
      // Torn twice: it is shown as it came, and said to be so.
      this.state = fold(this.state, { ...event, content_length: error.length });
    }
    const ref = event.ref;
    // Two commands may be named alike, by their message; they are answered in order.
    const waiting = ref && this.#waiting.find((one) => one.ref === ref);
    if (waiting && event.type === "ack") waiting.settle(event);
    else if (waiting && event.type === "error") waiting.settle({ ...event.error, ref });
    else if (event.type === "error" && !ref) this.#hears.onFault(event.error);
    return true;
  }

  /** @param {Event} event */
  async #verify(event) {
    const message = find(this.state, event.message_id);
    if (!message || message.status === "deleted" || message.isLive) return;
    const isSound = await isWhole(message.content, /** @type {any} */ (event));
    if (!isSound && !this.#isClosed) this.#isTorn(new ContentMismatch(message.id, 0));
  }

  /**
   * A reply is not what it should be: read it again from the beginning; what is shown stays until then.
   * @param {ContentMismatch} mismatch
   * @returns {boolean} whether there is another try
   */
  #isTorn({ code, message, messageId }) {
    const retryable = !this.#torn.has(messageId);
    this.#torn.add(messageId);
    this.#hears.onFault({ code, message, retryable, ref: messageId });
    if (retryable && this.isLeader) {
      // A cursor is worth something only together with what was folded up to it.
      this.#cursor = null;
      this.#connection.restart(new Interrupted("come_back", code, message));
    }
    return retryable;
  }

  /**
   * @param {import("./connection.js").Status} status
   * @param {number | null} retryAt
   */
  #tell(status, retryAt) {
    Object.assign(this, { status, retryAt });
    this.#line.post({ leader: this.#name, status, retryAt });
    this.#hears.onStatus();
  }

  #resend() {
    for (const { command } of this.#waiting) this.say(command);
  }

  /** @param {any} message of another tab */
  #hear(message) {
    if (this.isLeader) {
      if (message.command) this.#connection.send(message.command);
      if (message.hello) this.#answer(message.how);
    } else if (message.leader) this.#hearLeader(message);
  }

  /** @param {any} how */
  #answer(how) {
    const { state, status, retryAt } = this;
    this.#line.post({ leader: this.#name, number: this.#heard, cursor: this.#cursor, state, status, retryAt });
    if (how) this.#connection.wake(how);
  }

  /** @param {any} message */
  #hearLeader({ leader, number, event, cursor, state, status, retryAt }) {
    if (state && (leader !== this.#leader || number > this.#heard)) {
      this.state = state;
      this.#cursor = cursor;
      this.#leader = leader;
      this.#heard = number;
      this.#hears.onChange(null);
      this.#resend();
    } else if (event && leader === this.#leader && number <= this.#heard) {
      return;
    } else if (event && (leader !== this.#leader || number !== this.#heard + 1)) {
      this.#line.ask({ hello: true });
    } else if (event) {
      this.#heard = number;
      if (!this.#apply(event)) return;
      this.#cursor = cursor ?? this.#cursor;
      if (event.type === "ready") this.#resend();
      this.#hears.onChange(event);
    }
    if (status) {
      Object.assign(this, { status, retryAt });
      this.#hears.onStatus();
    }
  }
}
