import assert from "node:assert/strict";
import { test } from "node:test";
import { Thread } from "../../src/parley/widget/thread.js";

const row = (seq, role, id, replaces = null, status = "complete") => ({ id, role, status, row: { id, seq, replaces } });
const ids = (rows) => rows.map(({ id }) => id);
const asked = [row(1, "user", "q1"), row(2, "assistant", "a1")];

test("where nothing was replaced, the same rows stay", () => {
  assert.equal(new Thread().of({}, asked), asked);
});

test("an answer given again stands where its question is, and the ones before can be leafed to", () => {
  const thread = new Thread();
  const messages = {};
  const rows = [...asked, row(3, "assistant", "a2", "a1"), row(4, "assistant", "a3", "a2"), row(5, "user", "q2")];
  const [question, answer, next] = thread.of(messages, rows);
  assert.deepEqual([question.id, answer.id, next.id], ["q1", "a3", "q2"]);
  assert.deepEqual([answer.key, answer.variants], ["a1", ["a1", "a2", "a3"]]);
  thread.pick(answer.variants, "a1");
  assert.deepEqual(ids(thread.of(messages, rows)), ["q1", "a1", "q2"]);
  const again = [...rows.slice(0, 4), row(6, "assistant", "a4", "a3")];
  assert.deepEqual(ids(thread.of({}, again)), ["q1", "a4"], "a new answer is looked at first");
});

test("an edited question takes what answered it along", () => {
  const rows = [...asked, row(3, "assistant", "a2", "a1"), row(4, "user", "q2", "q1"), row(5, "assistant", "a3")];
  assert.deepEqual(ids(new Thread().of({}, rows)), ["q2", "a3"]);
});

test("what is replaced or deleted is not shown, and what replaces something unknown is", () => {
  const rows = [row(1, "user", "q1", null, "deleted"), row(2, "assistant", "a2", "of an older page"), row(3, "assistant", "a3", null, "replaced")];
  assert.deepEqual(ids(new Thread().of({}, rows)), ["a2"]);
});
