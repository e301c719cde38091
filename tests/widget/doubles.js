/** What a client meets in tests: sockets and answers by hand. */

import { createHash } from "node:crypto";

/** Lets everything that is due happen. */
export async function settle() {
  for (let turn = 0; turn < 30; turn += 1) await new Promise((done) => setImmediate(done));
}

/** Waits for what another thread does, a digest for instance; what never comes fails in the assertion behind it. */
export async function until(isSo) {
  for (const begun = performance.now(); !isSo() && performance.now() - begun < 5000; ) await settle();
}

/** Sockets as they are opened, newest last. */
export function sockets() {
  const opened = [];
  class Socket {
    readyState = 0;
    sent = [];
    constructor(url) {
      this.url = new URL(url);
      opened.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 3;
    }
    tell(event, cursor) {
      this.readyState = 1;
      this.onmessage({ data: JSON.stringify(cursor ? { id: cursor, ...event } : event) });
    }
    welcome(messages = [], cursor = "c0") {
      this.tell({ type: "ready", conversation: { id: "k", title: "", mode: "ai" }, user: { id: "u", name: "U" }, heartbeat_s: 25 });
      this.tell({ type: "reset", reason: "joined", conversation: { id: "k", title: "", mode: "ai", rev: 1 }, messages, has_more: false }, cursor);
    }
    end(code, reason = "") {
      this.readyState = 3;
      this.onclose({ code, reason });
    }
  }
  return { Socket, opened, last: () => opened.at(-1) };
}

/** A fetch that is answered by `routes`, "METHOD /path" to a function of the request or to a JSON body. */
export function answers(routes) {
  const asked = [];
  const fetch = async (url, { method, body, headers, signal }) => {
    const { pathname, searchParams } = new URL(url);
    const request = { method, path: pathname, query: searchParams, body: body && JSON.parse(body), headers, signal };
    asked.push(request);
    const route = routes[`${method} ${pathname}`];
    if (route === undefined) throw new TypeError("unreachable");
    const answer = typeof route === "function" ? await route(request) : route;
    return answer instanceof Response ? answer : Response.json(answer);
  };
  return { fetch, asked, of: (path) => asked.filter((one) => one.path === path) };
}

export function problem(status, code, headers = {}) {
  return Response.json({ error: { code, message: `${code}.` } }, { status, headers });
}

/** A stream that is written to by hand. */
export function stream() {
  let control;
  const body = new ReadableStream({ start: (controller) => void (control = controller) });
  const write = (event, cursor) =>
    control.enqueue(new TextEncoder().encode(`${cursor ? `id: ${cursor}\n` : ""}data: ${JSON.stringify(event)}\n\n`));
  return { response: new Response(body, { headers: { "Content-Type": "text/event-stream" } }), write, end: () => control.close() };
}

export function store(kept = new Map()) {
  return {
    kept,
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
}

export const row = (id, seq, role, status, content = "", more = {}) => ({ id, seq, rev: seq, role, status, content, steps: [], sources: [], client_id: null, ...more });
export const told = (message) => ({ type: "message", message });
export const token = (id, content) => ({ type: "token", message_id: id, content });
export const complete = (id, text, status = "complete") => ({
  type: "complete",
  message_id: id,
  status,
  content_length: Buffer.byteLength(text),
  content_sha256: createHash("sha256").update(text).digest("hex"),
});
