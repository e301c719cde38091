/** The messages of a conversation: keyed, following the end while it is in sight, paged upwards. */

import { icon, ICONS, make, set, write } from "./dom.js";
import { MessageView } from "./view-message.js";

const STRETCH = 32; // messages
const NEAR_PX = 48; // so close to the end, a reader wants to see what comes

/** The list and its scrolling. */
export class LogView {
  #ctx;
  #views = new Map();
  #stretches = new Map();
  /** @type {any[]} */
  #shown = [];
  #newest = "";
  #follows = true;
  #pages = false;
  /** @type {{node: Element, top: number} | null} what must not move while a page comes in above it */
  #held = null;

  constructor(ctx) {
    this.#ctx = ctx;
    const { say } = ctx;
    this.greeting = make("article", { class: "assistant" }, make("div", { class: "bubble", dir: "auto" }, ctx.greeting));
    this.older = make("div", { class: "older" });
    this.list = make("div", {});
    this.typing = make("div", { class: "older", dir: "auto" });
    const content = make("div", {}, this.older, this.greeting, this.list, this.typing);
    this.log = make("div", { class: "log", part: "log", role: "log", "aria-live": "off", "aria-label": say("messages"), tabindex: "0" }, content);
    this.latest = make("button", { type: "button", class: "latest", part: "latest", hidden: true, onclick: () => this.toEnd() }, icon(ICONS.down), say("latest"));
    this.node = make("div", { class: "stage" }, this.log, this.latest);
    this.log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // Runs after layout and before paint: following the end costs no layout of its own.
    this.watch = new ResizeObserver(() => (this.#follows ? this.toEnd() : this.#hold()));
    this.watch.observe(content);
    this.watch.observe(this.log);
    this.sight = new IntersectionObserver((seen) => seen.at(-1)?.isIntersecting && this.#page(), { root: this.log, rootMargin: "200px 0px 0px" });
  }

  /** @param {any[]} messages in order @param {{hasMore: boolean, typing: string}} around */
  update(messages, { hasMore, typing }) {
    const [was, newest] = [this.#shown, messages.findLast(({ role, status }) => role === "user" && status !== "waiting")?.id];
    const isArranged = newest === this.#newest && was.length === messages.length && messages.every((one, at) => keyOf(one) === keyOf(was[at]));
    this.#shown = messages;
    this.#newest = newest;
    // While an answer grows nothing else changes, however much stands above it.
    if (isArranged) messages.forEach((one, at) => one !== was[at] && this.#update(one));
    else this.#arrange(messages);
    this.greeting.hidden = hasMore || !this.#ctx.greeting;
    set(this.log, "aria-busy", messages.some(({ isLive }) => isLive) && "true");
    write(this.typing, typing);
    if (hasMore !== this.hasMore) this.#watchTop(hasMore);
  }

  #update(shown) {
    const key = keyOf(shown);
    let view = this.#views.get(key);
    if (!view) this.#views.set(key, (view = new MessageView(this.#ctx)));
    view.update(shown, { isLast: shown === this.#shown.at(-1), isNewest: shown.id === this.#newest });
    return view.node;
  }

  /** Put every message in its place: in stretches, of which a browser leaves out those that are not in sight. */
  #arrange(messages) {
    const keys = new Set();
    /** @type {any} */
    let stretch = null;
    /** @type {any} */
    let next = null;
    for (const shown of messages) {
      keys.add(keyOf(shown));
      const number = Math.floor((shown.seq ?? shown.row.seq ?? Infinity) / STRETCH);
      if (stretch?.number !== number) {
        const after = stretch ? stretch.nextSibling : this.list.firstChild;
        stretch = this.#stretches.get(number) ?? Object.assign(make("div", { class: "stretch" }), { number });
        this.#stretches.set(number, stretch);
        if (stretch !== after) this.list.insertBefore(stretch, after);
        next = stretch.firstChild;
      }
      const node = this.#update(shown);
      if (node === next) next = next.nextSibling;
      else stretch.insertBefore(node, next);
    }
    for (const [key, view] of this.#views) if (!keys.has(key)) view.node.remove(), this.#views.delete(key);
    for (const [number, node] of this.#stretches) if (!node.firstChild) node.remove(), this.#stretches.delete(number);
  }

  /** What a message says, as plain text. */
  textOf(id) {
    for (const view of this.#views.values()) if (view.shown.id === id) return view.bubble.innerText || view.bubble.textContent;
    return "";
  }

  toEnd() {
    this.#follows = true;
    this.latest.hidden = true;
    this.log.scrollTop = this.log.scrollHeight;
  }

  close() {
    this.watch.disconnect();
    this.sight.disconnect();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.log;
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    this.latest.hidden = this.#follows;
  }

  #watchTop(hasMore) {
    this.hasMore = hasMore;
    if (hasMore) this.sight.observe(this.older);
    else this.sight.unobserve(this.older);
  }

  /** Bring the page before; what is read stays where it is, also when what came is measured. */
  async #page() {
    if (this.#pages || !this.log.isConnected) return;
    this.#pages = true;
    write(this.older, this.#ctx.say("older"));
    await this.#ctx.act.older();
    this.#held = this.#follows ? null : this.#seen();
    this.log.style.overflowAnchor = "none";
    this.#ctx.renderNow();
    write(this.older, "");
    this.#hold();
    requestAnimationFrame(() => requestAnimationFrame(() => this.#paged()));
  }

  #paged() {
    this.#held = null;
    this.log.style.overflowAnchor = "";
    this.#pages = false;
    this.sight.unobserve(this.older); // seen again, if it is still in sight
    if (this.hasMore) this.sight.observe(this.older);
  }

  /** The message at the upper edge. */
  #seen() {
    const { left, top, width } = this.log.getBoundingClientRect();
    const root = /** @type {ShadowRoot} */ (this.log.getRootNode());
    const node = root.elementFromPoint(left + width / 2, top + NEAR_PX)?.closest("article") ?? this.list.firstElementChild;
    return node && { node, top: node.getBoundingClientRect().top };
  }

  #hold() {
    if (this.#held) this.log.scrollTop += this.#held.node.getBoundingClientRect().top - this.#held.top;
  }
}

/** A question keeps its place when its row comes, and so do answers that are leafed through. */
function keyOf({ key, row, id }) {
  return key ?? row.client_id ?? id;
}
