/** The messages of a conversation: keyed, following the end while it is in sight, paged upwards. */

import { icon, ICONS, make, set, write } from "./dom.js";
import { MessageView } from "./view-message.js";

const NEAR_PX = 48; // so close to the end, a reader wants to see what comes

/** The list and its scrolling. */
export class LogView {
  #ctx;
  #views = new Map();
  #follows = true;
  #pages = false;

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
    this.watch = new ResizeObserver(() => this.#follows && this.toEnd());
    this.watch.observe(content);
    this.watch.observe(this.log);
    this.sight = new IntersectionObserver((seen) => seen.at(-1).isIntersecting && this.#page(), { root: this.log, rootMargin: "200px 0px 0px" });
  }

  /** @param {ReadonlyArray<any>} messages in order @param {{hasMore: boolean, typing: string}} around */
  update(messages, { hasMore, typing }) {
    const users = messages.filter(({ role, status }) => role === "user" && status !== "waiting");
    const newest = users.at(-1)?.id;
    const last = messages.at(-1)?.id;
    const keys = new Set();
    let next = this.list.firstChild;
    for (const shown of messages) {
      const key = shown.row.client_id ?? shown.id; // a question keeps its place when its row comes
      keys.add(key);
      let view = this.#views.get(key);
      if (!view) this.#views.set(key, (view = new MessageView(this.#ctx)));
      view.update(shown, { isLast: shown.id === last, isNewest: shown.id === newest });
      if (view.node === next) next = next.nextSibling;
      else this.list.insertBefore(view.node, next);
    }
    for (const [key, view] of this.#views) if (!keys.has(key)) view.node.remove(), this.#views.delete(key);
    this.greeting.hidden = hasMore || !this.#ctx.greeting;
    set(this.log, "aria-busy", messages.some(({ isLive }) => isLive) && "true");
    write(this.typing, typing);
    if (hasMore !== this.hasMore) this.#watchTop(hasMore);
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

  /** Bring the page before; what is read stays where it is. */
  async #page() {
    if (this.#pages || !this.log.isConnected) return;
    this.#pages = true;
    write(this.older, this.#ctx.say("older"));
    await this.#ctx.act.older();
    const first = this.list.firstElementChild;
    const was = first?.getBoundingClientRect().top;
    this.log.style.overflowAnchor = "none";
    this.#ctx.renderNow();
    write(this.older, "");
    if (first && !this.#follows) this.log.scrollTop += first.getBoundingClientRect().top - was;
    requestAnimationFrame(() => {
      this.log.style.overflowAnchor = "";
      this.#pages = false;
      this.sight.unobserve(this.older); // seen again, if it is still in sight
      if (this.hasMore) this.sight.observe(this.older);
    });
  }
}
