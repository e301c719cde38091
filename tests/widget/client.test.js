import assert from "node:assert/strict";
import { after, afterEach, beforeEach, mock, test } from "node:test";
import { createClient } from "../../src/parley/widget/client.js";
import { shown } from "../../src/parley/widget/state.js";
import { answers, complete, problem, row, settle, sockets, store, stream, token, told, until } from "./doubles.js";

const LIVE = [row("q", 1, "user", "complete", "Hi"), row("r", 2, "assistant", "streaming")];
let client;
const printed = [];
for (const name of ["log", "info", "warn", "error", "debug"]) console[name] = (...words) => printed.push(words.join(" "));

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"] }));
afterEach(() => {
  client?.close();
  mock.timers.reset();
});
after(() => assert.deepEqual(printed.filter((line) => !line.includes("ExperimentalWarning")), []));

function begin(options = {}, routes = {}) {
  const net = sockets();
  const http = answers({ "POST /auth/ticket": { ticket: "t" }, ...routes });
  const heard = { errors: [], statuses: [], events: [] };
  client = createClient({ origin: "https://chat.example/", getToken: () => "token", conversationId: "k", WebSocket: net.Socket, fetch: http.fetch, random: () => 0.5, ...options });
  client.addEventListener("error", ({ detail }) => heard.errors.push(detail));
  client.addEventListener("status", () => heard.statuses.push(client.status));
  client.addEventListener("event", ({ detail }) => heard.events.push(detail?.type));
  client.connect();
  return { net, http, heard };
}
const texts = () => shown(client.state).map(({ content }) => content);
const pass = async (ms) => {
  mock.timers.tick(ms);
  await settle();
};

test("a socket is opened with a ticket, and an answer comes whole", async () => {
  const { net, http, heard } = begin();
  await settle();
  assert.equal(net.last().url.href, "wss://chat.example/chat/ws/k?ticket=t");
  assert.equal(http.asked[0].headers.Authorization, "Bearer token");
  net.last().welcome(LIVE);
  net.last().tell(token("r", "Hel"), "c1");
  net.last().tell(token("r", "lo"), "c2");
  net.last().tell(complete("r", "Hello"), "c3");
  await settle();
  assert.deepEqual(texts(), ["Hi", "Hello"]);
  assert.deepEqual(heard.statuses.at(-1), "online");
  assert.deepEqual(heard.errors, []);
});

test("a lost connection comes back where it was, under another ticket", async () => {
  const { net, http } = begin();
  await settle();
  net.last().welcome(LIVE);
  net.last().tell(token("r", "Hel"), "c1");
  net.last().end(1006);
  assert.equal(client.status, "reconnecting");
  assert.equal(client.retryAt, Date.now() + 250);
  await pass(250);
  assert.equal(net.opened.length, 2);
  assert.equal(net.last().url.searchParams.get("cursor"), "c1");
  assert.equal(http.of("/auth/ticket").length, 2);
  net.last().tell({ type: "ready", conversation: { id: "k" }, user: { id: "u" }, heartbeat_s: 25 });
  net.last().tell(token("r", "lo"), "c2");
  assert.deepEqual(texts(), ["Hi", "Hello"]);
});

for (const [name, wrong] of [["another length", "Helo"], ["another text", "Hallo"]])
  test(`a reply of ${name} is told, and read again without a cursor`, async () => {
    const { net, heard } = begin();
    for (const retryable of [true, false]) {
      await settle();
      net.last().welcome(LIVE);
      net.last().tell(token("r", wrong), "c1");
      net.last().tell(complete("r", "Hello"), "c2");
      await until(() => heard.errors.at(-1)?.retryable === retryable);
      assert.equal(heard.errors.at(-1).code, "content_mismatch");
      assert.equal(heard.errors.at(-1).retryable, retryable);
      if (retryable) await pass(300);
    }
    assert.equal(net.opened.length, 2);
    assert.equal(net.last().url.searchParams.has("cursor"), false);
    assert.equal(shown(client.state)[1].isLive, false);
  });

test("who leaves while a ticket is bought opens nothing", async () => {
  let sell;
  const { net } = begin({}, { "POST /auth/ticket": () => new Promise((done) => (sell = done)) });
  await settle();
  client.close();
  sell({ ticket: "t" });
  await settle();
  assert.equal(net.opened.length, 0);
});

