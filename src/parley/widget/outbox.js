/** Questions that are not rows yet: kept over a reload, until the server has them. Sends nothing. */

/**
 * @typedef {{code: string, message: string, retryable: boolean}} Fault
 * @typedef {{clientId: string, conversationId: string | null, content: string, createdAt: string,
 *   status: "waiting" | "sent" | "failed", error?: Fault}} Question `sent`: stored, its row is on its way
 */

/** Of all conversations of one user. */
export class Outbox {
  /** @type {readonly Question[]} */
  questions;
  #storage;
  #key;

  /**
   * @param {import("./tabs.js").Store} storage
   * @param {string} key
   */
  constructor(storage, key) {
    this.#storage = storage;
    this.#key = key;
    this.questions = this.#read();
  }

  /** @param {Question} question */
  add(question) {
    this.questions = [...this.questions, question];
    this.#write((kept) => [...kept, question]);
  }

  /**
   * @param {string} clientId
   * @param {Partial<Question>} change
   */
  change(clientId, change) {
    const apply = (/** @type {readonly Question[]} */ questions) =>
      questions.map((one) => (one.clientId === clientId ? { ...one, ...change } : one));
    this.questions = apply(this.questions);
    this.#write((kept) => apply(kept).filter(({ status }) => status !== "sent"));
  }

  /** @param {(question: Question) => boolean} isDone */
  drop(isDone) {
    const done = new Set(this.questions.filter(isDone).map(({ clientId }) => clientId));
    if (!done.size) return;
    this.questions = this.questions.filter(({ clientId }) => !done.has(clientId));
    this.#write((kept) => kept.filter(({ clientId }) => !done.has(clientId)));
  }

  /** @returns {Question[]} */
  #read() {
    try {
      const kept = JSON.parse(this.#storage.getItem(this.#key) ?? "[]");
      return Array.isArray(kept) ? kept.filter(({ clientId, content }) => clientId && content) : [];
    } catch {
      return [];
    }
  }

  /** Other tabs keep theirs in the same place. @param {(kept: Question[]) => readonly Question[]} change */
  #write(change) {
    const kept = change(this.#read());
    if (kept.length) this.#storage.setItem(this.#key, JSON.stringify(kept));
    else this.#storage.removeItem(this.#key);
  }
}
