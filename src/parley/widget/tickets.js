/** With what connections are opened: a token in a header, or a ticket in an address; never a token in an address. */

import { request } from "./http.js";

/**
 * @typedef {(isRefused: boolean) => string | Promise<string>} TokenSource gives an access token; true says that the last
 *   one was refused, so another one is wanted
 * @typedef {(conversationId: string) => string | Promise<string>} TicketSource gives a new ticket for one connection
 */

/** Of one client. */
export class Credentials {
  #isStale = false;
  #api;
  #getToken;
  #getTicket;

  /**
   * @param {import("./http.js").Api} api
   * @param {{getToken?: TokenSource | null, getTicket?: TicketSource | null}} sources
   */
  constructor(api, { getToken, getTicket }) {
    this.#api = api;
    this.#getToken = getToken;
    this.#getTicket = getTicket;
  }

  /** Note that the last one was refused. */
  renew() {
    this.#isStale = true;
  }

  /** @returns {Promise<string | null>} null where there are only tickets */
  async token() {
    if (!this.#getToken) return null;
    const isStale = this.#isStale;
    this.#isStale = false;
    try {
      return await this.#getToken(isStale);
    } catch (error) {
      this.#isStale ||= isStale;
      throw error;
    }
  }

  /**
   * @param {string} conversationId
   * @returns {Promise<string>}
   */
  async ticket(conversationId) {
    if (this.#getTicket) return this.#getTicket(conversationId);
    const body = { conversation_id: conversationId };
    return (await request(this.#api, "POST", "/auth/ticket", { token: await this.token(), body })).ticket;
  }
}
