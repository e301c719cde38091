import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { createClient } from "../../src/parley/widget/client.js";
import { shown } from "../../src/parley/widget/state.js";
import { openTabs } from "../../src/parley/widget/tabs.js";
import { answers, complete, row, settle, sockets, store, token } from "./doubles.js";

/** Web Locks, as far as they are used. */
function locksByHand() {
  const lines = new Map();
  const next = (line) => {
    line.held = null;
    line.waiting.shift()?.();
  };
  return {
    async request(name, { ifAvailable, steal, signal }, act) {
      if (!lines.has(name)) lines.set(name, { held: null, waiting: [] });
      const line = lines.get(name);
      if (ifAvailable && line.held) return act(null);
      if (steal && line.held) line.held.fail(new Error("stolen"));
      else if (line.held)
        await new Promise((done, fail) => {
          line.waiting.push(done);
          signal?.addEventListener("abort", () => {
            line.waiting = line.waiting.filter((one) => one !== done);
            fail(new Error("aborted"));
          });
        });
      const lock = {};
      const stolen = new Promise((_, fail) => (lock.fail = fail));
      line.held = lock;
      try {
        return await Promise.race([act(lock), stolen]);
      } finally {
        if (line.held === lock) next(line);
      }
    },
  };
}

/** Channels whose messages are copies and come later, in order. */
function channelsByHand() {
  const all = new Set();
  return class Channel {
    constructor(name) {
      this.name = name;
      all.add(this);
    }
    postMessage(data) {
      const copy = structuredClone(data);
      for (const other of all)
        if (other !== this && other.name === this.name) setImmediate(() => all.has(other) && !other.isAsleep && other.onmessage?.({ data: copy }));
    }
    close() {
      all.delete(this);
    }
    static sleep(channel) {
      channel.isAsleep = true;
    }
    static all = all;
  };
}

const open = [];
afterEach(() => open.splice(0).forEach((one) => one.close()));

function browser() {
  const [net, locks, Channel] = [sockets(), locksByHand(), channelsByHand()];
  const http = answers({ "POST /auth/ticket": { ticket: "t" } });
  const tab = () => {
    const tabs = openTabs({ key: "s", locks, Channel });
    const client = createClient({ origin: "https://chat.example", getToken: () => "token", conversationId: "k", tabs, WebSocket: net.Socket, fetch: http.fetch, random: () => 0 });
    client.connect();
    open.push(client, tabs);
    return client;
  };
  return { net, tab, Channel };
}
const LIVE = [row("q", 1, "user", "complete", "Hi"), row("r", 2, "assistant", "streaming")];
const last = (client) => shown(client.state).at(-1)?.content;

test("one tab holds the socket, and all show the same", async () => {
  const { net, tab } = browser();
  const a = tab();
  await settle();
  net.last().welcome(LIVE);
  net.last().tell(token("r", "Hel"), "c1");
  const b = tab();
  await settle();
  assert.deepEqual([net.opened.length, a.isLeader, b.isLeader], [1, true, false]);
  assert.equal(last(b), "Hel");
  assert.equal(b.status, "online");
  net.last().tell(token("r", "lo"), "c2");
  net.last().tell(complete("r", "Hello"), "c3");
  await settle();
  assert.deepEqual(b.state, a.state);
  assert.equal(last(b), "Hello");
});

test("another tab asks through the leader, and is answered", async () => {
  const { net, tab } = browser();
  tab();
  await settle();
  net.last().welcome();
  const b = tab();
  await settle();
  const clientId = b.send("Hi");
  await settle();
  assert.deepEqual(net.last().sent, [{ type: "chat", client_id: clientId, content: "Hi" }]);
  net.last().tell({ type: "ack", ref: clientId, message_id: "q", reply_id: "r", duplicate: false });
  await settle();
  assert.equal(b.outbox[0].status, "sent");
});

