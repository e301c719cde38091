import assert from "node:assert/strict";
import { test } from "node:test";
import { createMarkdown } from "../../src/parley/widget/markdown.js";
import { chance } from "./frames.js";

/** How many times the usual rounds: more in `make soak`, fewer where the same modules run a second time. */
const TIMES = Number(process.env.PARLEY_WIDGET_TIMES ?? 1);
const tree = (text) => createMarkdown()(text);
/** A tree in short: tag(child, child). */
const short = (node) =>
  typeof node === "string" ? JSON.stringify(node) : `${node.tag}${node.href ? `<${node.href}>` : ""}(${node.children.map(short).join(" ")})`;
const brief = (text) => tree(text).map(short).join(" ");
const tags = (nodes) => nodes.flatMap((node) => (typeof node === "string" ? [] : [node.tag, ...tags(node.children)]));
const hrefs = (nodes) => nodes.flatMap((node) => (typeof node === "string" ? [] : [...(node.href ? [node.href] : []), ...hrefs(node.children)]));

const EXAMPLES = {
  "": "",
  "one\ntwo\n\nthree": 'p("one\\ntwo") p("three")',
  "a *b* **c** ***d*** _e_ __f__ ~~g~~": 'p("a " em("b") " " strong("c") " " strong(em("d")) " " em("e") " " strong("f") " " del("g"))',
  "2 * 3 * 4, snake_case_name, ~x~ **": 'p("2 * 3 * 4, snake_case_name, ~x~ **")',
  "**a *b** c*": 'p("**a " em("b") "* c*")',
  "`a*b*` ``x`y`` `": 'p(code("a*b*") " " code("x`y") " `")',
  "\\*no\\* \\q": 'p("*no* \\\\q")',
  "a  \nb\\\nc<br>d": 'p("a  " br() "b" br() "c" br() "d")',
  "# One\n###### Six ##\n#none": 'h1("One") h6("Six") p("#none")',
  "a\n***\nb\n---\n": 'p("a") hr() p("b") hr()',
  "- a\n- b\n  - c\n- d": 'ul(li("a") li("b" ul(li("c"))) li("d"))',
  "3. a\n4) b": 'ol(li("a")) ol(li("b"))',
  "- a\n\n  b\n- c\n\nd": 'ul(li(p("a") p("b")) li("c")) p("d")',
  "1. a\n   ```js\n   x\n   ```\n2. b": 'ol(li("a" pre("x")) li("b"))',
  "in 2024. was\n2. no list": 'p("in 2024. was\\n2. no list")',
  "> a\n> > b\nc": 'blockquote(p("a") blockquote(p("b"))) p("c")',
  "```js x\nlet *a*\n\n``\n```\nb": 'pre("let *a*\\n\\n``") p("b")',
  "```\nunclosed\n# no": 'pre("unclosed\\n# no")',
  "Text:\n| a | b |\n|---|:-:|\n| `x` | 1 \\| 2 |\n\nend": 'p("Text:") table(thead(tr(th("a") th("b"))) tbody(tr(td(code("x")) td("1 | 2")))) p("end")',
  "a | b": 'p("a | b")',
  "[a *b*](https://x.example/p(1)?q \"t\")": 'p(a<https://x.example/p(1)?q>("a " em("b")))',
  "![alt](https://x.example/i.png)": 'p(a<https://x.example/i.png>("alt"))',
  "see (https://x.example/a_b_c). https://x.example/d(e)": 'p("see (" a<https://x.example/a_b_c>("https://x.example/a_b_c") "). " a<https://x.example/d(e)>("https://x.example/d(e)"))',
  "[https://x.example](mailto:a@x.example)": 'p(a<mailto:a@x.example>("https://x.example"))',
  "[1] [a](b) [x]: y": 'p("[1] [a](b) [x]: y")',
  "<script>alert(1)</script>": 'p("<script>alert(1)</script>")',
};
for (const [text, expected] of Object.entries(EXAMPLES))
  test(`reads ${JSON.stringify(text).slice(0, 60)}`, () => assert.equal(brief(text), expected));

test("properties say the language of code, and where a list begins", () => {
  assert.equal(tree("```js x\n```")[0].lang, "js");
  assert.equal(tree("7. a")[0].start, 7);
});