test("a question waits, is sent again at each reconnect under one name, and becomes a row", async () => {
  const storage = store();
  const { net } = begin({ storage });
  const clientId = client.send("Where?");
  assert.deepEqual(client.outbox.map(({ content, status }) => [content, status]), [["Where?", "waiting"]]);
  await settle();
  net.last().welcome();
  assert.deepEqual(net.last().sent, [{ type: "chat", client_id: clientId, content: "Where?" }]);
  net.last().end(1006);
  await pass(300);
  net.last().welcome();
  assert.equal(net.last().sent[0].client_id, clientId);
  net.last().tell({ type: "ack", ref: clientId, message_id: "q", reply_id: "r", duplicate: true });
  await settle();
  assert.equal(client.outbox[0].status, "sent");
  assert.equal(storage.kept.has("parley::outbox"), false);
  net.last().tell(told(row("q", 1, "user", "complete", "Where?", { client_id: clientId })), "c1");
  assert.deepEqual(client.outbox, []);
  net.last().end(1006);
  await pass(1000);
  net.last().welcome();
  assert.deepEqual(net.last().sent, []);
});

test("an unsent question survives a reload", async () => {
  const storage = store();
  begin({ storage, conversationId: "k" });
  const clientId = client.send("Where?");
  client.close();
  const { net } = begin({ storage, conversationId: "k" });
  assert.equal(client.outbox[0].clientId, clientId);
  await settle();
  net.last().welcome();
  assert.deepEqual(net.last().sent, [{ type: "chat", client_id: clientId, content: "Where?" }]);
});

test("a first question makes its conversation once, and the next page comes back to it", async () => {
  const storage = store();
  let tries = 0;
  const make = () => (++tries < 3 ? problem(503, "unavailable") : { id: "made" });
  const { net, http } = begin({ storage, conversationId: null }, { "POST /chat/conversations": make });
  assert.equal(client.status, "online");
  const clientId = client.send("First");
  client.send("Second");
  await settle();
  await pass(300);
  await pass(600);
  assert.deepEqual(new Set(http.of("/chat/conversations").map(({ body }) => body.client_id)), new Set([`c_${clientId}`]));
  assert.equal(client.conversationId, "made");
  await settle();
  net.last().welcome();
  assert.deepEqual(net.last().sent.map(({ content }) => content), ["First", "Second"]);
  assert.equal(storage.kept.get("parley::conversation"), "made");
});

test("a question that is refused is marked, and goes again when asked to", async () => {
  const { net } = begin();
  await settle();
  net.last().welcome();
  const clientId = client.send("Where?");
  net.last().tell({ type: "error", ref: clientId, error: { code: "rate_limited", message: "Wait.", retryable: true, param: null } });
  await settle();
  assert.equal(client.outbox[0].status, "failed");
  assert.equal(client.outbox[0].error.code, "rate_limited");
  client.retry(clientId);
  assert.equal(net.last().sent.length, 2);
  client.discard(clientId);
  assert.deepEqual(client.outbox, []);
});

test("commands are answered, or told to have failed; none rejects", async () => {
  const { net, heard } = begin();
  await settle();
  net.last().welcome(LIVE);
  const stopped = client.stop("r");
  net.last().tell({ type: "ack", ref: "r", message_id: "r", reply_id: "r", duplicate: false });
  assert.equal(await stopped, true);
  const edited = client.edit("q", "Other");
  net.last().tell({ type: "error", ref: net.last().sent.at(-1).client_id, error: { code: "not_last", message: "No.", retryable: false, param: null } });
  assert.equal(await edited, false);
  assert.equal(heard.errors.at(-1).code, "not_last");
  const rated = client.rate("r", "up");
  await pass(30_000);
  assert.equal(await rated, false);
  assert.equal(heard.errors.at(-1).code, "no_answer");
  assert.equal(client.send("  "), null);
  assert.equal(heard.errors.at(-1).code, "empty");
});