test("when the leader goes another one leads, from where it heard, and sends what was not answered", async () => {
  const { net, tab } = browser();
  const a = tab();
  await settle();
  net.last().welcome(LIVE);
  net.last().tell(token("r", "Hel"), "c1");
  const b = tab();
  await settle();
  net.last().tell(token("r", "l"), "c2");
  await settle();
  const clientId = b.send("And?");
  a.close();
  await settle();
  assert.equal(b.isLeader, true);
  assert.equal(net.last().url.searchParams.get("cursor"), "c2");
  net.last().tell({ type: "ready", conversation: { id: "k" }, user: { id: "u" }, heartbeat_s: 25 });
  net.last().tell(token("r", "o"), "c3");
  assert.equal(last(b), "Hello");
  assert.equal(net.last().sent[0].client_id, clientId);
});

test("a tab that was only told the whole reads on from there", async () => {
  const { net, tab } = browser();
  const a = tab();
  await settle();
  net.last().welcome(LIVE);
  net.last().tell(token("r", "Hel"), "c1");
  const b = tab();
  await settle();
  a.close();
  await settle();
  assert.equal(b.isLeader, true);
  assert.equal(net.last().url.searchParams.get("cursor"), "c1");
});

test("what is told twice is taken once, and asks for nothing", async () => {
  const { net, tab, Channel } = browser();
  tab();
  await settle();
  net.last().welcome(LIVE);
  const b = tab();
  await settle();
  const [mouth, ear] = [...Channel.all].filter(({ name }) => name.endsWith(":k"));
  let asked = 0;
  const hear = mouth.onmessage;
  mouth.onmessage = (message) => ((asked += 1), hear(message));
  const listen = ear.onmessage;
  ear.onmessage = (message) => (listen(message), listen(message));
  for (const [at, content] of ["a", "b", "c"].entries()) net.last().tell(token("r", content), `c${at}`);
  await settle();
  assert.equal(last(b), "abc");
  assert.equal(asked, 0);
});

test("a leader that is asleep loses the lead to who is looked at", async () => {
  const { net, tab, Channel } = browser();
  const a = tab();
  await settle();
  net.last().welcome(LIVE);
  await settle();
  for (const channel of Channel.all) if (channel.name.endsWith(":k")) Channel.sleep(channel);
  const b = tab();
  await new Promise((done) => setTimeout(done, 2100));
  await settle();
  assert.equal(b.isLeader, true);
  assert.equal(a.isLeader, false);
  assert.equal(net.opened.length, 2);
  assert.equal(net.opened[0].readyState, 3);
});

test("a follower that missed something asks for the whole", async () => {
  const { net, tab, Channel } = browser();
  tab();
  await settle();
  net.last().welcome(LIVE);
  const b = tab();
  await settle();
  const ear = [...Channel.all].filter(({ name }) => name.endsWith(":k")).at(-1);
  ear.isAsleep = true;
  net.last().tell(token("r", "lost "), "c1");
  await settle();
  ear.isAsleep = false;
  net.last().tell(token("r", "found"), "c2");
  await settle();
  assert.equal(last(b), "lost found");
});

test("without locks each tab connects for itself", async () => {
  const { net } = browser();
  for (const key of ["s", "s"]) {
    const client = createClient({ origin: "https://chat.example", getTicket: () => "t", conversationId: "k", tabs: openTabs({ key, locks: null, Channel: null }), WebSocket: net.Socket });
    client.connect();
    open.push(client);
  }
  await settle();
  assert.equal(net.opened.length, 2);
});

test("unread, draft and open are one for all tabs, and a draft survives a reload", async () => {
  const [storage, Channel] = [store(), channelsByHand()];
  const tab = () => {
    const tabs = openTabs({ key: "s", storage, locks: null, Channel });
    open.push(tabs);
    return tabs;
  };
  const [a, b] = [tab(), tab()];
  let changes = 0;
  b.addEventListener("change", () => (changes += 1));
  a.set("unread", 2);
  a.set("unread", 2);
  a.set("draft", "half");
  await settle();
  assert.deepEqual([b.unread, b.draft, changes], [2, "half", 2]);
  const c = tab();
  await settle();
  assert.deepEqual([c.unread, c.draft], [2, "half"]);
  a.set("draft", "");
  assert.equal(storage.kept.size, 0);
});
