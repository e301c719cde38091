import assert from "node:assert/strict";
import { test } from "node:test";
import { readEvent } from "../../src/parley/widget/protocol.js";
import { SseParser } from "../../src/parley/widget/sse-parser.js";
import { chance, GOLDEN } from "./frames.js";

const bytes = (text) => new TextEncoder().encode(text);
const feed = (parser, text) => parser.feed(bytes(text));

for (const { name, body, cursor, sse } of GOLDEN.frames)
  test(`a frame comes out as it went in, however it is cut: ${name}`, () => {
    const whole = bytes(`:\n\n${sse}data: [DONE]\n\n`);
    const random = chance(3);
    for (let round = 0; round < 50; round += 1) {
      const parser = new SseParser();
      const found = [];
      for (let at = 0; at < whole.length; ) {
        const next = at + 1 + Math.floor(random() * 9) * (round % 3);
        found.push(...parser.feed(whole.subarray(at, next)));
        at = next;
      }
      assert.deepEqual(found.map(({ data }) => data).at(-1), "[DONE]");
      assert.deepEqual(readEvent(found[0].data, found[0].id), { event: JSON.parse(body), cursor });
    }
  });

test("lines end in LF, CR LF or CR", () => {
  for (const end of ["\n", "\r\n", "\r"])
    assert.deepEqual(feed(new SseParser(), `id: 1${end}data: a${end}data:b${end}${end}data: c${end}${end}data: d`).slice(0, 2), [
      { data: "a\nb", id: "1" },
      ...(end === "\r" ? [{ data: "c", id: "1" }] : [{ data: "c", id: "1" }]),
    ]);
  const slow = new SseParser();
  assert.deepEqual([..."data: a\rdata: b\r\rx"].flatMap((sign) => feed(slow, sign)), [{ data: "a\nb", id: null }]);
  const parser = new SseParser();
  assert.deepEqual(feed(parser, "data: a\r"), []);
  assert.deepEqual(feed(parser, "\n\r"), []);
  assert.deepEqual(feed(parser, "\ndata"), [{ data: "a", id: null }]);
});

test("comments, other fields, a byte order mark and empty events are passed over", () => {
  const found = feed(new SseParser(), "\ufeffevent: x\nretry: 5\n:data: no\nfoo\ndata: a\n\n\n\nid: 2\n\nid: a\0b\ndata\ndata: b\n\n");
  assert.deepEqual(found, [{ data: "a", id: null }, { data: "\nb", id: "2" }]);
});

test("a character cut in two is put together", () => {
  const parser = new SseParser();
  const whole = bytes("data: 😀\n\n");
  assert.deepEqual([...parser.feed(whole.subarray(0, 8)), ...parser.feed(whole.subarray(8))], [{ data: "😀", id: null }]);
});

test("an event without an end is cut off, a long stream of short ones is not", () => {
  const endless = new SseParser(1000);
  assert.throws(() => {
    for (let time = 0; time < 1001; time += 1) feed(endless, "x");
  }, RangeError);
  const lines = new SseParser(1000);
  assert.throws(() => {
    for (let time = 0; time < 600; time += 1) feed(lines, "data: x\n");
  }, RangeError);
  const many = new SseParser(1000);
  for (let time = 0; time < 2000; time += 1) assert.equal(feed(many, "data: 0123456789\n\n").length, 1);
});

test("a long line that comes in small pieces costs no more than its length", () => {
  const parser = new SseParser();
  const piece = bytes("x".repeat(10));
  const begun = performance.now();
  feed(parser, "data: ");
  for (let time = 0; time < 200_000; time += 1) parser.feed(piece);
  assert.equal(feed(parser, "\n\n")[0].data.length, 2_000_000);
  assert.ok(performance.now() - begun < 5000);
});
