/**
 * Signing in from a page: as a guest of a site, or as whom the site's own server says this is. No cookie.
 *
 *     const auth = createAuth({ origin: "https://chat.example", siteKey: "pk_...", storage: localStorage });
 *     const client = createClient({ origin, auth });
 *
 * `auth.token(isRefused)` a good access token, renewed where it must be; `auth.identify(identity)` another user, null: a
 * guest; `auth.reset()` sign out and forget; `auth.user` who it is, null before that is known; event `change` when
 * that became another.
 */

import { Interrupted } from "./backoff.js";
import { asInterrupted, request, sleep } from "./http.js";
import { safe } from "./tabs.js";

const EARLY_MS = 30_000; // renewed before it ends
const LOOK_MS = 100;
const LOOKS = 30; // the tab that was faster has its answer by then, or is gone

/**
 * @typedef {string | (() => string | Promise<string>)} Identity a JWT that the site's server signed, or what fetches one
 * @typedef {{access: string, refresh: string, expiresAt: number, user: any, subject: string | null}} Held
 * @typedef {object} Options
 * @property {string} origin of the server
 * @property {string | null} [siteKey] pk_...; without one, guests of listed origins
 * @property {Identity | null} [identity]
 * @property {string} [name] of a guest
 * @property {import("./tabs.js").Store | null} [storage] where a session outlives a reload
 * @property {string} [key] tells sites apart in the storage
 * @property {LockManager | null} [locks] so that two tabs do not renew at once
 * @property {typeof fetch} [fetch]
 */

/** @param {Options} options */
export function createAuth(options) {
  return new Auth(options);
}

export class Auth extends EventTarget {
  #api;
  #siteKey;
  #identity;
  #name;
  #storage;
  #key;
  #locks;
  /** @type {Promise<string> | null} */
  #signing = null;
  #isChecked = false; // the session held is of the one who is here
  /** @type {Held | null} */
  #held;

  /** @param {Options} options */
  constructor({ origin, siteKey = null, identity = null, name, storage, key = siteKey ?? "", locks, ...rest }) {
    super();
    this.#api = { origin: origin.replace(/\/+$/, ""), fetch: rest.fetch ?? globalThis.fetch };
    this.#siteKey = siteKey;
    this.#identity = identity;
    this.#name = name;
    this.#storage = safe(storage);
    this.#key = `parley:${key}:session`;
    this.#locks = locks === undefined ? globalThis.navigator?.locks : locks;
    this.#held = this.#read();
  }

  /** @returns {{id: string, name: string, is_guest: boolean} | null} */
  get user() {
    return this.#held?.user ?? null;
  }

