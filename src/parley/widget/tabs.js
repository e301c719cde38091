/**
 * The tabs of one browser as one: values they share, and one leader for each conversation. Knows no conversation.
 *
 * `openTabs({key, storage?, locks?, Channel?})` gives a Tabs: an EventTarget with `unread` (number), `draft` (string),
 * `open` (boolean), `set(name, value)` for these three, and the event `change` when another tab, or this one, set one.
 * `draft` survives a reload where there is storage. Hand it to `createClient({tabs})`, and one tab holds the connection.
 */

const PATIENCE_MS = 2_000; // a leader that does not answer so long is asleep

/** @typedef {{getItem(key: string): string | null, setItem(key: string, value: string): void, removeItem(key: string): void}} Store */

/**
 * @param {{key: string, storage?: Store | null, locks?: LockManager | null, Channel?: typeof BroadcastChannel | null}} options
 *   `key` is one for each site; what is null is done without
 */
export function openTabs({ key, storage = null, locks = globalThis.navigator?.locks, Channel = globalThis.BroadcastChannel }) {
  return new Tabs(key, safe(storage), locks ?? null, Channel ?? null);
}

/**
 * A store that never throws: pages may have none, and it may be full.
 * @param {Store | null | undefined} storage
 * @returns {Store}
 */
export function safe(storage) {
  /** @param {(store: Store) => any} act */
  const attempt = (act) => {
    try {
      return storage ? act(storage) : null;
    } catch {
      return null;
    }
  };
  return {
    getItem: (key) => attempt((store) => store.getItem(key)),
    setItem: (key, value) => attempt((store) => store.setItem(key, value)),
    removeItem: (key) => attempt((store) => store.removeItem(key)),
  };
}

/** Values that all tabs share. */
export class Tabs extends EventTarget {
  unread = 0;
  draft = "";
  open = false;
  #key;
  #storage;
  #locks;
  #Channel;
  /** @type {BroadcastChannel | null} */
  #channel;
  #own = new Set(); // what was set here: an answer to what was asked at the start comes too late for it

  /**
   * @param {string} key
   * @param {Store} storage
   * @param {LockManager | null} locks
   * @param {typeof BroadcastChannel | null} Channel
   */
  constructor(key, storage, locks, Channel) {
    super();
    this.#key = `parley:${key}`;
    this.#storage = storage;
    this.#locks = locks;
    this.#Channel = Channel;
    this.draft = storage.getItem(`${this.#key}:draft`) ?? "";
    this.#channel = Channel && new Channel(`${this.#key}:shared`);
    if (!this.#channel) return;
    this.#channel.onmessage = ({ data }) => {
      if (data.ask) this.#say(true);
      else this.#take(data);
    };
    this.#channel.postMessage({ ask: true });
  }

  /**
   * @param {"unread" | "draft" | "open"} name
   * @param {any} value
   */
  set(name, value) {
    if (this[name] === value) return;
    this.#own.add(name);
    this.#take({ [name]: value });
    if (name === "draft") {
      if (value) this.#storage.setItem(`${this.#key}:draft`, value);
      else this.#storage.removeItem(`${this.#key}:draft`);
    }
    this.#say();
  }

  /**
   * Stand in line for a conversation.
   * @param {string} name
   * @param {Hears} hears
   */
  line(name, hears) {
    return new Line(`${this.#key}:${name}`, this.#locks, this.#Channel, hears);
  }

  close() {
    this.#channel?.close();
    this.#channel = null;
  }

  #say(isAnswer = false) {
    this.#channel?.postMessage({ unread: this.unread, draft: this.draft, open: this.open, isAnswer });
  }

  /** @param {any} values */
  #take({ isAnswer, ...values }) {
    if (isAnswer) for (const name of this.#own) delete values[name];
    const { unread, draft, open } = { unread: this.unread, draft: this.draft, open: this.open, ...values };
    if (unread === this.unread && draft === this.draft && open === this.open) return;
    Object.assign(this, { unread, draft, open });
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * @typedef {object} Hears
 * @property {() => void} onLead this tab leads now
 * @property {() => void} onFollow another one does
 * @property {(message: any) => void} onMessage another tab of this line said something
 */

/** One conversation's tabs: who holds the lock leads, the others hear. Without locks or channels each leads itself. */
export class Line {
  isLeader = false;
  #name;
  #locks;
  #hears;
  /** @type {BroadcastChannel | null} */
  #channel = null;
  #isClosed = false;
  #isStealing = false;
  /** @type {AbortController | null} */
  #queue = null;
  #release = () => {};
  /** @type {any} */
  #timer;

  /**
   * @param {string} name
   * @param {LockManager | null} locks
   * @param {typeof BroadcastChannel | null} Channel
   * @param {Hears} hears
   */
  constructor(name, locks, Channel, hears) {
    this.#name = name;
    this.#hears = hears;
    this.#locks = Channel && locks;
    if (!this.#locks) {
      this.isLeader = true;
      queueMicrotask(() => this.#isClosed || hears.onLead());
      return;
    }
    this.#channel = new /** @type {typeof BroadcastChannel} */ (Channel)(name);
    this.#channel.onmessage = ({ data }) => {
      if (data.leader) clearTimeout(this.#timer);
      hears.onMessage(data);
    };
    void this.#stand();
  }

  /** @param {any} message for the other tabs */
  post(message) {
    this.#channel?.postMessage(message);
  }

  /** Ask something that the leader answers; one that is asleep loses the lead. @param {any} message */
  ask(message) {
    if (this.isLeader || !this.#channel) return;
    this.post(message);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#steal(), PATIENCE_MS);
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#queue?.abort();
    this.#release();
    this.#channel?.close();
    this.#channel = null;
  }

  /** Who finds the lock free leads at once; everybody else follows while waiting for it. */
  async #stand() {
    /** @type {LockOptions} */
    let how = { ifAvailable: true };
    while (!this.#isClosed) {
      const locks = /** @type {LockManager} */ (this.#locks);
      // Ends where there was none, where the wait was broken off, and where a lead came to its end or was stolen.
      await locks.request(this.#name, how, (lock) => (lock ? this.#lead() : undefined)).catch(() => undefined);
      this.isLeader = false;
      if (this.#isClosed) return;
      if (this.#isStealing) {
        how = { steal: true };
        this.#isStealing = false;
        continue;
      }
      this.#queue = new AbortController();
      how = { signal: this.#queue.signal };
      this.#hears.onFollow();
    }
  }

  #lead() {
    clearTimeout(this.#timer);
    this.#isStealing = false;
    if (this.#isClosed) return undefined;
    this.isLeader = true;
    this.#hears.onLead();
    return new Promise((done) => (this.#release = () => done(undefined)));
  }

  #steal() {
    if (this.isLeader) return;
    this.#isStealing = true;
    this.#queue?.abort();
  }
}
