/** Plain HTTP: one request at a time, what its failures mean, and trying again. */

import { Backoff, Interrupted, ofStatus, unreachable } from "./backoff.js";

export const OPEN_MS = 10_000;
export const DEADLINE_MS = 30_000; // of a command, reconnects included

/**
 * @typedef {{origin: string, fetch: typeof fetch}} Api where the server is
 * @typedef {{token?: string | null, body?: unknown, headers?: Record<string, string>, signal?: AbortSignal}} Wish
 */

/**
 * The response of a request that was taken; throws Interrupted for every other.
 * @param {Api} api
 * @param {string} method
 * @param {string} path
 * @param {Wish} [wish]
 * @returns {Promise<Response>}
 */
export async function open(api, method, path, { token, body, headers, signal } = {}) {
  const given = { ...headers };
  if (token) given.Authorization = `Bearer ${token}`;
  if (body !== undefined) given["Content-Type"] = "application/json";
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), OPEN_MS);
  signal?.addEventListener("abort", () => end.abort());
  if (signal?.aborted) end.abort();
  /** @type {RequestInit} */
  const init = { method, headers: given, signal: end.signal, credentials: "omit", cache: "no-store" };
  if (body !== undefined) init.body = JSON.stringify(body);
  let response;
  try {
    response = await api.fetch.call(globalThis, api.origin + path, init);
  } catch {
    throw unreachable();
  } finally {
    clearTimeout(timer);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  throw ofStatus(response.status, response.headers.get("Retry-After"), problem?.error);
}

/**
 * The same, read as JSON.
 * @param {Api} api
 * @param {string} method
 * @param {string} path
 * @param {Wish} [wish]
 * @returns {Promise<any>}
 */
export async function request(api, method, path, wish) {
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), DEADLINE_MS);
  try {
    const response = await open(api, method, path, { ...wish, signal: end.signal });
    return response.status === 204 ? null : await response.json();
  } catch (error) {
    throw error instanceof Interrupted ? error : unreachable();
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Do something until it is answered, for as long as a command may take; throws the last Interrupted.
 * @template Answer
 * @param {() => Promise<Answer>} act may throw Interrupted; must be harmless when done twice
 * @param {{renew: () => void, random?: () => number, deadlineMs?: number, isOver?: () => boolean,
 *   pause?: (waitMs: number) => Promise<unknown>}} how
 * @returns {Promise<Answer>}
 */
export async function persist(act, { renew, random = Math.random, deadlineMs = DEADLINE_MS, isOver, pause = sleep }) {
  const backoff = new Backoff();
  const begunAt = Date.now();
  for (;;) {
    try {
      return await act();
    } catch (error) {
      const ended = asInterrupted(error);
      const waitMs = backoff.waitMs(ended, 0, random());
      if (waitMs === null || isOver?.() || Date.now() + waitMs - begunAt > deadlineMs) throw ended;
      if (ended.move === "renew") renew();
      await pause(waitMs);
    }
  }
}

/** @param {number} waitMs */
export function sleep(waitMs) {
  return new Promise((done) => setTimeout(done, waitMs));
}

/**
 * What broke, as something to come back from: what a host's own function throws is a failure like any other.
 * @param {unknown} error
 */
export function asInterrupted(error) {
  return error instanceof Interrupted ? error : new Interrupted("come_back", "internal_error", "Something went wrong.");
}
