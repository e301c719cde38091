/** The demo page's own buttons: questions to begin with, and plugs to pull. The chat does not know of them. */

const told = document.getElementById("told");
const sockets = new Set();

// Seen from outside, so that the widget carries no button for breaking it.
window.WebSocket = class extends WebSocket {
  constructor(...wanted) {
    super(...wanted);
    sockets.add(this);
    this.addEventListener("close", () => sockets.delete(this));
  }
};

for (const button of document.querySelectorAll("[data-ask]"))
  button.addEventListener("click", () => window.Parley?.sendMessage(button.dataset.ask));

document.getElementById("drop").addEventListener("click", () => {
  told.textContent = sockets.size ? "Cut. Watch it come back." : "There is no connection here yet: open the chat, or look in your other tab.";
  for (const socket of sockets) socket.close(4000, "cut by hand");
});

document.getElementById("tab").addEventListener("click", () => window.open(location.href, "_blank", "noopener"));

document.getElementById("kill").addEventListener("click", async (event) => {
  told.textContent = "Killing the worker that answers this request.";
  try {
    const answer = await fetch("/demo/kill-worker", { method: "POST" });
    told.textContent = "This is no development server: workers are safe here.";
    event.target.disabled = answer.status === 404;
  } catch {
    told.textContent = "A worker died. Another one takes its answers over.";
  }
});
