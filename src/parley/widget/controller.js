/** Between the client and the views: one list to show, what counts as new, and who types. No DOM, no wire. */

import { createAuth } from "./auth.js";
import { createClient } from "./client.js";
import { LIVE } from "./protocol.js";
import { shown } from "./state.js";
import { openTabs } from "./tabs.js";
import { watchWaking } from "./waking.js";

const TYPING_FADES_MS = 6000; // the end of it may get lost
const GONE = new Set(["replaced", "deleted"]);

/** What one widget is connected to. */
export class Controller {
  #tell;
  #onchange;
  #asQuestion = new WeakMap();
  #typedUntil = 0;
  #of = null; // the conversation whose messages were told
  #told = new Set();
  #since = 0;
  #mode = null;

  constructor({ origin, site, conversation, agent, identity, onchange, onerror, tell }) {
    const storage = openStorage();
    const key = site ?? "";
    this.#tell = tell;
    this.#onchange = onchange;
    this.tabs = openTabs({ key, storage });
    this.auth = createAuth({ origin, siteKey: site, identity, storage, key });
    const fresh = agent ? { agent } : {};
    this.client = createClient({ origin, auth: this.auth, conversationId: conversation, storage, key, fresh, tabs: this.tabs, watch: watchWaking });
    this.client.addEventListener("change", () => this.#changed());
    this.client.addEventListener("status", onchange);
    this.client.addEventListener("error", ({ detail }) => onerror(detail));
    this.client.addEventListener("event", ({ detail }) => detail?.type === "typing" && this.#typed(detail));
    this.tabs.addEventListener("change", onchange);
    this.client.connect();
  }

  get messages() {
    const rows = current(shown(this.client.state));
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
      if (role !== "user" && this.client.isLeader) this.tabs.set("unread", this.tabs.unread + 1);
    }
  }
}

/** What is not replaced: an edited question takes what answered it along, an answer given again only the one before. */
function current(rows) {
  const places = new Map(rows.map(({ row }) => [row.id, row.seq]));
  const spans = rows
    .filter(({ row }) => places.has(row.replaces))
    .map(({ role, row }) => [places.get(row.replaces), role === "user" ? row.seq : places.get(row.replaces) + 1]);
  const isOld = ({ seq }) => spans.some(([from, to]) => seq >= from && seq < to);
  return rows.filter(({ status, row }) => !GONE.has(status) && !isOld(row));
}

/** Pages may have no storage: then nothing survives a reload. */
function openStorage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}
