/** When a page is looked at again, and what its browser says of the network; client.js is handed this, and has no DOM. */

/**
 * @param {(news: "awake" | "online" | "offline") => void} told
 * @returns {() => void} ends it
 */
export function watchWaking(told) {
  const end = new AbortController();
  const { signal } = end;
  addEventListener("online", () => told("online"), { signal });
  addEventListener("offline", () => told("offline"), { signal });
  addEventListener("pageshow", ({ persisted }) => persisted && told("awake"), { signal });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && told("awake"), { signal });
  return () => end.abort();
}
