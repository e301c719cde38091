/** Markdown nodes as DOM nodes, changed only where they changed. Knows no text that could be markup. */

import { make, write } from "./dom.js";

const SAFE = /^(https?:|mailto:)/i;
const PIECE = 1000; // characters of one text node
const LONG = /[^]{1,999}(?:\s|$)|[^]{1,1000}/gu;
const held = new WeakMap(); // what a parent shows
const inside = new WeakMap(); // where the children of a wrapped node stand

/**
 * Show nodes under a parent; while a reply grows this is one append to one text node.
 * @param {Element} parent
 * @param {ReadonlyArray<any>} nodes of markdown.js
 * @param {any} ctx
 */
export function showNodes(parent, nodes, ctx) {
  const was = held.get(parent) ?? [];
  const now = nodes.flatMap((node) => (typeof node === "string" ? pieces(node, ctx.cited) : [node]));
  held.set(parent, now);
  now.forEach((node, at) => {
    const old = was[at];
    if (old === node) return;
    const there = /** @type {any} */ (parent.childNodes[at]);
    if (typeof node === "string" && typeof old === "string") {
      if (node.startsWith(old)) there.appendData(node.slice(old.length));
      else there.data = node;
    } else if (old && old.tag && isSame(old, node)) {
      showNodes(inside.get(there) ?? there, node.children ?? [], ctx);
    } else if (there) there.replaceWith(build(node, ctx));
    else parent.append(build(node, ctx));
  });
  while (parent.childNodes.length > now.length) parent.lastChild?.remove();
}

function isSame(old, node) {
  return old.tag === node.tag && old.href === node.href && old.lang === node.lang && old.start === node.start;
}

/** A text in pieces: where `[2]` names a source, and so short that what was measured once need not be again. */
function pieces(text, count = 0) {
  const cut = count ? text.split(/(\[\d{1,2}\])/).filter(Boolean) : [text];
  return cut.flatMap((piece) => {
    const number = Number(/^\[(\d+)\]$/.exec(piece)?.[1]);
    if (number >= 1 && number <= count) return { tag: "cite", href: number };
    return piece.length > PIECE ? piece.match(LONG) : piece;
  });
}

function build(node, ctx) {
  if (typeof node === "string") return document.createTextNode(node);
  const { tag, children = [] } = node;
  if (tag === "cite") {
    const name = `${ctx.say("sources")} ${node.href}`;
    return make("button", { type: "button", class: "cite", "aria-label": name, onclick: () => ctx.cite(node.href) }, node.href);
  }
  if (tag === "pre") return codeBlock(node, ctx);
  const made = make(tag, { start: node.start > 1 ? node.start : null });
  if (tag === "a" && SAFE.test(node.href)) {
    made.setAttribute("href", node.href);
    made.setAttribute("rel", "noopener noreferrer nofollow ugc");
    made.setAttribute("target", "_blank");
  }
  showNodes(made, children, ctx);
  if (tag !== "table") return made;
  const wide = make("div", { class: "wide", tabindex: "0", role: "group" }, made);
  inside.set(wide, made);
  return wide;
}

function codeBlock(node, ctx) {
  const code = make("code");
  const copy = make("button", { type: "button", class: "plain", onclick: () => copied(copy, code.textContent, ctx) }, ctx.say("copy"));
  const block = make("div", { class: "code" }, copy, make("pre", { tabindex: "0" }, code));
  inside.set(block, code);
  showNodes(code, node.children ?? [], {});
  return block;
}

/** Copy a text, and say so on the button for a moment. */
export async function copied(button, text, ctx) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return; // the page's policy forbids it: the text can still be marked by hand
  }
  ctx.speak(ctx.say("copied"));
  if (button.childElementCount) return;
  write(button, ctx.say("copied"));
  setTimeout(() => write(button, ctx.say("copy")), 2000);
}
