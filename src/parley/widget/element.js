/** `<parley-chat>`: attributes in, DOM events out. Puts the views together and draws once a frame; keeps no conversation. */

import { Controller } from "./controller.js";
import { button, ICONS, make, set, write } from "./dom.js";
import { loadWords } from "./words.js";
import { sheet } from "./styles.js";
import { ComposerView } from "./view-composer.js";
import { HeaderView } from "./view-header.js";
import { LogView } from "./view-log.js";

export const OPTIONS = ["site", "origin", "theme", "locale", "position", "heading", "greeting", "conversation", "inline", "streaming", "handoff", "agent"];
const REDRAWS = ["locale", "position", "heading", "greeting", "inline", "handoff"];
const SMALL = matchMedia("(max-width: 520px)");
const SENTENCES_AT_ONCE = 30; // more is read in the log

/** The widget. Events: parley:ready, open, close, message, unread, error, handoff. */
export class ParleyChat extends HTMLElement {
  static observedAttributes = REDRAWS;
  #root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
  #views = null;
  #drawing = null;
  #frame = 0;
  #unread = 0;
  #prefix = "";
  #spoken = null;
  #reopens = false;
  #listed = false;
  #page = null; // ends what listens to the page
  /** @type {Controller | null} */
  #chat = null;

  connectedCallback() {
    if (this.#page) return;
    this.#root.adoptedStyleSheets = [sheet];
    this.#page = new AbortController();
    const { signal } = this.#page;
    document.addEventListener("visibilitychange", () => this.#changed(), { signal });
    SMALL.addEventListener("change", () => this.isOpen && (this.#hide(), this.#show()), { signal });
    visualViewport?.addEventListener("resize", () => this.#fit(), { signal });
    void this.#draw();
    if (this.hasAttribute("inline") || this.hasAttribute("open")) void this.open();
  }

  disconnectedCallback() {
    // Moved within the page, it is connected again by now.
    queueMicrotask(() => {
      if (this.isConnected) return;
      this.#page?.abort();
      this.#page = null;
      this.#chat?.close();
      this.#chat = null;
      this.#title(0);
      this.#clear();
    });
  }

  attributeChangedCallback(name, was, is) {
    if (was === is || !this.#page) return;
    this.#reopens ||= this.isOpen;
    this.#clear();
    void this.#draw().then(() => this.#reopens && this.open());
  }

  get isOpen() {
    return Boolean(this.#views?.dialog.open);
  }

  async open() {
    if (!this.isConnected) return;
    const views = await this.#draw();
    if (!views || views.dialog.open || !this.#tell("open", {}, true)) return;
    this.#reopens = false;
    this.#connect();
    this.#show();
    remember("1");
    this.#changed();
    this.#render();
    views.log.toEnd();
    views.composer.field.focus({ preventScroll: true });
  }

  close() {
    if (!this.isOpen || this.hasAttribute("inline") || !this.#tell("close", {}, true)) return;
    this.#hide();
    remember(null);
    this.#views.launcher.focus({ preventScroll: true });
    this.#changed();
  }

  toggle() {
    if (this.isOpen) this.close();
    else return this.open();
  }

  async sendMessage(text) {
    await this.open();
    return this.#connect().send(String(text));
  }

  /** @param {string | (() => Promise<string>) | null} identity a token the page's own server has signed, or who gets one */
  setUser(identity) {
    this.identity = identity;
    return this.#chat?.setUser(identity);
  }

  /** Forget this visitor: tokens, drafts, the open conversation. */
  async reset() {
    await this.#connect().reset();
    this.#chat = null;
    this.identity = null;
    if (this.isOpen) this.#connect();
    this.#changed();
  }

  #connect() {
    this.#chat ??= new Controller({
      origin: this.getAttribute("origin") || new URL(import.meta.url).origin,
      site: this.getAttribute("site"),
      conversation: this.getAttribute("conversation"),
      agent: this.getAttribute("agent"),
      identity: this.identity,
      onchange: () => this.#changed(),
      onerror: (error) => this.#failed(error),
      tell: (name, detail) => this.#tell(name, detail),
    });
    return this.#chat;
  }

  #tell(name, detail, cancelable = false) {
    return this.dispatchEvent(new CustomEvent(`parley:${name}`, { detail, bubbles: true, composed: true, cancelable }));
  }

  #failed({ code, message, retryable }) {
    this.#tell("error", { code, message, retryable });
    const text = (code && message) || this.#views?.say("trouble");
    this.#views?.composer.tell(text);
    this.#speak(text);
  }

  async #draw() {
    if (this.#views) return this.#views;
    const drawing = (this.#drawing ??= loadWords(this.getAttribute("locale") || document.documentElement.lang || navigator.language));
    const words = await drawing.catch(() => null);
    if (drawing !== this.#drawing) return this.#draw(); // meanwhile another language was asked for
    if (!words) this.#drawing = null; // the next call tries again
    else if (!this.#views) {
      this.#views = this.#build(words);
      this.#tell("ready", {});
    }
    return this.#views;
  }

  #build({ say, lang, dir }) {
    const inline = this.hasAttribute("inline");
    const voice = make("div", { class: "said", role: "status", "aria-live": "polite", "aria-atomic": "false" });
    const ctx = {
      say,
      inline,
      heading: this.getAttribute("heading") || say("heading"),
      greeting: this.getAttribute("greeting") ?? say("greeting"),
      time: clock(lang),
      speak: (text) => this.#speak(text),
      renderNow: () => this.#render(),
      draft: (text) => this.#chat?.setDraft(text),
      act: this.#acts(),
    };
    const header = new HeaderView(ctx);
    const log = new LogView(ctx);
    const composer = new ComposerView(ctx);
    const badge = make("span", { class: "badge", part: "badge", hidden: true, "aria-hidden": "true" });
    const launcher = button(say("open"), ICONS.chat, () => this.toggle(), { class: "launcher", part: "launcher", "aria-expanded": "false", "aria-haspopup": "dialog", hidden: inline });
    launcher.append(badge);
    const dialog = make("dialog", { part: "panel", "aria-labelledby": "title" }, header.node, header.banner, log.node, composer.node);
    dialog.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && (event.preventDefault(), this.#escape()));
    dialog.addEventListener("cancel", (event) => (event.preventDefault(), this.#escape()));
    const box = make("div", { class: `root ${this.getAttribute("position") ?? ""}`, dir, lang }, launcher, dialog, voice);
    this.#root.replaceChildren(box);
    return { ctx, say, header, log, composer, list: null, badge, launcher, dialog, voice };
  }

  #acts() {
    const chat = () => this.#connect();
    return {
      send: (text) => (this.#views.log.toEnd(), this.#views.composer.tell(""), chat().send(text)),
      stop: (id) => chat().stop(id),
      regenerate: (id) => (this.#views.log.toEnd(), chat().regenerate(id)),
      edit: (shown) => this.#views.composer.edit(shown),
      editMessage: (id, text) => (this.#views.log.toEnd(), chat().edit(id, text)),
      rate: (id, rating, comment) => chat().rate(id, rating, comment),
      retry: (id) => chat().retry(id),
      typing: (on) => chat().type(on),
      older: () => chat().older(),
      wake: () => chat().wake(),
      handoff: () => chat().handoff(),
      close: () => this.close(),
      list: () => this.#toggleList(),
      switchTo: (id) => (chat().switchTo(id), this.#toggleList(), this.#views.log.toEnd()),
    };
  }

  /** Most visitors never look at it: the list of conversations is loaded when it is wanted. */
  async #toggleList() {
    const views = this.#views;
    const { log, composer, ctx } = views;
    this.#listed = log.node.hidden = composer.node.hidden = !this.#listed;
    this.#changed();
    if (!this.#listed) {
      views.list?.hide();
      return composer.field.focus();
    }
    try {
      const { ListView } = await import("./view-list.js");
      if (!this.#listed) return;
      if (!views.list) log.node.after((views.list = new ListView(ctx)).node);
      await views.list.show((after) => this.#chat.conversations(after), this.#chat.conversation?.id);
    } catch (error) {
      this.#failed(error);
    }
  }

  #escape() {
    if (this.#listed) void this.#toggleList();
    else this.close();
  }

  #show() {
    const { dialog, launcher, say } = this.#views;
    if (SMALL.matches && !this.hasAttribute("inline")) dialog.showModal();
    else dialog.show();
    this.#fit();
    name(launcher, say("close"), "true");
    launcher.firstChild.replaceWith(button("", ICONS.down, null).firstChild);
  }

  #hide() {
    const { dialog, launcher, say } = this.#views;
    dialog.close();
    name(launcher, say("open"), "false");
    launcher.firstChild.replaceWith(button("", ICONS.chat, null).firstChild);
  }

  /** A keyboard on the screen takes room from the panel, not from the page below it. */
  #fit() {
    if (this.isOpen && SMALL.matches) this.#views.dialog.style.setProperty("--_view", `${visualViewport?.height ?? innerHeight}px`);
  }

  #clear() {
    this.#views?.log.close();
    this.#listed = false;
    this.#views = this.#drawing = null;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#root.replaceChildren();
  }

  /** Something is new: what counts is counted now, what is seen is drawn with the next frame. */
  #changed() {
    if (!this.#chat || !this.#views) return;
    if (this.isOpen && !document.hidden) this.#chat.markRead();
    this.#count(this.#chat.unread);
    if (this.isOpen) this.#frame ||= requestAnimationFrame(() => this.#render());
  }

  #render() {
    this.#frame = 0;
    if (!this.#views || !this.#chat) return;
    const { header, log, composer, say } = this.#views;
    const { messages, status, conversation, hasMore, typing } = this.#chat;
    const live = messages.findLast(({ isLive, role }) => isLive && role === "assistant");
    const isHuman = conversation?.mode === "human";
    const canHandOff = Boolean(conversation) && this.getAttribute("handoff") !== "off";
    if (status === "online") this.hasBeenOnline = true;
    header.update({ status, isHuman, canHandOff, isListed: this.#listed, hasBeenOnline: this.hasBeenOnline });
    const shown = this.getAttribute("streaming") === "off" ? messages.map(unstreamed) : messages;
    log.update(shown, { hasMore, typing: typing.map((person) => say("typing", { name: person })).join(" ") });
    composer.update(live?.id ?? null);
    composer.setDraft(this.#chat.draft);
    this.#narrate(live, messages);
  }

  /** Tell those who listen that an answer begins, and what it says when it is whole. */
  #narrate(live, messages) {
    const { log, say } = this.#views;
    if (live && live.id !== this.#spoken) {
      this.#spoken = live.id;
      this.#speak(say("answering"));
    } else if (!live && this.#spoken) {
      const ended = messages.find(({ id }) => id === this.#spoken);
      this.#spoken = null;
      if (ended) this.#speak(ended.status === "failed" ? say("broken") : log.textOf(ended.id));
    }
  }

  #speak(text) {
    if (!this.isOpen || !text) return;
    const cut = new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(text);
    const sentences = Array.from(cut, ({ segment }) => segment.trim()).filter(Boolean);
    this.#views.voice.replaceChildren(...sentences.slice(0, SENTENCES_AT_ONCE).map((sentence) => make("p", {}, sentence)));
  }

  #count(unread) {
    const { badge, launcher, say } = this.#views;
    this.#title(document.hidden ? unread : 0);
    if (unread === this.#unread) return;
    this.#unread = unread;
    badge.hidden = !unread;
    write(badge, unread > 99 ? "99+" : String(unread));
    name(launcher, [say(this.isOpen ? "close" : "open"), unread && say("unread", { n: unread })].filter(Boolean).join(", "), String(this.isOpen));
    this.#tell("unread", { count: unread });
  }

  #title(unread) {
    const prefix = unread ? `(${unread}) ` : "";
    if (prefix === this.#prefix) return;
    const title = document.title.startsWith(this.#prefix) ? document.title.slice(this.#prefix.length) : document.title;
    this.#prefix = prefix;
    document.title = prefix + title;
  }
}

function name(launcher, text, expanded) {
  set(launcher, "aria-label", text);
  set(launcher, "aria-expanded", expanded);
  launcher.title = text;
}

function unstreamed(message) {
  return message.isLive ? { ...message, content: "" } : message;
}

function clock(lang) {
  const short = new Intl.DateTimeFormat(lang, { timeStyle: "short" });
  const long = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" });
  return (when, isLong) => make("time", { datetime: when }, (isLong ? long : short).format(new Date(when)));
}

/** Whether it is open, for the next page of this tab. */
function remember(open) {
  try {
    if (open) sessionStorage.setItem("parley:open", open);
    else sessionStorage.removeItem("parley:open");
  } catch {
    // storage may be forbidden: then each page begins closed
  }
}
