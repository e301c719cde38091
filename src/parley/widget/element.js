/** `<parley-chat>`: attributes in, DOM events out. Draws once a frame, and only while it is open; keeps no conversation. */

import { Controller } from "./controller.js";
import { make } from "./dom.js";
import { PageTitle } from "./page-title.js";
import { sheet } from "./styles.js";
import { PanelView, SMALL } from "./view-panel.js";
import { loadWords } from "./words.js";

export const OPTIONS = ["site", "origin", "theme", "locale", "position", "heading", "greeting", "conversation", "inline", "streaming", "handoff", "agent"];
const REDRAWS = ["locale", "position", "heading", "greeting", "inline", "handoff"];

/** The widget. Events: parley:ready, open, close, message, unread, error, handoff. */
export class ParleyChat extends HTMLElement {
  static observedAttributes = REDRAWS;
  #root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
  #title = new PageTitle();
  /** @type {any} a PanelView, once it is drawn */
  #panel = null;
  /** @type {ReturnType<typeof loadWords> | null} */
  #drawing = null;
  #frame = 0;
  #unread = 0;
  #reopens = false;
  #isShared = false; // whether it is open, with the other tabs
  /** @type {AbortController | null} ends what listens to the page */
  #page = null;
  /** @type {any} a Controller, once it was opened */
  #chat = null;

  connectedCallback() {
    if (this.#page) return;
    this.#root.adoptedStyleSheets = [sheet];
    this.#page = new AbortController();
    document.addEventListener("visibilitychange", () => this.#changed(), { signal: this.#page.signal });
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
      this.#title.show(0);
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
    return Boolean(this.#panel?.isOpen);
  }

  async open() {
    if (!this.isConnected) return;
    if (await this.#show()) this.#panel.composer.field.focus({ preventScroll: true });
  }

  close() {
    if (!this.#hide()) return;
    this.#panel.launcher.focus({ preventScroll: true });
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

  async #show() {
    const panel = await this.#draw();
    if (!panel || panel.isOpen || !this.#tell("open", {}, true)) return false;
    this.#reopens = false;
    this.#connect();
    panel.show();
    this.#share(true);
    this.#changed();
    this.#render();
    return true;
  }

  #hide() {
    if (!this.isOpen || this.hasAttribute("inline") || !this.#tell("close", {}, true)) return false;
    this.#panel.hide();
    this.#share(false);
    this.#changed();
    return true;
  }

  #connect() {
    this.#chat ??= new Controller({
      origin: this.getAttribute("origin") || new URL(import.meta.url).origin,
      site: this.getAttribute("site"),
      conversation: this.getAttribute("conversation"),
      agent: this.getAttribute("agent"),
      identity: this.identity,
      onchange: () => this.#changed(),
      onshare: (isOpen) => this.#follow(isOpen),
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
    this.#panel?.tell((code && message) || this.#panel.say("trouble"));
  }

  /** Other tabs of this browser, and the next page of this one, are as open as this. */
  #share(isOpen) {
    if (this.hasAttribute("inline")) return;
    this.#isShared = isOpen;
    this.#chat.share(isOpen);
    try {
      if (isOpen) sessionStorage.setItem("parley:open", "1");
      else sessionStorage.removeItem("parley:open");
    } catch {
      // storage may be forbidden: then each page begins closed
    }
  }

  /** It was opened or closed in another tab: do the same, and leave the focus where it is. */
  #follow(isOpen) {
    if (isOpen === this.#isShared || this.hasAttribute("inline") || (isOpen && SMALL.matches)) return;
    this.#isShared = isOpen;
    if (isOpen) void this.#show();
    else this.#hide();
  }

  async #draw() {
    if (this.#panel) return this.#panel;
    const drawing = (this.#drawing ??= loadWords(this.getAttribute("locale") || document.documentElement.lang || navigator.language));
    const words = await drawing.catch(() => null);
    if (drawing !== this.#drawing) return this.#draw(); // meanwhile another language was asked for
    if (!words) this.#drawing = null; // the next call tries again
    else if (!this.#panel) {
      this.#panel = this.#build(words);
      this.#root.replaceChildren(this.#panel.node);
      this.#tell("ready", {});
    }
    return this.#panel;
  }

  #build({ say, lang, dir }) {
    return new PanelView({
      say,
      lang,
      dir,
      inline: this.hasAttribute("inline"),
      position: this.getAttribute("position") ?? "",
      heading: this.getAttribute("heading") || say("heading"),
      greeting: this.getAttribute("greeting") ?? say("greeting"),
      time: clock(lang),
      renderNow: () => this.#render(),
      draft: (text) => this.#chat?.setDraft(text),
      act: this.#acts(),
    });
  }

  #acts() {
    const chat = () => this.#connect();
    const toEnd = () => this.#panel.log.toEnd();
    return {
      send: (text) => (toEnd(), this.#panel.composer.tell(""), chat().send(text)),
      stop: (id) => chat().stop(id),
      regenerate: (id) => (toEnd(), chat().regenerate(id)),
      edit: (shown) => this.#panel.composer.edit(shown),
      editMessage: (id, text) => (toEnd(), chat().edit(id, text)),
      rate: (id, rating, comment) => chat().rate(id, rating, comment),
      pick: (variants, id) => chat().pick(variants, id),
      retry: (id) => chat().retry(id),
      typing: (on) => chat().type(on),
      older: () => chat().older(),
      wake: () => chat().wake(),
      handoff: () => chat().handoff(),
      conversations: (after) => chat().conversations(after),
      prefers: (name) => chat().prefers(name),
      prefer: (name, on) => chat().prefer(name, on),
      toggle: () => this.toggle(),
      close: () => this.close(),
      list: () => (void this.#panel.toggleList(chat().conversation?.id), this.#changed()),
      switchTo: (id) => (chat().switchTo(id), this.#panel.toggleList(), this.#changed(), toEnd()),
    };
  }

  #clear() {
    this.#panel?.close();
    this.#panel = this.#drawing = null;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  /** Something is new: what counts is counted now, what is seen is drawn with the next frame. */
  #changed() {
    if (!this.#chat || !this.#panel) return;
    if (this.isOpen && !document.hidden) this.#chat.markRead();
    const { unread } = this.#chat;
    this.#title.show(document.hidden ? unread : 0);
    if (unread !== this.#panel.unread) this.#panel.count(unread);
    if (unread !== this.#unread) this.#tell("unread", { count: (this.#unread = unread) });
    if (this.isOpen) this.#frame ||= requestAnimationFrame(() => this.#render());
  }

  #render() {
    this.#frame = 0;
    if (!this.#panel || !this.#chat) return;
    const canHandOff = Boolean(this.#chat.conversation) && this.getAttribute("handoff") !== "off";
    const isStreamed = this.getAttribute("streaming") !== "off" && !this.#chat.prefers("whole");
    this.#panel.render(this.#chat, { canHandOff, isStreamed });
  }
}

function clock(lang) {
  const short = new Intl.DateTimeFormat(lang, { timeStyle: "short" });
  const long = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" });
  return (when, isLong) => make("time", { datetime: when }, (isLong ? long : short).format(new Date(when)));
}