test("typing is told at once, then seldom", async () => {
  const { net } = begin();
  await settle();
  net.last().welcome();
  for (let key = 0; key < 10; key += 1) client.typing(true);
  mock.timers.tick(3100);
  client.typing(true);
  client.typing(false);
  client.typing(false);
  assert.deepEqual(net.last().sent.map(({ on }) => on), [true, true, false]);
});

for (const [code, fresh, status] of [[4401, true, "reconnecting"], [4403, false, "offline"], [4400, false, "offline"], [1012, undefined, "reconnecting"]])
  test(`close ${code} does what the server expects`, async () => {
    const asked = [];
    const { net } = begin({ getToken: (isRefused) => (asked.push(isRefused), "token") });
    await settle();
    net.last().welcome();
    net.last().end(code);
    assert.equal(client.status, status);
    await pass(1000);
    assert.equal(net.opened.length, status === "offline" ? 1 : 2);
    if (fresh) assert.deepEqual(asked, [false, true]);
  });

test("later comes late", async () => {
  const { net } = begin();
  await settle();
  net.last().welcome();
  net.last().end(4429);
  await pass(4900);
  assert.equal(net.opened.length, 1);
  await pass(5000);
  assert.equal(net.opened.length, 2);
});

test("a token that is refused again and again signs out, and a person may try anew", async () => {
  const { net, heard } = begin({}, { "POST /auth/ticket": () => problem(401, "token_expired") });
  for (let time = 0; time < 8; time += 1) await pass(30_000);
  assert.equal(client.status, "signed-out");
  assert.equal(net.opened.length, 0);
  assert.equal(heard.errors.at(-1).code, "token_expired");
  client.wake();
  assert.equal(client.status, "connecting");
  await settle();
});

test("a draining server is left when it asks", async () => {
  const { net } = begin();
  await settle();
  net.last().welcome();
  net.last().tell({ type: "draining", reconnect_in_ms: 1500 });
  await pass(1400);
  assert.equal(net.opened.length, 1);
  await pass(101);
  await pass(1);
  assert.equal(net.opened.length, 2);
  net.last().welcome();
  net.last().tell({ type: "draining", reconnect_in_ms: 1500 });
  net.last().end(1012);
  assert.equal(client.retryAt, Date.now() + 1500);
});

test("a silent socket is asked, and left when it does not answer", async () => {
  const { net } = begin();
  await settle();
  const first = net.last();
  first.welcome();
  await pass(25_000);
  assert.deepEqual(first.sent, [{ type: "ping" }]);
  first.tell({ type: "pong" });
  await pass(10_000);
  assert.equal(client.status, "online");
  await pass(25_000);
  await pass(10_000);
  assert.equal(client.status, "reconnecting");
  assert.equal(first.readyState, 3);
});

test("who comes back to the page does not wait", async () => {
  let news;
  const { net } = begin({ watch: (told) => ((news = told), () => undefined) });
  await settle();
  net.last().welcome();
  for (let time = 0; time < 5; time += 1) {
    net.last().end(1011);
    if (time < 4) await pass(30_000);
  }
  const count = net.opened.length;
  news("awake");
  await settle();
  assert.equal(net.opened.length, count + 1);
  net.last().welcome();
  news("awake");
  assert.deepEqual(net.last().sent, [{ type: "ping" }]);
  await pass(3000);
  assert.equal(client.status, "reconnecting");
});

test("what the server asked for is hastened by a person only", async () => {
  let news;
  const { net } = begin({ watch: (told) => ((news = told), () => undefined) });
  await settle();
  net.last().welcome();
  net.last().end(4429);
  news("awake");
  await settle();
  assert.equal(net.opened.length, 1);
  client.wake();
  await settle();
  assert.equal(net.opened.length, 2);
});

test("as another user the same conversation is opened anew, and nothing is lost", async () => {
  const { net } = begin();
  await settle();
  net.last().welcome();
  const clientId = client.send("Hi");
  client.reconnect();
  await settle();
  assert.equal(net.opened.length, 2);
  assert.equal(net.opened[0].readyState, 3);
  net.last().welcome();
  assert.equal(net.last().sent[0].client_id, clientId);
});

test("without a network it says so, and comes back with it", async () => {
  let news;
  const { net } = begin({ watch: (told) => ((news = told), () => undefined) });
  await settle();
  net.last().welcome();
  news("offline");
  assert.equal(client.status, "offline");
  news("online");
  await settle();
  net.last().welcome();
  assert.equal(client.status, "online");
});

