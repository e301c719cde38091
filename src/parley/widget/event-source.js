/** One stream of server-sent events over fetch, where WebSockets do not get through. Does not come back. */

import { Interrupted, unreachable } from "./backoff.js";
import { asInterrupted, open } from "./http.js";
import { readEvent } from "./protocol.js";
import { SseParser } from "./sse-parser.js";

/**
 * @param {import("./http.js").Api} api
 * @param {string} path
 * @param {{token: string | null, cursor: string | null}} from
 * @param {import("./websocket.js").Hears} hears
 * @returns {{close: () => void}}
 */
export function openStream(api, path, { token, cursor }, hears) {
  const abort = new AbortController();
  const headers = { Accept: "text/event-stream", ...(cursor !== null && { "Last-Event-ID": cursor }) };
  read(() => open(api, "GET", path, { token, headers, signal: abort.signal }), abort.signal, hears).catch((error) => {
    if (!abort.signal.aborted) hears.onEnd(asInterrupted(error));
  });
  return { close: () => abort.abort() };
}

/**
 * @param {() => Promise<Response>} begin
 * @param {AbortSignal} signal
 * @param {import("./websocket.js").Hears} hears
 */
async function read(begin, signal, { onEvent, onHeard }) {
  const response = await begin();
  const parser = new SseParser();
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  /** @type {any} */
  let error = null;
  for (;;) {
    const { value, done } = await reader.read().catch(() => {
      throw unreachable();
    });
    if (signal.aborted) return;
    if (done) throw told(error);
    onHeard();
    for (const { data, id } of parser.feed(value)) {
      const found = readEvent(data, id);
      if (!found) continue;
      error = found.event.type === "error" ? found.event.error : null;
      onEvent(found.event, found.cursor);
      if (signal.aborted) return;
    }
  }
}

/**
 * Why a stream ended: because of the error told last, or for no reason it told.
 * @param {any} error
 */
function told(error) {
  if (!error) return new Interrupted("come_back", "stream_ended", "The stream ended early.");
  if (error.code === "token_expired") return new Interrupted("renew", error.code, error.message);
  return new Interrupted(error.retryable ? "come_back" : "stay_away", error.code, error.message);
}
