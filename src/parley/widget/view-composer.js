/** Where a message is written: draft, Enter, stop, editing. Sends nothing itself. */

import { button, icon, ICONS, make, set, write } from "./dom.js";

const TYPING_ENDS_MS = 4000;

/** The field and its button. */
export class ComposerView {
  #ctx;
  /** @type {string | null} */
  #live = null;
  /** @type {any} */
  #edited = null;
  #pause = 0;

  constructor(ctx) {
    this.#ctx = ctx;
    const { say } = ctx;
    this.field = make("textarea", {
      rows: "1", part: "input", "aria-label": say("field"), placeholder: say("placeholder"), dir: "auto", enterkeyhint: "send",
      oninput: () => this.#typed(), onkeydown: (event) => this.#key(event),
    });
    this.go = button(say("send"), ICONS.send, null, { class: "go flip", part: "send" });
    this.go.type = "submit";
    this.note = make("div", { class: "note", hidden: true });
    const onsubmit = (event) => (event.preventDefault(), this.#submit());
    this.node = make("form", { class: "composer", part: "composer", onsubmit }, this.note, make("div", { class: "box" }, this.field, this.go));
    this.#look();
  }

  /** @param {string | null} live the reply that is being written */
  update(live) {
    if (live === this.#live) return;
    this.#live = live;
    this.#look();
  }

  /** Show a draft that was kept, or came from another tab. */
  setDraft(text) {
    if (this.#edited || this.field.value === text) return;
    this.field.value = text;
    this.#grow();
    this.#look();
  }

  /** Write the last message again. */
  edit(shown) {
    const { say } = this.#ctx;
    const cancel = make("button", { type: "button", class: "plain", onclick: () => this.#leaveEdit() }, say("cancel"));
    this.#edited = shown;
    this.note.replaceChildren(make("span", {}, say("editing")), cancel);
    this.note.hidden = false;
    this.field.value = shown.content;
    this.#grow();
    this.#look();
    this.field.focus();
  }

  /** Leave what was begun; true if there was something. */
  #leaveEdit() {
    this.#edited = null;
    this.note.hidden = true;
    this.field.value = "";
    this.#ctx.draft("");
    this.#grow();
    this.#look();
    this.field.focus();
  }

  #key(event) {
    if (event.key === "Escape" && this.#edited) event.stopPropagation(), this.#leaveEdit();
    // 229 is an input method at work whose Enter only picks a word.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    if (this.field.value.trim()) this.#submit();
  }

  #submit() {
    const text = this.field.value.trim();
    if (!text) return this.#live && this.#ctx.act.stop(this.#live);
    const edited = this.#edited;
    this.#endTyping();
    if (edited) this.#leaveEdit();
    this.field.value = "";
    this.#ctx.draft("");
    this.#grow();
    this.#look();
    if (edited) this.#ctx.act.editMessage(edited.id, text);
    else this.#ctx.act.send(text);
  }

  #typed() {
    this.#grow();
    this.#look();
    if (!this.#edited) this.#ctx.draft(this.field.value);
    this.#ctx.act.typing(true);
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.#endTyping(), TYPING_ENDS_MS);
  }

  #endTyping() {
    clearTimeout(this.#pause);
    this.#ctx.act.typing(false);
  }

  #grow() {
    if (CSS.supports("field-sizing", "content")) return;
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, 144)}px`;
  }

  #look() {
    const { say } = this.#ctx;
    const empty = !this.field.value.trim();
    const stops = Boolean(this.#live) && empty;
    const name = say(stops ? "stop" : "send");
    if (this.go.title !== name || !this.drawn) {
      this.drawn = true;
      this.go.replaceChildren(icon(stops ? ICONS.stop : ICONS.send));
      set(this.go, "aria-label", name);
      this.go.title = name;
    }
    set(this.go, "aria-disabled", String(empty && !stops));
  }

  /** Say something beside the field. */
  tell(text) {
    if (this.#edited) return;
    write(this.note, text);
    this.note.hidden = !text;
  }
}