test("where sockets are blocked a stream carries events, and HTTP the commands", async () => {
  const first = stream();
  const routes = {
    "GET /chat/conversations/k/stream": () => first.response,
    "POST /chat/conversations/k/messages": { message: { id: "q" }, reply: { id: "r" } },
    "POST /chat/messages/r/stop": () => problem(404, "message_not_found"),
  };
  const { net, http } = begin({}, routes);
  const clientId = client.send("Hi");
  await settle();
  net.last().end(1006);
  await settle();
  first.write({ type: "ready", conversation: { id: "k" }, user: { id: "u" }, heartbeat_s: 25 });
  first.write({ type: "reset", reason: "joined", conversation: { id: "k" }, messages: LIVE, has_more: false }, "c0");
  first.write(token("r", "Hello"), "c1");
  await settle();
  assert.equal(client.status, "online");
  assert.deepEqual(texts(), ["Hi", "Hello"]);
  assert.deepEqual(http.of("/chat/conversations/k/messages")[0].body, { content: "Hi", client_id: clientId });
  assert.equal(client.outbox[0].status, "sent");
  assert.equal(await client.stop("r"), false);
  assert.equal(http.of("/chat/conversations/k/stream")[0].query.has("ticket"), false);
  first.end();
  await settle();
  await pass(300);
  net.last().end(1006);
  await settle();
  assert.equal(http.of("/chat/conversations/k/stream")[1].headers["Last-Event-ID"], "c1");
});

test("a socket that opens and says nothing is taken for a blocked one", async () => {
  const { net, http } = begin({}, { "GET /chat/conversations/k/stream": () => stream().response });
  await settle();
  net.last().readyState = 1;
  await pass(8000);
  assert.equal(http.of("/chat/conversations/k/stream").length, 1);
});

test("a ticket that does not come is asked for again, and says nothing of sockets", async () => {
  let tries = 0;
  const ticket = () => (++tries > 1 ? { ticket: "t" } : new Promise(() => undefined));
  const { net, http } = begin({}, { "POST /auth/ticket": ticket });
  await settle();
  await pass(10_000);
  await pass(600);
  assert.equal(http.of("/chat/conversations/k/stream").length, 0);
  assert.equal(net.opened.length, 1);
});

test("why a socket did not open is told by the stream", async () => {
  const { net, heard } = begin({}, { "GET /chat/conversations/k/stream": () => problem(404, "conversation_not_found") });
  client.send("Still to be asked");
  await settle();
  net.last().end(1006);
  await settle();
  assert.equal(heard.errors.at(-1).code, "conversation_not_found");
  assert.equal(client.conversationId, null);
  assert.equal(client.outbox.length, 1);
});

test("a token that a stream says has expired is renewed", async () => {
  const asked = [];
  const first = stream();
  begin({ WebSocket: null, getToken: (isRefused) => (asked.push(isRefused), "token") }, { "GET /chat/conversations/k/stream": () => (asked.length > 1 ? stream() : first).response });
  await settle();
  first.write({ type: "error", error: { code: "token_expired", message: "x", retryable: true, param: null }, request_id: "1" });
  first.end();
  await settle();
  await pass(300);
  assert.deepEqual(asked, [false, true]);
});

test("pages come in front, unless a reset came between", async () => {
  let answer;
  const { net } = begin({}, { "GET /chat/conversations/k/messages": () => new Promise((done) => (answer = done)) });
  await settle();
  const reset = (messages) => net.last().tell({ type: "reset", reason: "too_far", conversation: { id: "k" }, messages, has_more: true }, "c1");
  net.last().welcome();
  reset([row("m5", 5, "user", "complete", "5")]);
  let more = client.older();
  await settle();
  answer({ data: [row("m4", 4, "user", "complete", "4")], has_more: true });
  assert.equal(await more, true);
  assert.deepEqual(texts(), ["4", "5"]);
  more = client.older();
  await settle();
  reset([row("m9", 9, "user", "complete", "9")]);
  answer({ data: [row("m3", 3, "user", "complete", "3")], has_more: false });
  await more;
  assert.deepEqual(texts(), ["9"]);
});
