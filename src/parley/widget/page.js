/** The full page at /chat: what its address asks for becomes attributes of its element. Keeps nothing. */

const FROM_ADDRESS = ["site", "theme", "locale", "conversation", "heading", "agent"];

const chat = /** @type {any} */ (document.querySelector("parley-chat"));
const asked = new URLSearchParams(location.search);
for (const name of FROM_ADDRESS) if (asked.has(name)) chat.setAttribute(name, asked.get(name));
void import("./widget.js");
