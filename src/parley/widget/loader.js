/* Shows the launcher, keeps calls made early, loads all else when first opened. */
(() => {
  const page = /** @type {any} */ (window);
  const early = page.Parley ?? [];
  if (!Array.isArray(early)) return;
  const script = /** @type {any} */ (document.currentScript ?? document.querySelector("script[src*='/widget.js']"));
  const data = script.dataset;
  const host = document.createElement("parley-chat");
  const calls = [];
  let loading;

  const push = (...wanted) => {
    for (const [name, value] of wanted) {
      if (name === "boot") show(value);
      else calls.push([name, value]);
      if (/open|toggle|send|reset|destroy/.test(name))
        loading ??= import(String(new URL("widget/__PARLEY_WIDGET_HASH__/widget.js", script.src)))
          .then((widget) => widget.start(host, calls))
          .catch(() => (loading = null));
    }
  };

  const show = (/** @type {any} */ { user, ...options } = {}) => {
    if (user) push(["setUser", user]);
    for (const name in options) host.setAttribute(name, options[name]);
    const add = () => document.body.append(host);
    if (document.body) add();
    else addEventListener("DOMContentLoaded", add);
    try {
      if ("open" in options || sessionStorage["parley:open"]) push(["open"]);
    } catch {}
  };

  const draw = () => {
    const make = (parent, name) => parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
    const root = host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    const button = root.appendChild(document.createElement("button"));
    const svg = make(button, "svg");
    const lang = data.locale ?? (document.documentElement.lang || navigator.language);
    sheet.replaceSync(
      ":host{all:initial!important;--o:var(--parley-offset,20px)}button{position:fixed;z-index:var(--parley-z,2147483646);bottom:max(var(--o),env(safe-area-inset-bottom));inset-inline-end:var(--o);" +
        "width:60px;height:60px;border:1px solid transparent;border-radius:50%;background:var(--parley-accent,#2b50d8);color:var(--parley-on-accent,#fff);box-shadow:0 4px 16px #0004;cursor:pointer}" +
        ":host([position=start]) button{inset-inline:var(--o) auto}:focus-visible{outline:3px solid;outline-offset:2px}svg{display:block;width:28px;margin:auto;fill:none;stroke:currentColor;stroke-width:1.8}",
    );
    root.adoptedStyleSheets = [sheet];
    button.ariaLabel = { de: "Chat öffnen", es: "Abrir el chat", ar: "فتح المحادثة" }[lang.slice(0, 2)] ?? "Open chat";
    button.ariaExpanded = "false";
    button.part = "launcher";
    button.onclick = () => page.Parley.open();
    svg.setAttribute("viewBox", "0 0 24 24");
    make(svg, "path").setAttribute("d", "M21 12a8 8 0 0 1-8 8H4l2-3a8 8 0 1 1 15-5Z");
  };

  page.Parley = { push };
  for (const name of "boot,update,open,close,toggle,sendMessage,setUser,reset,destroy".split(","))
    page.Parley[name] = (value) => push([name, value]);
  if (!host.shadowRoot) draw();
  if (!("manual" in data)) show(data);
  push(...early);
})();
