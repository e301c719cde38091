import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { ContentMismatch, EMPTY, find, fold, isWhole, shown } from "../../src/parley/widget/state.js";
import { chance, GOLDEN } from "./frames.js";

const folded = (events, state = EMPTY) => events.reduce(fold, state);
const shows = (state) =>
  shown(state).map(({ id, status, content, steps, sources }) => ({ id, status, content, steps, sources }));
const REPEATABLE = new Set(["message", "complete", "conversation", "reset", "ready", "restart"]);
const row = (rev, status, content = "") => ({ id: "r", seq: 1, rev, role: "assistant", status, content, steps: [], sources: [] });
const live = { type: "message", message: row(1, "streaming") };
const token = (content) => ({ type: "token", message_id: "r", content });
const endOf = (text, status = "complete") => ({
  type: "complete",
  message_id: "r",
  status,
  content_length: Buffer.byteLength(text),
  content_sha256: createHash("sha256").update(text).digest("hex"),
});

for (const { name, events, shows: expected, fault } of GOLDEN.folds) {
  if (expected) {
    test(`a history shows what it should: ${name}`, () => assert.deepEqual(shows(folded(events)), expected));
    test(`fold(snapshot, rest) is fold(all), at every cut: ${name}`, () => {
      const all = folded(events);
      for (let cut = 0; cut <= events.length; cut += 1)
        assert.deepEqual(folded(events.slice(cut), structuredClone(folded(events.slice(0, cut)))), all);
    });
    test(`what may be told twice may: ${name}`, () => {
      const twice = events.flatMap((event) => (REPEATABLE.has(event.type) ? [event, event] : [event]));
      assert.deepEqual(shows(folded(twice)), expected);
    });
  } else
    test(`a torn reply is found at its end: ${name}`, () => {
      const before = folded(events.slice(0, -1));
      assert.throws(() => fold(before, events.at(-1)), (error) => error instanceof ContentMismatch && error.code === fault);
    });
}

test("a reset as the server makes it, anywhere, leads to the same end", () => {
  const events = GOLDEN.folds.find(({ name }) => name.startsWith("complete alone")).events;
  for (let cut = 1; cut < events.length; cut += 1) {
    const held = folded(events.slice(0, cut));
    const messages = [...held.messages.values()];
    const reset = { type: "reset", reason: "too_far", conversation: held.conversation, messages, has_more: held.hasMore };
    const replay = events.slice(1, cut).filter(({ message_id: id }) => held.lives.has(id));
    assert.deepEqual(shows(folded([reset, ...replay, ...events.slice(cut)], held)), shows(folded(events)));
  }
});

test("random histories come together from any snapshot, with rows doubled", () => {
  const random = chance(7);
  for (let round = 0; round < 300; round += 1) {
    const pieces = Array.from({ length: Math.floor(random() * 9) }, () => "aü😀\n"[Math.floor(random() * 4)] ?? "x");
    const torn = Math.floor(random() * (pieces.length + 1));
    const events = [live, { type: "start", message_id: "r", attempt: 1, agent: "a", model: "m" }, ...pieces.slice(0, torn).map(token)];
    events.push({ type: "restart", message_id: "r", attempt: 2 }, live, ...pieces.map(token), endOf(pieces.join("")), live);
    const all = folded(events);
    assert.equal(shows(all)[0].content, pieces.join(""));
    const cut = Math.floor(random() * events.length);
    assert.deepEqual(folded([live, ...events.slice(cut)], structuredClone(folded(events.slice(0, cut)))), all);
  }
});

test("a fold changes nothing of the state before", () => {
  for (const { events } of GOLDEN.folds.filter((one) => one.shows)) {
    let state = EMPTY;
    for (const event of events) {
      const copy = structuredClone(state);
      const next = fold(state, event);
      assert.deepEqual(state, copy);
      state = next;
    }
  }
});

test("what did not change is the same object", () => {
  const other = { type: "message", message: { ...row(1, "complete", "x"), id: "q", seq: 0 } };
  const before = folded([live, other]);
  const after = fold(before, token("x"));
  assert.equal(shown(before)[0], shown(after)[0]);
  assert.notEqual(shown(before)[1], shown(after)[1]);
  assert.equal(shown(after)[1], shown(after)[1]);
  assert.equal(fold(after, { type: "sparkle" }), after);
});

test("a row told late does not bring an ended reply back", () => {
  const state = folded([live, token("done"), endOf("done", "stopped"), live, token("more")]);
  assert.deepEqual(shows(state), [{ id: "r", status: "stopped", content: "done", steps: [], sources: [] }]);
});

test("a later attempt without a restart does not keep the text", () => {
  const start = (attempt) => ({ type: "start", message_id: "r", attempt });
  assert.equal(find(folded([live, start(1), token("old"), start(2), token("new")]), "r").content, "new");
});

test("why a reply failed is kept", () => {
  const error = { code: "model_unavailable", message: "No.", retryable: true, param: null };
  assert.deepEqual(find(folded([live, { ...endOf("", "failed"), error }]), "r").row.error, error);
});

test("older messages come in front, and beat nothing that is held", () => {
  const page = [{ ...row(9, "complete", "late"), seq: 1 }, { ...row(1, "complete", "old"), id: "o", seq: 0 }];
  const state = folded([{ type: "message", message: row(10, "complete", "held") }, { type: "older", messages: page, has_more: true }]);
  assert.deepEqual(shown(state).map(({ content }) => content), ["old", "held"]);
  assert.equal(state.hasMore, true);
});

test("typing is known by person, and names of objects are no events", () => {
  const typing = (id, on) => ({ type: "typing", user: { id, name: id.toUpperCase() }, on });
  assert.deepEqual([...folded([typing("a", true), typing("b", true), typing("a", false)]).typing], [["b", "B"]]);
  for (const type of ["toString", "__proto__", "constructor"]) assert.equal(fold(EMPTY, { type }), EMPTY);
});

test("a text is judged by its length and its hash", async () => {
  const text = "Größe 😀";
  assert.equal(await isWhole(text, endOf(text)), true);
  assert.equal(await isWhole("Grüße 😀", endOf(text)), false);
  assert.equal(await isWhole(`${text}!`, endOf(text)), false);
  assert.equal(await isWhole("Grüße 😀", endOf(text), null), true);
});
