/** The head of the panel, and the line below it that says how the connection does. */

import { button, ICONS, make, write } from "./dom.js";

/** Title, state, and the ways out. */
export class HeaderView {
  #say;

  constructor(ctx) {
    const { say, act } = (this.#ctx = ctx);
    this.#say = say;
    this.title = make("h2", { id: "title", dir: "auto" }, ctx.heading);
    this.state = make("p");
    this.list = button(say("list"), ICONS.list, () => act.list(), { class: "flip", "aria-expanded": "false" });
    this.handoff = button(say("handoff"), ICONS.person, () => act.handoff());
    this.node = make(
      "header",
      { part: "header" },
      make("div", {}, this.title, this.state),
      this.list,
      this.handoff,
      !ctx.inline && button(say("close"), ICONS.close, () => act.close(), { part: "close" }),
    );
    this.words = make("span");
    this.now = make("button", { type: "button", class: "plain", onclick: () => act.wake() });
    this.banner = make("div", { class: "banner", part: "banner", hidden: true }, this.words, this.now);
  }

  #ctx;

  /** @param {{status: string, isHuman: boolean, canHandOff: boolean, isListed: boolean, hasBeenOnline: boolean}} how */
  update({ status, isHuman, canHandOff, isListed, hasBeenOnline }) {
    const say = this.#say;
    this.node.className = `is-${status}`;
    const isFirst = status === "connecting" || (status === "reconnecting" && !hasBeenOnline);
    write(this.state, say(isHuman && status === "online" ? "human" : isFirst || status === "reconnecting" ? "connecting" : status));
    const name = say(isHuman ? "bot" : "handoff");
    this.handoff.title = name;
    this.handoff.setAttribute("aria-label", name);
    this.handoff.setAttribute("aria-pressed", String(isHuman));
    this.handoff.hidden = !canHandOff || isListed;
    const list = say(isListed ? "back" : "list");
    this.list.title = list;
    this.list.setAttribute("aria-label", list);
    this.list.setAttribute("aria-expanded", String(isListed));
    this.banner.hidden = status === "online" || isFirst;
    if (this.banner.hidden) return;
    this.banner.classList.toggle("bad", status === "signed-out");
    write(this.words, say(status));
    write(this.now, say("now"));
  }
}
