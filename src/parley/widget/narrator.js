/** What is told to those who listen: that an answer begins, and what it says once it is whole; never token by token. */

import { make } from "./dom.js";

const CHARACTERS_AT_ONCE = 3000; // more is read in the log

/** Speaks through a live region of its own. */
export class Narrator {
  #say;
  #spoken = null;

  constructor(say) {
    this.#say = say;
    this.node = make("div", { class: "said", role: "status", "aria-live": "polite", "aria-atomic": "false" });
  }

  speak(text) {
    const cut = new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(text.slice(0, CHARACTERS_AT_ONCE));
    const sentences = Array.from(cut, ({ segment }) => segment.trim()).filter(Boolean);
    this.node.replaceChildren(...sentences.map((sentence) => make("p", {}, sentence)));
  }

  /** @param {any} live the reply that is being written @param {any[]} messages @param {(id: string) => string} textOf */
  follow(live, messages, textOf) {
    if (live) {
      if (live.id !== this.#spoken) this.speak(this.#say("answering"));
      this.#spoken = live.id;
    } else if (this.#spoken) {
      const ended = messages.find(({ id }) => id === this.#spoken);
      this.#spoken = null;
      if (ended) this.speak(ended.status === "failed" ? this.#say("broken") : textOf(ended.id));
    }
  }
}
