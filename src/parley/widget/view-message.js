/** One message: bubble, tool chips, sources, marks and what can be done with it. Keeps no state of the conversation. */

import { button, icon, ICONS, make, set, write } from "./dom.js";
import { createMarkdown } from "./markdown.js";
import { copied, showNodes } from "./view-markdown.js";

/** A message on the screen. `update` writes only what changed. */
export class MessageView {
  #ctx;
  /** @type {ReturnType<typeof createMarkdown> | null} */
  #markdown = null;
  #keys = {};
  #sources = [];
  /** @type {Element | null} */
  #rating = null;

  constructor(ctx) {
    this.#ctx = ctx;
    this.who = make("div", { class: "who", hidden: true });
    this.chips = make("ul", { class: "chips", hidden: true });
    this.bubble = make("div", { class: "bubble", dir: "auto" });
    this.sources = make("ol", { class: "sources", hidden: true });
    this.meta = make("div", { class: "meta" });
    this.node = make("article", {}, this.who, this.chips, this.bubble, this.sources, this.meta);
  }

  /** @param {any} shown @param {{isLast: boolean, isNewest: boolean}} place */
  update(shown, place) {
    if (this.shown === shown && this.#is("place", `${place.isLast}${place.isNewest}`)) return;
    this.shown = shown;
    if (!this.#is("id", shown.id)) this.#ask(false);
    const { role, status, isLive } = shown;
    const name = shown.row.author?.name;
    if (!this.#is("frame", `${role}${status}${name}`)) this.#frame(role, status, isLive, name);
    if (!this.#is("sources", JSON.stringify(shown.sources))) this.#showSources(shown.sources);
    if (!this.#is("chips", JSON.stringify(shown.steps))) this.#showChips(shown.steps);
    if (!this.#is("text", `${shown.content}\0${shown.label}\0${isLive}\0${this.#sources.length}`)) this.#showText(shown);
    const rating = shown.row.feedback?.rating;
    if (!this.#is("meta", [shown.id, status, rating, place.isLast, place.isNewest, shown.variants].join())) this.#showMeta(shown, place);
  }

  #is(name, key) {
    const was = this.#keys[name];
    this.#keys[name] = key;
    return was === key;
  }

  #frame(role, status, isLive, name) {
    const { say } = this.#ctx;
    this.node.className = `${role} ${isLive ? "live" : status}`;
    this.node.setAttribute("part", `message ${role}`);
    this.bubble.setAttribute("part", `bubble ${role}-bubble`);
    if (role !== "notice") set(this.node, "aria-label", role === "operator" ? name : say(role === "user" ? "you" : "assistant"));
    this.who.hidden = role !== "operator";
    write(this.who, name ?? "");
  }

  #showText({ role, content, label, isLive }) {
    const { bubble } = this;
    const waits = isLive && !content;
    bubble.hidden = !content && !isLive;
    bubble.classList.toggle("caret", isLive && !waits);
    if (waits) {
      this.#markdown = null;
      const dots = make("span", { class: "dots" }, make("i"), make("i"), make("i"));
      showNodes(bubble, [], {});
      bubble.replaceChildren(dots, make("span", { class: "label" }, label || ""));
    } else if (role === "user" || role === "notice") write(bubble, content);
    else {
      if (!this.#markdown) {
        this.#markdown = createMarkdown();
        bubble.replaceChildren();
      }
      const ctx = { ...this.#ctx, cited: this.#sources.length, cite: (number) => this.#openSource(number) };
      showNodes(bubble, this.#markdown(content), ctx);
    }
  }

  #showChips(steps) {
    this.chips.hidden = !steps.length;
    this.chips.replaceChildren(
      ...steps.map(({ name, label, ok, summary }) =>
        make("li", { class: ok === false && "bad", title: summary || null }, icon(ok == null ? ICONS.tool : ok ? ICONS.sent : ICONS.failed), label || name),
      ),
    );
  }

  #showSources(sources) {
    this.#sources = sources;
    this.sources.hidden = !sources.length;
    set(this.sources, "aria-label", this.#ctx.say("sources"));
    this.sources.replaceChildren(
      ...sources.map(({ number, title, url, excerpt }) => {
        const link = /^https?:/i.test(url ?? "") && make("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow ugc" }, url);
        const head = make("summary", {}, make("b", {}, String(number)), make("span", { dir: "auto" }, title));
        return make("li", {}, make("details", {}, head, make("p", { dir: "auto" }, excerpt), link && make("p", {}, link)));
      }),
    );
  }

  #openSource(number) {
    const at = this.#sources.findIndex((source) => source.number == number);
    const details = this.sources.children[at]?.firstChild;
    if (!details) return;
    details.open = true;
    details.firstChild.focus();
    details.scrollIntoView({ block: "nearest" });
  }

  #showMeta(shown, place) {
    const { say, act } = this.#ctx;
    const { role, status, row, isLive } = shown;
    const parts = [];
    const bad = status === "failed";
    if (role === "user") {
      const mark = { waiting: "sending", failed: "failed" }[status] ?? "sent";
      if (row.created_at) parts.push(this.#ctx.time(row.created_at));
      parts.push(icon(ICONS[mark]), make("span", { class: status === "complete" ? "said" : "" }, say(mark)));
      if (bad) parts.push(make("button", { type: "button", class: "plain", onclick: () => act.retry(shown.id) }, say("retry")));
      else if (place.isNewest && status !== "waiting") parts.push(tools(button(say("edit"), ICONS.edit, () => act.edit(shown))));
    } else if (role !== "notice" && !isLive) {
      parts.push(this.#ctx.time(row.created_at));
      if (status === "stopped") parts.push(" · ", say("stopped"));
      if (bad) parts.push(" · ", say("broken"));
      if (shown.variants) parts.push(this.#variants(shown));
      if (role === "assistant") parts.push(this.#tools(shown, place));
    }
    const focused = [...this.meta.querySelectorAll("button")].indexOf(this.meta.getRootNode().activeElement);
    this.meta.replaceChildren(...parts);
    this.meta.classList.toggle("bad", bad);
    this.meta.hidden = !parts.length;
    if (focused >= 0) this.meta.querySelectorAll("button")[focused]?.focus();
  }

  /** Leaf through what was answered to the same question. */
  #variants({ id, variants }) {
    const { say, act } = this.#ctx;
    const at = variants.indexOf(id);
    const leaf = (name, to) =>
      button(say(name), ICONS[name], () => variants[to] && act.pick(variants, variants[to]), { class: "flip", "aria-disabled": String(!variants[to]) });
    const name = say("variant", { n: at + 1, of: variants.length });
    return make("div", { class: "tools variants", role: "group", "aria-label": name }, leaf("before", at - 1), `${at + 1}/${variants.length}`, leaf("after", at + 1));
  }

  #tools({ id, content, row, status, variants }, place) {
    const { say, act } = this.#ctx;
    const rated = row.feedback?.rating;
    const rate = (rating) => {
      this.#ask(rating === "down" && rated !== "down");
      act.rate(id, rated === rating ? null : rating);
    };
    const copy = button(say("copy"), ICONS.copy, () => copied(copy, content, this.#ctx));
    return tools(
      content && copy,
      place.isLast && button(say("again"), ICONS.again, () => act.regenerate(variants?.at(-1) ?? id)),
      status !== "failed" && button(say("good"), ICONS.good, () => rate("up"), { "aria-pressed": String(rated === "up") }),
      status !== "failed" && button(say("bad"), ICONS.bad, () => rate("down"), { "aria-pressed": String(rated === "down") }),
    );
  }

  /** Ask why an answer was bad; nobody has to say. */
  #ask(wanted) {
    this.#rating?.remove();
    if (!wanted) return;
    const { say, act, speak } = this.#ctx;
    const field = make("textarea", { rows: "2", maxlength: "2000", "aria-label": say("why"), placeholder: say("why") });
    const close = () => (form.remove(), this.meta.querySelector("[aria-pressed=true]")?.focus());
    const onsubmit = (event) => {
      event.preventDefault();
      if (field.value.trim()) act.rate(this.shown.id, "down", field.value.trim());
      speak(say("thanks"));
      close();
    };
    const cancel = make("button", { type: "button", class: "plain", onclick: close }, say("cancel"));
    const form = make("form", { class: "why", onsubmit }, field, make("div", {}, cancel, make("button", { class: "solid" }, say("send"))));
    this.#rating = form;
    this.node.append(form);
    field.focus();
  }
}

function tools(...buttons) {
  return make("div", { class: "tools" }, ...buttons);
}
