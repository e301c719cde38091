/** The title of the page, with the number of unread messages before it; whatever else the page writes there stays. */
export class PageTitle {
  #prefix = "";

  /** @param {number} unread */
  show(unread) {
    const prefix = unread ? `(${unread}) ` : "";
    if (prefix === this.#prefix) return;
    const title = document.title.startsWith(this.#prefix) ? document.title.slice(this.#prefix.length) : document.title;
    this.#prefix = prefix;
    document.title = prefix + title;
  }
}
