/** Between the client and the views: one list to show, what counts as new, and who types. No DOM, no wire. */

import { createAuth } from "./auth.js";
import { chime } from "./chime.js";
import { createClient } from "./client.js";
import { LIVE } from "./protocol.js";
import { shown } from "./state.js";
import { openTabs, safe } from "./tabs.js";
import { Thread } from "./thread.js";
import { watchWaking } from "./waking.js";

const TYPING_FADES_MS = 6000; // the end of it may get lost
const GONE = new Set(["replaced", "deleted"]);
const CHIME_AFTER_MS = 500; // what somebody looks at, in whichever tab, is read by then

/** What one widget is connected to. */
export class Controller {
  #tell;
  #onchange;
  #asQuestion = new WeakMap();
  #thread = new Thread();
  #kept;
  #typedUntil = 0;
  #of = null; // the conversation whose messages were told
  #told = new Set();
  #since = 0;
  /** @type {string | null} */
  #mode = null;

  constructor({ origin, site, conversation, agent, identity, onchange, onshare, onerror, tell }) {
    const storage = openStorage();
    const key = site ?? "";
    this.#kept = { key, storage: safe(storage) };
    this.#tell = tell;
    this.#onchange = onchange;
    this.tabs = openTabs({ key, storage });
    this.auth = createAuth({ origin, siteKey: site, identity, storage, key });
    const fresh = agent ? { agent } : {};
    this.client = createClient({ origin, auth: this.auth, conversationId: conversation, storage, key, fresh, tabs: this.tabs, watch: watchWaking });
    this.client.addEventListener("change", () => this.#changed());
    this.client.addEventListener("status", onchange);
    this.client.addEventListener("error", (/** @type {any} */ { detail }) => onerror(detail));
    this.client.addEventListener("event", (/** @type {any} */ { detail }) => detail?.type === "typing" && this.#typed(detail));
    this.tabs.addEventListener("change", () => (onshare(this.tabs.open), onchange()));
    this.client.connect();
  }

  get messages() {
    const rows = this.#thread.of(this.client.state.messages, shown(this.client.state));
    return this.client.outbox.length ? [...rows, ...this.client.outbox.map((one) => this.#question(one))] : rows;
  }

  get status() {
    return this.client.status;
  }

  get conversation() {
    return this.client.state.conversation;
  }

  get hasMore() {
    return this.client.state.hasMore;
  }

  /** Names of others who type now. */
  get typing() {
    const { typing, user } = this.client.state;
    return Date.now() < this.#typedUntil ? [...typing].filter(([id]) => id !== user?.id).map(([, name]) => name) : [];
  }

  get unread() {
    return this.tabs.unread;
  }

  get draft() {
    return this.tabs.draft;
  }

  setDraft(text) {
    this.tabs.set("draft", text);
  }

  /** Let the other tabs know whether this one shows the chat. */
  share(isOpen) {
    this.tabs.set("open", isOpen);
  }

  markRead() {
    this.tabs.set("unread", 0);
  }

  send(text) {
    return this.client.send(text);
  }

  stop(id) {
    return this.client.stop(id);
  }

  regenerate(id) {
    return this.client.regenerate(id);
  }

  edit(id, text) {
    return this.client.edit(id, text);
  }

  rate(id, rating, comment) {
    return this.client.rate(id, rating, comment);
  }

  /** Show another answer to the same question. */
  pick(variants, id) {
    this.#thread.pick(variants, id);
    this.#onchange();
  }

  /** @param {"sound" | "whole"} name */
  prefers(name) {
    return this.#kept.storage.getItem(`parley:${this.#kept.key}:${name}`) === "1";
  }

  prefer(name, on) {
    this.#kept.storage.setItem(`parley:${this.#kept.key}:${name}`, on ? "1" : "0");
    if (on && name === "sound") chime();
    this.#onchange();
  }

  retry(id) {
    return this.client.retry(id);
  }

  type(on) {
    this.client.typing(on);
  }

  older() {
    return this.client.older();
  }

  wake() {
    this.client.wake();
  }

  handoff() {
    return this.client.handoff(this.conversation?.mode === "human" ? "ai" : "human");
  }

  conversations(after) {
    return this.client.conversations({ after });
  }

  switchTo(id) {
    this.client.switchTo(id);
  }

  /** Become somebody else, or with null a guest; a connection of the user before ends by itself. */
  async setUser(identity) {
    await this.auth.identify(identity);
    this.client.reconnect();
  }

  async reset() {
    this.client.reset();
    this.tabs.set("draft", "");
    this.markRead();
    await this.auth.reset();
    this.close();
  }

  close() {
    this.client.close();
    this.tabs.close();
  }

  #question(one) {
    let made = this.#asQuestion.get(one);
    if (!made) {
      const { clientId: id, content, status, createdAt } = one;
      const row = { client_id: id, created_at: createdAt };
      made = { id, role: "user", status, content, steps: [], sources: [], label: "", isLive: false, row };
      this.#asQuestion.set(one, made);
    }
    return made;
  }

  #typed({ on }) {
    if (!on) return;
    this.#typedUntil = Date.now() + TYPING_FADES_MS;
    setTimeout(this.#onchange, TYPING_FADES_MS + 50);
  }

  #changed() {
    const { messages, conversation } = this.client.state;
    if (messages !== this.rows) {
      this.rows = messages;
      this.#news(messages, conversation?.id);
    }
    if (conversation && conversation.mode !== this.#mode) {
      if (this.#mode) this.#tell("handoff", { mode: conversation.mode });
      this.#mode = conversation.mode;
    }
    this.#onchange();
  }

  /** Tell of messages that are whole for the first time; what was there at the start, and older pages, are no news. */
  #news(messages, conversationId) {
    const isFirst = conversationId !== this.#of;
    if (isFirst) {
      this.#of = conversationId;
      this.#mode = null;
      this.#told = new Set();
      this.#since = Math.min(...Array.from(messages.values(), ({ seq }) => seq), Infinity);
      if (this.#since === Infinity) this.#since = 0;
    }
    for (const row of messages.values()) {
      if (LIVE.has(row.status) || this.#told.has(row.id) || row.seq < this.#since) continue;
      this.#told.add(row.id);
      if (isFirst || GONE.has(row.status)) continue;
      const { id, role, status, content } = row;
      this.#tell("message", { id, role, status, content });
      if (role === "user" || !this.client.isLeader) continue;
      this.tabs.set("unread", this.tabs.unread + 1);
      if (this.prefers("sound")) setTimeout(() => this.unread && chime(), CHIME_AFTER_MS);
    }
  }
}

/** Pages may have no storage: then nothing survives a reload. */
function openStorage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}
