/**
 * Markdown as a tree, while it grows: `const render = createMarkdown(); nodes = render(text)`. Pure; makes no HTML.
 *
 * A node is a text, or {tag, children, ...}: p h1..h6 blockquote hr ul ol(start) li table thead tbody tr th td
 * pre(lang, one text) strong em del code br a(href: http, https or mailto). HTML is text, images are links. Blocks that
 * did not change are the same objects in the next tree. Time is linear in what was not finished the last time.
 *
 * @typedef {string | {tag: string, children: Node[], [property: string]: any}} Node
 * @typedef {{node: Node, end: number, seen: number}} Block `end`: the first line behind it; `seen`: the line that said so
 */

const DEPTH = 12; // of lists and quotes
const SPANS = 24; // of open emphasis
const FENCE = /^\s*(`{3,}|~{3,})([^`]*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)/;
const TARGET = /\(\s*<?([^\s<>()]{0,2000}(?:\([^\s<>()]{0,500}\)[^\s<>()]{0,500}){0,8})>?(?:\s{1,9}"[^"\n]{0,200}")?\s{0,9}\)/y;
const MARKS = /[\\`*_~[\]!<\n]|https?:\/\//g;
const ADDRESS = /https?:\/\/[^\s<>"`[\]]+/y;

/** @returns {(text: string) => Node[]} */
export function createMarkdown() {
  let done = ""; // of the text, what lies in finished blocks
  /** @type {Node[]} */
  let finished = [];
  /** @type {{source: string, node: Node}[]} */
  let open = [];
  return (given) => {
    const text = given.includes("\r") ? given.replace(/\r\n?/g, "\n") : given;
    if (!text.startsWith(done)) [done, finished, open] = ["", [], []];
    const lines = text.slice(done.length).split("\n");
    const blocks = blocksOf(lines, 0);
    const before = open;
    let start = 0;
    let at = 0;
    open = [];
    for (const { node, end, seen } of blocks) {
      const source = lines.slice(start, end).join("\n");
      const same = before[at]?.source === source ? before[at].node : node;
      at += 1;
      // The last line may still grow, and a table is known by its second line only.
      if (seen + 1 < lines.length - 1 && !open.length) {
        finished.push(same);
        done = text.slice(0, done.length + source.length + 1);
        start = end;
      } else {
        open.push({ source, node: same });
        start = end;
      }
    }
    return [...finished, ...open.map(({ node }) => node)];
  };
}

/**
 * @param {string[]} lines
 * @param {number} depth
 */
function blocksOf(lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const block = fence(lines, at) ?? heading(lines, at) ?? rule(lines, at) ?? container(lines, at, depth) ?? table(lines, at);
    blocks.push(block ?? paragraph(lines, at));
    at = blocks[blocks.length - 1].end;
  }
  return blocks;
}

/**
 * @param {string} tag
 * @param {Node[]} [children]
 * @param {Record<string, any>} [properties]
 * @returns {Node}
 */
