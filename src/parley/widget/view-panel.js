/** The launcher and the panel it opens: puts the views together, and draws them. Decides nothing. */

import { button, icon, ICONS, make, set, write } from "./dom.js";
import { Narrator } from "./narrator.js";
import { ComposerView } from "./view-composer.js";
import { HeaderView } from "./view-header.js";
import { ListView } from "./view-list.js";
import { LogView } from "./view-log.js";

/** Where the panel covers the page. */
export const SMALL = matchMedia("(max-width: 520px)");

/** All that is seen of a widget. */
export class PanelView {
  #ctx;
  #end = new AbortController();
  #hasBeenOnline = false;

  constructor(given) {
    const { say, act, inline, position, dir, lang } = given;
    this.say = say;
    const ctx = (this.#ctx = { ...given, speak: (text) => this.speak(text) });
    this.header = new HeaderView(ctx);
    this.log = new LogView(ctx);
    this.list = new ListView(ctx);
    this.composer = new ComposerView(ctx);
    this.narrator = new Narrator(say);
    this.badge = make("span", { class: "badge", part: "badge", hidden: true, "aria-hidden": "true" });
    this.launcher = button("", ICONS.chat, () => act.toggle(), { class: "launcher", part: "launcher", "aria-haspopup": "dialog", hidden: inline });
    this.launcher.append(this.badge);
    this.dialog = make("dialog", { part: "panel", "aria-labelledby": "title" }, this.header.node, this.header.banner, this.log.node, this.list.node, this.composer.node);
    this.dialog.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && (event.preventDefault(), this.#escape()));
    this.dialog.addEventListener("cancel", (event) => (event.preventDefault(), this.#escape()));
    this.node = make("div", { class: `root ${position}`, dir, lang }, this.launcher, this.dialog, this.narrator.node);
    const { signal } = this.#end;
    SMALL.addEventListener("change", () => this.isOpen && (this.hide(), this.show()), { signal });
    visualViewport?.addEventListener("resize", () => this.#fit(), { signal });
    this.count(0);
  }

  get isOpen() {
    return this.dialog.open;
  }

  get isListed() {
    return !this.list.node.hidden;
  }

  show() {
    if (SMALL.matches && !this.#ctx.inline) this.dialog.showModal();
    else this.dialog.open = true; // `show()` would take the focus, also for another tab's sake
    this.#fit();
    this.#name();
    this.log.toEnd();
  }

  hide() {
    this.dialog.close();
    this.#name();
  }

  /** @param {number} unread */
  count(unread) {
    this.unread = unread;
    this.badge.hidden = !unread;
    write(this.badge, unread > 99 ? "99+" : String(unread));
    this.#name();
  }

  speak(text) {
    if (this.isOpen && text) this.narrator.speak(text);
  }

  /** Say that something failed. */
  tell(text) {
    this.composer.tell(text);
    this.speak(text);
  }

  /** @param {string} [current] the conversation that is open */
  toggleList(current) {
    const isListed = (this.log.node.hidden = this.composer.node.hidden = !this.isListed);
    if (isListed) return this.list.show(current);
    this.list.node.hidden = true;
    this.composer.field.focus();
  }

  /** @param {any} chat a Controller @param {{canHandOff: boolean, isStreamed: boolean}} how */
  render(chat, { canHandOff, isStreamed }) {
    const { messages, status, conversation, hasMore, typing, draft } = chat;
    const live = messages.findLast(({ isLive, role }) => isLive && role === "assistant");
    this.#hasBeenOnline ||= status === "online";
    this.header.update({ status, isHuman: conversation?.mode === "human", canHandOff, isListed: this.isListed, hasBeenOnline: this.#hasBeenOnline });
    const typed = typing.map((person) => this.say("typing", { name: person })).join(" ");
    this.log.update(isStreamed ? messages : messages.map(unstreamed), { hasMore, typing: typed });
    this.composer.update(live?.id ?? null);
    this.composer.setDraft(draft);
    if (this.isOpen) this.narrator.follow(live, messages, (id) => this.log.textOf(id));
  }

  close() {
    this.#end.abort();
    this.log.close();
    this.node.remove();
  }

  #escape() {
    if (this.isListed) this.#ctx.act.list();
    else this.#ctx.act.close();
  }

  #name() {
    const { say } = this;
    const name = [say(this.isOpen ? "close" : "open"), this.unread && say("unread", { n: this.unread })].filter(Boolean).join(", ");
    set(this.launcher, "aria-label", name);
    set(this.launcher, "aria-expanded", String(this.isOpen));
    this.launcher.title = name;
    this.launcher.firstChild.replaceWith(icon(this.isOpen ? ICONS.down : ICONS.chat));
  }

  /** A keyboard on the screen takes room from the panel, not from the page below it. */
  #fit() {
    if (this.isOpen && SMALL.matches) this.dialog.style.setProperty("--_view", `${visualViewport?.height ?? innerHeight}px`);
  }
}

function unstreamed(message) {
  return message.isLive ? { ...message, content: "" } : message;
}
