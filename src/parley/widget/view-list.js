/** The conversations of this visitor, newest first. */

import { icon, ICONS, make } from "./dom.js";

/** A list that is asked for when it is shown. */
export class ListView {
  #ctx;

  constructor(ctx) {
    this.#ctx = ctx;
    this.node = make("ul", { class: "list", hidden: true, "aria-label": ctx.say("list") });
  }

  /** @param {(after?: string) => Promise<any>} load @param {string | null} current */
  async show(load, current) {
    const { say, act } = this.#ctx;
    const fresh = make("button", { type: "button", class: "fresh", onclick: () => act.switchTo(null) }, icon(ICONS.plus), say("fresh"));
    this.node.replaceChildren(make("li", {}, fresh));
    this.node.hidden = false;
    fresh.focus();
    await this.#page(load, current);
  }

  hide() {
    this.node.hidden = true;
  }

  async #page(load, current, after) {
    const { say, act, time } = this.#ctx;
    const page = await load(after);
    if (!page) return; // told as an error already
    for (const { id, title, active_at } of page.data)
      this.node.append(
        make("li", {}, make("button", { type: "button", "aria-current": id === current && "true", onclick: () => act.switchTo(id) },
          make("span", { dir: "auto" }, title || say("heading")), make("small", {}, time(active_at, true)))),
      );
    if (!page.data.length && !after) this.node.append(make("li", { class: "older" }, say("none")));
    if (!page.has_more) return;
    const more = make("li", {}, make("button", { type: "button", onclick: () => (more.remove(), this.#page(load, current, page.last_id)) }, say("more")));
    this.node.append(more);
  }
}
