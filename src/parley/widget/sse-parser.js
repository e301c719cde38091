/** A stream of server-sent events: bytes in, events out, however they were cut. Pure, and bounded. */

export const MAX_EVENT_CHARACTERS = 32 * 1024 * 1024; // a reset of 50 of the longest messages, with room

/** Takes bytes as they come, by the rules of the HTML standard. */
export class SseParser {
  #decoder = new TextDecoder(); // drops a byte order mark
  /** @type {string[]} */
  #rest = [];
  /** @type {string[]} */
  #data = [];
  #restSize = 0;
  #dataSize = 0;
  /** @type {string | null} */
  #id = null;
  #holdsReturn = false;
  #max;

  /** @param {number} [max] characters of one event */
  constructor(max = MAX_EVENT_CHARACTERS) {
    this.#max = max;
  }

  /**
   * The events that are complete now, each with the id that came with it or before it; RangeError for what is too long.
   * @param {Uint8Array} bytes
   * @returns {{data: string, id: string | null}[]}
   */
  feed(bytes) {
    const lines = this.#plain(this.#decoder.decode(bytes, { stream: true })).split("\n");
    const tail = lines.pop() ?? "";
    const found = [];
    for (const line of lines) {
      // In pieces: a long line that comes byte by byte must not be copied each time.
      const event = this.#take(this.#rest.length ? this.#rest.join("") + line : line);
      this.#rest = [];
      if (event) found.push(event);
    }
    if (lines.length) this.#restSize = 0;
    if (tail) this.#rest.push(tail);
    this.#restSize += tail.length;
    if (this.#restSize + this.#dataSize > this.#max) throw new RangeError("The event is too long.");
    return found;
  }

  /** @param {string} line */
  #take(line) {
    if (!line) {
      const data = this.#data.join("\n");
      this.#data = [];
      this.#dataSize = 0;
      return data ? { data, id: this.#id } : null;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      this.#data.push(value);
      this.#dataSize += value.length + 1;
    } else if (name === "id" && !value.includes("\0")) this.#id = value || null;
    return null;
  }

  /**
   * A line may end in LF, CR LF or CR; a CR at the end of a read may be half of CR LF.
   * @param {string} text
   */
  #plain(text) {
    if (this.#holdsReturn && text) {
      text = `\r${text}`;
      this.#holdsReturn = false;
    }
    if (text.endsWith("\r")) {
      this.#holdsReturn = true;
      text = text.slice(0, -1);
    }
    return text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
  }
}
