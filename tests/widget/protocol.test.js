import assert from "node:assert/strict";
import { test } from "node:test";
import { faultOf, newClientId, nextMove, readEvent, refOf } from "../../src/parley/widget/protocol.js";
import { GOLDEN, spelled } from "./frames.js";

for (const { name, body, cursor, ws } of GOLDEN.frames)
  test(`a frame is read: ${name}`, () => {
    assert.deepEqual(readEvent(ws), { event: JSON.parse(body), cursor });
  });

for (const { name, body } of GOLDEN.events)
  test(`an event is read as it was written: ${name}`, () => {
    assert.deepEqual(readEvent(JSON.stringify(body)).event, body);
  });

test("what is no event is null", () => {
  for (const text of ["", "x", "null", "1", "[]", '"ready"', "{}", '{"type":1}', new ArrayBuffer(2), undefined])
    assert.equal(readEvent(text), null);
});

test("each close code has the move that the server expects", () => {
  for (const [code, move] of Object.entries(GOLDEN.close_codes)) assert.equal(nextMove(Number(code)), move);
  for (const code of [1006, 1005, 4999]) assert.equal(nextMove(code), "come_back");
});

test("an answer is named as the server names it", () => {
  for (const { command, ref } of GOLDEN.commands) assert.equal(refOf(command), ref);
});

test("what the server would refuse is refused here, for the same reason", () => {
  const texts = GOLDEN.errors.filter(({ error }) => error.param === "content").flatMap(({ frame, error }) => {
    const { type, content } = JSON.parse(spelled(frame));
    return type === "chat" && typeof content === "string" ? [[content, error.code]] : [];
  });
  assert.ok(texts.length >= 5);
  for (const [content, code] of [...texts, ["\ud800", "invalid_text"], ["x\udc00", "invalid_text"]])
    assert.equal(faultOf(content), code);
  for (const { command } of GOLDEN.commands) if (command.content) assert.equal(faultOf(spelled(command.content)), null);
});

test("names of commands are such as the server takes, and never the same", () => {
  const names = new Set(Array.from({ length: 100 }, newClientId));
  assert.equal(names.size, 100);
  for (const name of names) assert.match(name, /^[A-Za-z0-9_-]{32}$/);
});