function make(tag, children = [], properties) {
  return { tag, children, ...properties };
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {Block | null}
 */
function fence(lines, at) {
  const opening = FENCE.exec(lines[at]);
  if (!opening) return null;
  const [, marks, info] = opening;
  const margin = indentOf(lines[at]);
  let end = at + 1;
  const isClosing = (/** @type {string} */ line) =>
    line.length >= marks.length && line.startsWith(marks) && !line.replaceAll(marks[0], "");
  while (end < lines.length && !isClosing(lines[end].trim())) end += 1;
  const code = lines.slice(at + 1, end).map((line) => line.slice(Math.min(margin, indentOf(line))));
  const node = make("pre", code.length ? [code.join("\n")] : [], { lang: info.trim().split(/\s/, 1)[0] });
  return { node, end: Math.min(end + 1, lines.length), seen: end };
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {Block | null}
 */
function heading(lines, at) {
  const level = /^ {0,3}(#{1,6})(?:\s|$)/.exec(lines[at])?.[1].length;
  if (!level) return null;
  let text = lines[at].trim().slice(level).trim();
  let last = text.length;
  while (text[last - 1] === "#") last -= 1;
  if (last === 0 || text[last - 1] === " ") text = text.slice(0, last);
  return { node: make(`h${level}`, inline(text.trim())), end: at + 1, seen: at + 1 };
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {Block | null}
 */
function rule(lines, at) {
  if (!/^ {0,3}[-*_]/.test(lines[at])) return null;
  const isRule = /^(?:-{3,}|\*{3,}|_{3,})$/.test(lines[at].replace(/\s/g, ""));
  return isRule ? { node: make("hr"), end: at + 1, seen: at + 1 } : null;
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 * @returns {Block | null}
 */
function container(lines, at, depth) {
  if (depth >= DEPTH) return null;
  if (/^ {0,3}>/.test(lines[at])) {
    let end = at;
    const inner = [];
    for (; end < lines.length && /^ {0,3}>/.test(lines[end]); end += 1) inner.push(lines[end].trimStart().replace(/^> ?/, ""));
    return { node: make("blockquote", nodesOf(inner, depth)), end, seen: end };
  }
  return ITEM.test(lines[at]) ? list(lines, at, depth) : null;
}

/**
 * @param {string[]} lines
 * @param {number} depth
 */
function nodesOf(lines, depth) {
  return blocksOf(lines, depth + 1).map(({ node }) => node);
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 * @returns {Block}
 */
function list(lines, at, depth) {
  const first = /** @type {RegExpExecArray} */ (ITEM.exec(lines[at]));
  const kind = first[2].slice(-1); // a list of another mark is another list
  const margin = first[1].length;
  /** @type {string[][]} */
  const items = [];
  let inset = 0;
  let end = at;
  let seen = at;
  for (; seen < lines.length; seen += 1) {
    const line = lines[seen];
    const indent = indentOf(line);
    const item = indent < margin + 2 && !rule(lines, seen) ? ITEM.exec(line) : null;
    if (item?.[2].endsWith(kind)) {
      inset = item[0].length - Math.max(item[3].length - 1, 0);
      items.push([line.slice(item[0].length)]);
    } else if (!line.trim()) {
      items[items.length - 1].push("");
      continue;
    } else if (indent >= margin + 2) items[items.length - 1].push(line.slice(Math.min(indent, inset)));
    // A line that begins nothing goes on with the paragraph before it.
    else if (end === seen && !item && !begins(lines, seen)) items[items.length - 1].push(line.trimStart());
    else break;
    end = seen + 1;
  }
  const children = items.map((item) => make("li", tight(nodesOf(item, depth))));
  const start = parseInt(first[2], 10);
  return { node: kind === "." || kind === ")" ? make("ol", children, { start }) : make("ul", children), end, seen };
}

/**
 * An item of one paragraph shows it without space around it.
 * @param {Node[]} nodes
 */
function tight(nodes) {
  const isParagraph = (/** @type {any} */ node) => node.tag === "p";
  return nodes.filter(isParagraph).length > 1 ? nodes : nodes.flatMap((/** @type {any} */ node) => (isParagraph(node) ? node.children : [node]));
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {Block | null}
 */
function table(lines, at) {
  if (!isTable(lines, at)) return null;
  const width = cells(lines[at]).length;
  const row = (/** @type {string} */ line, /** @type {string} */ tag) =>
    make("tr", cells(line).slice(0, width).map((cell) => make(tag, inline(cell))));
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const body = lines.slice(at + 2, end).map((line) => row(line, "td"));
  const head = make("thead", [row(lines[at], "th")]);
  return { node: make("table", body.length ? [head, make("tbody", body)] : [head]), end, seen: end };
}

/**
 * @param {string[]} lines
 * @param {number} at
 */
function isTable(lines, at) {
  const under = lines[at + 1];
  if (!lines[at].includes("|") || !under?.includes("-") || !/^[\s|:-]+$/.test(under)) return false;
  const marks = cells(under);
  return marks.every((mark) => /^:?-+:?$/.test(mark)) && marks.length === cells(lines[at]).length;
}

/** @param {string} line */
function cells(line) {
  const found = [""];
  for (const piece of line.trim().split(/(\\\||\|)/)) {
    if (piece === "|") found.push("");
    else found[found.length - 1] += piece === "\\|" ? "|" : piece;
  }
  if (!found[0].trim()) found.shift();
  if (found.length && !found[found.length - 1].trim()) found.pop();
  return found.map((cell) => cell.trim());
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {Block}
 */
function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !begins(lines, end)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join("\n");
  return { node: make("p", inline(text.trimEnd())), end, seen: end };
}

/**
 * Whether another block begins within a paragraph; a number in it is no list.
 * @param {string[]} lines
 * @param {number} at
 */
function begins(lines, at) {
  const line = lines[at];
  return FENCE.test(line) || /^ {0,3}(?:#{1,6}(?:\s|$)|>)|^\s*(?:[-*+]|1[.)])\s+\S/.test(line) || Boolean(rule(lines, at)) || isTable(lines, at);
}

/** @param {string} line */
function indentOf(line) {
  return line.length - line.trimStart().length;
}

/**
 * @param {string} text
 * @returns {Node[]}
 */
function inline(text) {
  return new Inline(text).parse();
}

/** One pass over a text; what opens stands on a stack until it is closed, and is text when it is not. */
class Inline {
  /** @type {Node[]} */
  #out = [];
  /** @type {{kind: string, at: number}[]} */
  #openers = [];
  /** @type {Map<number, number[]> | null} */
  #ticks = null;
  #at = 0;
  #text;

  /** @param {string} text */
  constructor(text) {
    this.#text = text;
  }

  parse() {
    const text = this.#text;
    while (this.#at < text.length) {
      MARKS.lastIndex = this.#at;
      const found = MARKS.exec(text);
      const next = found?.index ?? text.length;
      if (next > this.#at) this.#put(text.slice(this.#at, next));
      this.#at = next;
      if (found) this.#mark(found[0]);
    }
    return joined(this.#out);
  }

  /** @param {string} mark */
  #mark(mark) {
    const text = this.#text;
    const after = text[this.#at + 1] ?? "";
    if (mark === "`") return this.#code();
    if (mark === "*" || mark === "_" || mark === "~") return this.#emphasis(mark);
    if (mark === "[" || (mark === "!" && after === "[")) return this.#openLink(mark);
    if (mark === "]") return this.#closeLink();
    if (mark.length > 1) return this.#address();
    if (mark === "\\" && /[!-/:-@[-`{-~]/.test(after)) return this.#put(after, 2);
    if (mark === "\\" && after === "\n") return this.#put(make("br"), 2);
    if (mark === "\n") {
      const last = this.#out[this.#out.length - 1];
      if (typeof last === "string" && last.endsWith("  ")) return this.#put(make("br"), 1);
    }
    const br = mark === "<" && /^<br ?\/?>/i.exec(text.slice(this.#at, this.#at + 6));
    return br ? this.#put(make("br"), br[0].length) : this.#put(mark, 1);
  }

  /**
   * @param {Node} node
   * @param {number} [length] of what it stands for
   */
  #put(node, length = 0) {
    this.#out.push(node);
    this.#at += length;
  }

  #code() {
    if (!this.#ticks) {
      this.#ticks = new Map();
      for (const { 0: { length }, index } of this.#text.matchAll(/`+/g)) {
        const places = this.#ticks.get(length);
        if (places) places.push(index);
        else this.#ticks.set(length, [index]);
      }
      for (const places of this.#ticks.values()) places.reverse();
    }
    let end = this.#at;
    while (this.#text[end] === "`") end += 1;
    const length = end - this.#at;
    const places = this.#ticks.get(length) ?? [];
    while (places.length && places[places.length - 1] <= this.#at) places.pop();
    const close = places[places.length - 1];
    if (close === undefined) return this.#put(this.#text.slice(this.#at, end), length);
    const code = this.#text.slice(end, close).replaceAll("\n", " ");
    const isPadded = code.startsWith(" ") && code.endsWith(" ") && code.trim();
    this.#put(make("code", [isPadded ? code.slice(1, -1) : code]), close + length - this.#at);
  }

  /** @param {string} mark */
  #emphasis(mark) {
    const text = this.#text;
    let end = this.#at;
    while (text[end] === mark) end += 1;
    let left = end - this.#at;
    const [before, after] = [text[this.#at - 1] ?? " ", text[end] ?? " "];
    if (left > 3 || (mark === "~" && left !== 2)) return this.#put(text.slice(this.#at, end), left);
    this.#at = end;
    const isInWord = mark === "_" && isWord(before) && isWord(after);
    const canOpen = !isInWord && !/\s/.test(after) && (isWord(after) || !isWord(before));
    const canClose = !isInWord && !/\s/.test(before) && (isWord(before) || !isWord(after));
    while (canClose && left) {
      const kind = this.#nearest(mark, left);
      if (!kind) break;
      this.#wrap(kind, make(kind.length === 1 ? "em" : mark === "~" ? "del" : "strong"));
      left -= kind.length;
    }
    for (; left; left -= Math.min(left, 2)) {
      const kind = mark.repeat(Math.min(left, 2));
      if (canOpen) this.#open(kind, kind);
      else this.#put(kind);
    }
  }

  /**
   * @param {string} mark
   * @param {number} left
   */
  #nearest(mark, left) {
    // Bounded, because the stack is.
    for (let at = this.#openers.length - 1; at >= 0; at -= 1) {
      const { kind } = this.#openers[at];
      if (kind[0] === mark && kind.length <= left) return kind;
    }
    return null;
  }

  /**
   * @param {string} kind
   * @param {string} shown while it is not closed
   */
  #open(kind, shown) {
    if (this.#openers.length < SPANS) this.#openers.push({ kind, at: this.#out.length });
    this.#put(shown);
  }

  /**
   * @param {string} kind
   * @param {any} node takes what stands behind the opener
   */
  #wrap(kind, node) {
    let opener = this.#openers.pop();
    while (opener && opener.kind !== kind) opener = this.#openers.pop();
    if (!opener) return;
    node.children = joined(this.#out.splice(opener.at).slice(1));
    this.#out.push(node);
  }

  /** @param {string} mark */
  #openLink(mark) {
    this.#at += mark.length + (mark === "!" ? 1 : 0);
    this.#open("[", mark === "!" ? "![" : "[");
  }

  #closeLink() {
    const isOpen = this.#openers.some(({ kind }) => kind === "[");
    TARGET.lastIndex = this.#at + 1;
    const target = isOpen && this.#text[this.#at + 1] === "(" ? TARGET.exec(this.#text) : null;
    const href = target && address(target[1]);
    if (!href) {
      // What is in brackets and no link stays what it is.
      if (isOpen) this.#openers.splice(this.#openers.map(({ kind }) => kind).lastIndexOf("["), 1);
      return this.#put("]", 1);
    }
    this.#at += 1 + target[0].length;
    this.#wrap("[", make("a", [], { href }));
    const link = /** @type {any} */ (this.#out[this.#out.length - 1]);
    link.children = joined(link.children.flatMap(plain));
    if (!link.children.length) link.children = [href];
  }

  #address() {
    ADDRESS.lastIndex = this.#at;
    const before = this.#text[this.#at - 1] ?? " ";
    let found = isWord(before) ? "" : (ADDRESS.exec(this.#text)?.[0] ?? "").slice(0, 2000);
    // What ends a sentence, or closes what stands around it, is no part of it.
    while (/[.,:;!?'")*_~\]|]/.test(found.slice(-1)) && !(found.endsWith(")") && found.includes("("))) found = found.slice(0, -1);
    const href = address(found);
    if (href) this.#put(make("a", [found], { href }), found.length);
    else this.#put("http", 4);
  }
}

/** @param {string} sign */
function isWord(sign) {
  return !/[\s!-/:-@[-`{-~\u2010-\u2027\u3001-\u3003]/.test(sign);
}

/**
 * The address, if it is of a kind that may stand here; null for every other.
 * @param {string} text
 */
function address(text) {
  const bare = text.replace(/[\0- \u007f-\u009f]/g, "");
  return /^(?:https?:\/\/[^/]|mailto:.)/i.test(bare) ? bare : null;
}

/**
 * A link in a link is its text.
 * @param {any} node
 * @returns {Node[]}
 */
function plain(node) {
  if (typeof node === "string") return [node];
  const children = node.children.flatMap(plain);
  return node.tag === "a" ? children : [{ ...node, children }];
}

/**
 * Texts side by side as one.
 * @param {Node[]} nodes
 */
function joined(nodes) {
  /** @type {Node[]} */
  const found = [];
  /** @type {string[]} */
  let texts = [];
  const flush = () => {
    if (texts.length) found.push(texts.join(""));
    texts = [];
  };
  for (const node of nodes) {
    if (typeof node === "string") texts.push(node);
    else {
      flush();
      found.push(node);
    }
  }
  flush();
  return found.filter((node) => node !== "");
}
