/** What stands behind the conversation: the other ones of this visitor, newest first, and what they prefer. */

import { icon, ICONS, make } from "./dom.js";

const PREFERENCES = ["sound", "whole"];

/** A list that is asked for when it is shown. */
export class ListView {
  #ctx;

  constructor(ctx) {
    this.#ctx = ctx;
    this.list = make("ul", { "aria-label": ctx.say("list") });
    this.node = make("div", { class: "list", hidden: true }, this.list, ...PREFERENCES.map((name) => this.#preference(name)));
  }

  /** @param {string} [current] */
  async show(current) {
    const { say, act } = this.#ctx;
    const fresh = make("button", { type: "button", class: "fresh", onclick: () => act.switchTo(null) }, icon(ICONS.plus), say("fresh"));
    this.list.replaceChildren(make("li", {}, fresh));
    for (const box of this.node.querySelectorAll("input")) box.checked = act.prefers(box.name);
    this.node.hidden = false;
    fresh.focus();
    await this.#page(current);
  }

  async #page(current, after) {
    const { say, act, time } = this.#ctx;
    const page = await act.conversations(after);
    if (!page) return; // told as an error already
    for (const { id, title, active_at } of page.data)
      this.list.append(
        make("li", {}, make("button", { type: "button", "aria-current": id === current && "true", onclick: () => act.switchTo(id) },
          make("span", { dir: "auto" }, title || say("heading")), make("small", {}, time(active_at, true)))),
      );
    if (!page.data.length && !after) this.list.append(make("li", { class: "older" }, say("none")));
    if (!page.has_more) return;
    const more = make("li", {}, make("button", { type: "button", onclick: () => (more.remove(), this.#page(current, page.last_id)) }, say("more")));
    this.list.append(more);
  }

  #preference(name) {
    const box = make("input", { type: "checkbox", name, onchange: () => this.#ctx.act.prefer(name, box.checked) });
    return make("label", {}, box, this.#ctx.say(name));
  }
}
