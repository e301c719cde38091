import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, CAP_MS, Interrupted, LATER_MS, LONGEST_MS, ofClose, ofStatus, RENEWALS, STEADY_MS } from "../../src/parley/widget/backoff.js";

const LOST = ofClose(1006);

test("waits grow to a cap and are spread", () => {
  const backoff = new Backoff();
  const waits = Array.from({ length: 20 }, () => backoff.waitMs(LOST, 0, 0.999));
  assert.deepEqual(waits, waits.toSorted((one, other) => one - other));
  assert.ok(waits[0] > 400 && waits[0] < 500);
  assert.ok(Math.abs(waits.at(-1) - CAP_MS) < 100);
  assert.equal(backoff.waitMs(LOST, 0, 0), 0);
});

test("a connection that held, or somebody who waits, makes the next wait short", () => {
  const backoff = new Backoff();
  for (let time = 0; time < 10; time += 1) backoff.waitMs(LOST, 0, 0.5);
  assert.ok(backoff.waitMs(LOST, STEADY_MS, 0.5) < 500);
  for (let time = 0; time < 10; time += 1) backoff.waitMs(LOST, 0, 0.5);
  backoff.reset();
  assert.ok(backoff.waitMs(LOST, 0, 0.5) < 500);
});

test("what the server asked for is kept to", () => {
  assert.equal(new Backoff().waitMs(new Interrupted("come_back", "draining", "", { waitMs: 1500 }), 0, 0.9), 1500);
  const waitMs = new Backoff().waitMs(ofStatus(503, "7"), 0, 0.5);
  assert.ok(waitMs >= 7000 && waitMs < 8000);
  assert.ok(new Backoff().waitMs(ofStatus(503, "9999999"), 0, 0.5) <= LONGEST_MS + 1000);
  for (const value of ["", "-1", "soon", "1e9", "²", null, "Wed, 21 Oct 2026 07:28:00 GMT"])
    assert.equal(ofStatus(503, value).retryAfterMs, 0);
});

test("who is told to stay away does, and later is not at once", () => {
  for (const code of [4400, 4403, 4404, 1000]) assert.equal(new Backoff().waitMs(ofClose(code), 0, 0.5), null);
  for (const code of [4408, 4429, 1009]) assert.ok(new Backoff().waitMs(ofClose(code), 0, 0) >= LATER_MS);
});

test("tokens are renewed only so often in a row", () => {
  const backoff = new Backoff();
  for (let time = 0; time < RENEWALS; time += 1) assert.notEqual(backoff.waitMs(ofClose(4401), 0, 0.5), null);
  assert.equal(backoff.waitMs(ofClose(4401), 0, 0.5), null);
});

test("a refusal over HTTP says what to do", () => {
  const moves = { 401: "renew", 403: "stay_away", 404: "stay_away", 422: "stay_away", 429: "come_back", 500: "come_back", 503: "come_back" };
  for (const [status, move] of Object.entries(moves)) assert.equal(ofStatus(Number(status), null).move, move);
  assert.equal(ofStatus(409, null, { code: "busy", message: "Wait." }).code, "busy");
  assert.equal(ofStatus(409, null, { code: 1 }).code, "http_409");
});