test("only http, https and mailto become links, however they are written", () => {
  for (const href of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:x", "\u0001javascript:x", "data:text/html,x", "vbscript:x", "//evil.example", "file:///x", "https:evil", "blob:https://x/y", "https&#58;//x"])
    for (const text of [`[a](${href})`, `![a](${href})`, `[a](<${href}>)`, `<${href}>`]) assert.deepEqual(hrefs(tree(text)).filter((found) => !/^(https?:\/\/|mailto:)/.test(found)), [], text);
  assert.deepEqual(hrefs(tree("[a](https://x) [b](HTTP://y) [c](mailto:z@z)")), ["https://x", "HTTP://y", "mailto:z@z"]);
});

test("no tag comes out but the known ones", () => {
  const known = new Set("p h1 h2 h3 h4 h5 h6 blockquote hr ul ol li table thead tbody tr th td pre strong em del code br a".split(" "));
  const random = chance(11);
  const signs = ["<img src=x onerror=y>", "![a](https://e.example/?x)", "<svg/onload=x>", "- ", "1. ", "> ", "`", "```", "\n", "\n\n", "*", "**", "_", "[", "](", ")", "|", "|-|-|", "# ", "a", " ", "  ", "\\", "http://b"];
  for (let round = 0; round < 400 * TIMES; round += 1) {
    const text = Array.from({ length: 30 }, () => signs[Math.floor(random() * signs.length)]).join("");
    for (const tag of tags(tree(text))) assert.ok(known.has(tag), tag);
  }
});

test("a text that grows comes to the same tree as the whole, and what stands keeps its identity", () => {
  const random = chance(5);
  const lines = ["- a", "  - b", "1. c", "", "", "text **bold", "more** `x", "| a | b |", "|---|---|", "| 1 | 2 |", "```js", "```", "> q", "# h", "---", "-", "  ", "a\r", "    deep", "- - x", "***"];
  for (let round = 0; round < 60 * TIMES; round += 1) {
    const text = Array.from({ length: 14 }, () => lines[Math.floor(random() * lines.length)]).join("\n");
    const render = createMarkdown();
    let before = [];
    for (let end = 0; end <= text.length; end += 1 + Math.floor(random() * 4)) {
      const nodes = render(text.slice(0, end));
      assert.deepEqual(nodes, tree(text.slice(0, end)));
      before.forEach((node, at) => {
        if (at < before.length - 1 && JSON.stringify(node) === JSON.stringify(nodes[at])) assert.equal(nodes[at], node);
      });
      before = nodes;
    }
  }
});

test("blocks before the last ones do not change as a text grows", () => {
  const blocks = ["# Title", "A paragraph with **bold** text.", "- one\n- two\n  - three", "```js\nlet a = 1;\n\nlet b;\n```", "| a | b |\n|---|---|\n| 1 | 2 |", "> quote", "1. a\n\n   b\n2. c", "Last."];
  const render = createMarkdown();
  const text = blocks.join("\n\n");
  let before = [];
  for (let end = 1; end <= text.length; end += 1) {
    const nodes = render(text.slice(0, end));
    for (let at = 0; at < before.length - 1; at += 1) assert.equal(nodes[at], before[at]);
    before = nodes;
  }
  assert.equal(before.length, blocks.length);
});

test("another text begins anew", () => {
  const render = createMarkdown();
  render("a\n\nb\n\nc\n\nd\n\n");
  assert.deepEqual(render("x"), tree("x"));
});

const HOSTILE = ["a", "*a ", "**a", "***a", "*_", "_a_", "~~a", "[a](", "[", "](", "![", "`", "` ``", "<br", "https://", "https://a.b)", "[x](https://a.b \"", "((", "\\", "| a ", "|-", "- ", "> ", "#", " ", "\t", ")", "1. ", "- a\n", "> a\n", "a\n", "\n", "| a\n", "```\n", "# a\n", "a\n\n", "a|b\n-|-\n", "- - a\n", "  - a\n", "*\n", "-|-\n"];
test("any hostile text is read in time that grows with its length only", () => {
  const timed = (text) => {
    const begun = performance.now();
    tree(text);
    return performance.now() - begun;
  };
  const length = 64_000 * Math.min(TIMES, 2);
  for (const piece of HOSTILE)
    for (const head of ["", "- "]) {
      const whole = head + piece.repeat(length / piece.length);
      // Quadratic would be 64 times the time of an eighth, and half a minute.
      const shortMs = Math.min(timed(whole.slice(0, length / 8)), timed(whole.slice(0, length / 8)));
      const longMs = timed(whole);
      assert.ok(longMs < Math.max(40 * shortMs, 500), `${JSON.stringify(head + piece)}: ${shortMs} ms, then ${longMs} ms`);
    }
});

test("one line of a megabyte, and a fence without an end, are read at once", () => {
  for (const text of ["x".repeat(1_000_000), "x *y* ".repeat(170_000), `\`\`\`\n${"line\n".repeat(200_000)}`]) {
    const begun = performance.now();
    assert.equal(tree(text).length, 1);
    assert.ok(performance.now() - begun < 4000);
  }
});
