/** Defines `<parley-chat>` and the real methods of `window.Parley`; what was called before is done now. */

import { OPTIONS, ParleyChat } from "./element.js";

const TAG = "parley-chat";
const page = /** @type {any} */ (window);

/**
 * @param {any} chat the element all methods speak of
 * @param {Array<[string, any]>} calls made before
 */
export function start(chat, calls = []) {
  const api = {
    boot(options = {}) {
      api.update(options);
      if (!chat.isConnected) document.body.append(chat);
    },
    update(options = {}) {
      for (const [name, value] of Object.entries(options)) {
        if (name === "user") api.setUser(value);
        else if (name === "open") void (value ? api.open() : api.close());
        else if (!OPTIONS.includes(name)) continue;
        else if (value === null || value === false) chat.removeAttribute(name);
        else chat.setAttribute(name, value === true ? "" : value);
      }
    },
    open: () => chat.open(),
    close: () => chat.close(),
    toggle: () => chat.toggle(),
    sendMessage: (text) => chat.sendMessage(text),
    setUser: (user) => chat.setUser(user),
    reset: () => chat.reset(),
    destroy: () => chat.remove(),
    push: (...wanted) => wanted.forEach(([name, ...values]) => api[name]?.(...values)),
  };
  customElements.upgrade(chat); // one that no page holds yet is no ParleyChat either
  page.Parley = api;
  api.push(...calls.splice(0));
}

if (!customElements.get(TAG)) customElements.define(TAG, ParleyChat);
if (!page.Parley || Array.isArray(page.Parley)) start(document.querySelector(TAG) ?? document.createElement(TAG), page.Parley);