  /**
   * Throws Interrupted; with move `stay_away` and code `signed_out` where only the page can help.
   * @param {boolean} [isRefused] the last one was
   * @returns {Promise<string>}
   */
  token(isRefused = false) {
    const refused = isRefused ? this.#held?.access : null;
    if (!this.#signing && this.#isChecked && this.#isGood(this.#held, refused)) return Promise.resolve(this.#held.access);
    if (this.#signing) return this.#signing;
    /** @type {Promise<string>} */
    const signing = this.#alone(() => this.#renew(refused)).finally(() => {
      if (this.#signing === signing) this.#signing = null;
    });
    return (this.#signing = signing);
  }

  /** @param {Identity | null} identity */
  identify(identity) {
    this.#identity = identity;
    this.#signing = null;
    this.#isChecked = false;
  }

  /** Sign out, and forget whom this was. */
  async reset() {
    const token = this.#held?.access;
    this.#identity = this.#signing = null;
    this.#keep(null);
    if (token) await request(this.#api, "POST", "/auth/logout", { token }).catch(() => undefined);
  }

  /** @param {() => Promise<string>} act */
  #alone(act) {
    return this.#locks ? this.#locks.request(this.#key, act) : act();
  }

  /** @param {string | null | undefined} refused */
  async #renew(refused) {
    const source = this.#identity;
    const held = await this.#obtain(source, refused);
    // Another one came meanwhile.
    if (source !== this.#identity) return this.#renew(refused);
    this.#isChecked = true;
    this.#keep(held);
    return held.access;
  }

  /**
   * @param {Identity | null} source
   * @param {string | null | undefined} refused
   * @returns {Promise<Held>}
   */
  async #obtain(source, refused) {
    const identity = typeof source === "function" ? await source() : source;
    const subject = identity === null ? null : subjectOf(identity);
    let held = this.#read(); // another tab may have been here before
    // A guest comes along, and becomes the user.
    const isWanted = held?.subject === null || (subject && held?.subject === subject);
    if (!isWanted) held = null;
    if (held && !this.#isGood(held, refused)) {
      held = await this.#refresh(held);
      if (held && held.subject !== subject) this.#keep(held); // the guest's token before is spent
    }
    if (held?.subject === subject) return held;
    return made(await this.#signIn(identity, held?.access), subject);
  }

  /**
   * Null where the session is over.
   * @param {Held} held
   * @returns {Promise<Held | null>}
   */
  async #refresh(held) {
    try {
      return made(await this.#post("/auth/refresh", { refresh_token: held.refresh }), held.subject);
    } catch (error) {
      const { code } = lasting(error);
      // Another tab renewed with the same token: in a moment the storage has what it got.
      for (let looks = LOOKS; code === "refresh_superseded" && looks; looks -= 1) {
        const found = this.#read();
        if (found?.subject === held.subject && found.refresh !== held.refresh) return found;
        await sleep(LOOK_MS);
      }
      return null;
    }
  }

  /**
   * @param {string | null} identity
   * @param {string} [guest]
   */
  async #signIn(identity, guest) {
    try {
      if (identity === null) {
        const body = { ...(this.#siteKey && { site_key: this.#siteKey }), ...(this.#name && { name: this.#name }) };
        return await this.#post("/auth/guest", body);
      }
      const body = { site_key: this.#siteKey, token: identity };
      if (!guest) return await this.#post("/auth/identity", body);
      // Where the guest is not known any more, the user comes alone.
      return await this.#post("/auth/identity", body, guest).catch((error) => {
        lasting(error);
        return this.#post("/auth/identity", body);
      });
    } catch (error) {
      throw new Interrupted("stay_away", "signed_out", lasting(error).message);
    }
  }

  /**
   * @param {string} path
   * @param {unknown} body
   * @param {string | null} [token]
   */
  #post(path, body, token = null) {
    return request(this.#api, "POST", path, { body, token });
  }

  /** @param {Held | null} held */
  #keep(held) {
    const before = this.#held?.user?.id;
    this.#held = held;
    if (held) this.#storage.setItem(this.#key, JSON.stringify(held));
    else this.#storage.removeItem(this.#key);
    if (held?.user?.id !== before) this.dispatchEvent(new Event("change"));
  }

  /**
   * @param {Held | null} held
   * @param {string | null | undefined} refused
   * @returns {held is Held}
   */
  #isGood(held, refused) {
    return held !== null && held.access !== refused && held.expiresAt - EARLY_MS > Date.now();
  }

  /** @returns {Held | null} */
  #read() {
    try {
      return JSON.parse(this.#storage.getItem(this.#key) ?? "null") ?? this.#held ?? null;
    } catch {
      return null;
    }
  }
}

/**
 * What is refused for good; throws what passes.
 * @param {unknown} error
 */
function lasting(error) {
  const ended = asInterrupted(error);
  if (ended.move === "come_back") throw error;
  return ended;
}

/**
 * @param {any} tokens
 * @param {string | null} subject
 * @returns {Held}
 */
function made({ access_token: access, refresh_token: refresh, expires_in, user }, subject) {
  return { access, refresh, expiresAt: Date.now() + expires_in * 1000, user, subject };
}

/**
 * Whom a JWT names; only to tell two of them apart.
 * @param {string} token
 */
function subjectOf(token) {
  try {
    return String(JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub ?? "");
  } catch {
    return "";
  }
}
