/** Which messages stand on the screen: nothing that was replaced, and of the answers to one question one at a time. Pure. */

const GONE = new Set(["replaced", "deleted"]);

/**
 * @typedef {import("./state.js").Shown} Shown
 * @typedef {Shown & {key?: string, seq?: number, variants?: string[]}} Placed `key` and `seq` stay while answers are leafed
 *   through; `variants`: all answers to its question, oldest first, where there are several
 * @typedef {{hidden: Set<string>, groups: Map<string, string[]>}} Shape `groups`: by the newest of them
 */

/** What somebody looks at, of one conversation after another. */
export class Thread {
  /** @type {Map<string, string>} */
  #picks = new Map();
  /** @type {WeakMap<object, Shape>} */
  #shapes = new WeakMap();

  /**
   * @param {object} messages what the shape is remembered by
   * @param {Shown[]} rows in order
   * @returns {Placed[]}
   */
  of(messages, rows) {
    let shape = this.#shapes.get(messages);
    if (!shape) this.#shapes.set(messages, (shape = shapeOf(rows)));
    const { hidden, groups } = shape;
    if (!hidden.size) return rows;
    /** @type {Map<string, Shown>} */
    const before = new Map();
    return rows.flatMap((one) => {
      if (hidden.has(one.id)) return before.set(one.id, one), [];
      const variants = groups.get(one.id);
      if (!variants) return one;
      const picked = before.get(this.#picks.get(one.id) ?? "") ?? one;
      return { ...picked, key: variants[0], seq: one.row.seq, variants };
    });
  }

  /** Show another answer to the same question. @param {string[]} variants @param {string} id one of them */
  pick(variants, id) {
    this.#picks.set(variants[variants.length - 1], id);
  }
}

/**
 * An edited question takes what answered it along; an answer given again stands for the one before.
 * @param {Shown[]} rows
 * @returns {Shape}
 */
function shapeOf(rows) {
  const places = new Map(rows.map(({ row }) => [row.id, row.seq]));
  const groups = new Map();
  const spans = [];
  for (const { id, role, row } of rows) {
    if (!places.has(row.replaces)) continue;
    if (role === "user") spans.push([places.get(row.replaces), row.seq]);
    else {
      groups.set(id, [...(groups.get(row.replaces) ?? [row.replaces]), id]);
      groups.delete(row.replaces);
    }
  }
  const older = new Set([...groups.values()].flatMap((variants) => variants.slice(0, -1)));
  const isHidden = (/** @type {any} */ { id, status, row: { seq } }) =>
    GONE.has(status) || older.has(id) || spans.some(([from, to]) => seq >= from && seq < to);
  return { hidden: new Set(rows.filter(isHidden).map(({ id }) => id)), groups };
}
