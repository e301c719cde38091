/** One WebSocket: events until it ends, and commands. Does not come back. */

import { ofClose, unreachable } from "./backoff.js";
import { readEvent, SUBPROTOCOL } from "./protocol.js";

/**
 * @typedef {object} Hears
 * @property {(event: import("./protocol.js").Event, cursor: string | null) => void} onEvent
 * @property {() => void} onHeard a sign of life
 * @property {(ended: import("./backoff.js").Interrupted) => void} onEnd once, and never after `close`
 * @typedef {{send: (command: import("./protocol.js").Command) => boolean, close: () => void}} Link
 */

/**
 * @param {typeof WebSocket} Socket
 * @param {string} url
 * @param {Hears} hears
 * @returns {Link}
 */
export function openSocket(Socket, url, { onEvent, onHeard, onEnd }) {
  let isOver = false;
  /** @type {WebSocket} */
  let socket;
  const end = (/** @type {import("./backoff.js").Interrupted} */ ended) => {
    if (isOver) return;
    isOver = true;
    onEnd(ended);
  };
  try {
    socket = new Socket(url, [SUBPROTOCOL]);
  } catch {
    // A page's policy may forbid it; told later, as every other end is.
    queueMicrotask(() => end(unreachable()));
    return { send: () => false, close: () => void (isOver = true) };
  }
  socket.onmessage = ({ data }) => {
    if (isOver) return;
    onHeard();
    const read = readEvent(data);
    if (read) onEvent(read.event, read.cursor);
  };
  socket.onclose = ({ code, reason }) => end(ofClose(code, reason));
  // Some never tell the close of what did not open.
  socket.onerror = () => void (socket.readyState !== 1 && end(ofClose(1006)));
  return {
    send(command) {
      if (isOver || socket.readyState !== 1) return false;
      socket.send(JSON.stringify(command));
      return true;
    },
    close() {
      isOver = true;
      socket.close(1000);
    },
  };
}
