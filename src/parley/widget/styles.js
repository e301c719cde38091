/** How it looks: one constructed sheet, so no style-src exception is needed. Knobs are `--parley-*` and `::part()`. */

const CSS = `
:host {
  all: initial !important; display: block !important; color-scheme: light dark !important;
  --_accent: var(--parley-accent, light-dark(#2b50d8, #8ea6ff));
  --_on-accent: var(--parley-on-accent, light-dark(#fff, #10131f));
  --_back: var(--parley-background, light-dark(#fff, #15171c));
  --_text: var(--parley-text, light-dark(#1b1e26, #eceef3));
  --_muted: var(--parley-muted, light-dark(#5c6370, #a4abb8));
  --_line: var(--parley-line, light-dark(#e3e6ec, #2d313a));
  --_surface: var(--parley-surface, light-dark(#f2f4f8, #22252d));
  --_bad: var(--parley-error, light-dark(#b3261e, #ff9d94));
  --_radius: var(--parley-radius, 18px);
  --_gap: var(--parley-offset, 20px);
  --_font: var(--parley-font, system-ui, "Segoe UI", Roboto, "Noto Sans", "Noto Sans Arabic", sans-serif);
}
:host([theme=light]) { color-scheme: light !important }
:host([theme=dark]) { color-scheme: dark !important }
:host([inline]) { block-size: 100% !important }
* { box-sizing: border-box }
[hidden] { display: none !important }
.root { font: 400 var(--parley-font-size, 15px)/1.5 var(--_font); color: var(--_text); text-align: start;
  -webkit-text-size-adjust: 100%; -webkit-tap-highlight-color: transparent }
button, textarea, summary { font: inherit; color: inherit; letter-spacing: inherit }
button { position: relative; border: 0; background: none; padding: 0; cursor: pointer; border-radius: 10px; touch-action: manipulation }
button[aria-disabled=true] { opacity: .45; cursor: default }
:focus { outline: none }
:focus-visible { outline: 3px solid var(--_accent); outline-offset: 2px }
svg { display: block; inline-size: 22px; block-size: 22px; fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round }
.root[dir=rtl] .flip svg { transform: scaleX(-1) }
.said { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }

.launcher { position: fixed; z-index: var(--parley-z, 2147483646); inset-block-end: max(var(--_gap), env(safe-area-inset-bottom)); inset-inline-end: var(--_gap);
  inline-size: 60px; block-size: 60px; border-radius: 50%; border: 1px solid transparent; display: grid; place-items: center;
  background: var(--_accent); color: var(--_on-accent); box-shadow: 0 2px 6px #0003, 0 8px 24px #0003 }
.start .launcher, .start dialog { inset-inline: var(--_gap) auto }
.launcher:focus-visible { outline-color: var(--_text) }
.launcher svg { inline-size: 28px; block-size: 28px }
.badge { position: absolute; inset-block-start: -4px; inset-inline-end: -4px; min-inline-size: 24px; padding: 0 6px; border-radius: 12px;
  border: 2px solid var(--_back); background: var(--_bad); color: var(--_back); font: 700 13px/20px var(--_font) }

dialog { position: fixed; z-index: var(--parley-z, 2147483646); margin: 0; border: 1px solid var(--_line); padding: 0; max-inline-size: none; max-block-size: none;
  inset: auto; inset-block-end: calc(var(--_gap) + 72px); inset-inline-end: var(--_gap);
  inline-size: min(var(--parley-width, 400px), 100vw - 2*var(--_gap)); block-size: min(var(--parley-height, 680px), 100dvh - var(--_gap) - 88px);
  border-radius: calc(var(--_radius) + 2px); background: var(--_back); color: inherit; overflow: clip; box-shadow: 0 4px 12px #0002, 0 16px 48px #0003 }
dialog[open] { display: flex; flex-direction: column }
dialog::backdrop { background: #0006 }
:host([inline]) .root { block-size: 100% }
:host([inline]) dialog { position: static; inline-size: 100%; block-size: 100%; border: 0; border-radius: 0; box-shadow: none }

header { display: flex; align-items: center; gap: 2px; min-block-size: 64px; padding: 8px 8px 8px 18px; padding-inline: 18px 8px; background: var(--_accent); color: var(--_on-accent) }
header :focus-visible { outline-color: currentColor; outline-offset: -4px }
header div { flex: 1; min-inline-size: 0 }
h2 { margin: 0; text-align: -webkit-match-parent; text-align: match-parent; font-size: 1.07em; font-weight: 650; line-height: 1.3; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
header p { margin: 0; font-size: .84em; line-height: 1.35; display: flex; align-items: center; gap: 6px; opacity: .92 }
header p::before { content: ""; inline-size: 8px; block-size: 8px; border-radius: 50%; border: 1.5px solid currentColor }
.is-online p::before { background: currentColor }
header button, .tools button { inline-size: 44px; block-size: 44px; display: grid; place-items: center; flex: none }
header button:hover { background: #fff2 }
.banner { display: flex; align-items: center; gap: 10px; padding: 6px 18px; padding-inline: 18px 8px; min-block-size: 48px; font-size: .93em; background: light-dark(#fff3d6, #3b300f); color: light-dark(#5c4300, #ffe1a0); border-block-end: 1px solid var(--_line) }
.banner span { flex: 1 }
.banner.bad { background: light-dark(#fdeceb, #43191a); color: light-dark(#8c1d18, #ffc9c4) }
.plain { min-block-size: 44px; padding: 0 12px; font-weight: 600; text-decoration: underline; text-underline-offset: 3px }

.stage { position: relative; flex: 1; min-block-size: 0; display: flex; flex-direction: column }
.log { flex: 1; overflow: hidden auto; overscroll-behavior: contain; padding: 18px 16px 10px; scrollbar-width: thin }
.log:focus-visible { outline-offset: -4px }
.older { text-align: center; color: var(--_muted); font-size: .87em; min-block-size: 1px }
.latest { position: absolute; inset-block-end: 10px; inset-inline: 0; margin: auto; inline-size: fit-content; min-block-size: 44px; padding: 0 18px 0 14px; border-radius: 22px; display: flex; align-items: center; gap: 6px;
  background: var(--_back); border: 1px solid var(--_line); box-shadow: 0 4px 16px #0003; font-weight: 600; font-size: .9em }
article { margin-block-end: 14px; display: flex; flex-direction: column; align-items: flex-start }
.stretch { margin-inline: -8px; padding-inline: 8px }
@supports (overflow-anchor: auto) { .stretch:not(:last-child) { content-visibility: auto; contain-intrinsic-size: auto 2900px } }
article.user { align-items: flex-end }
.who { font-size: .8em; color: var(--_muted); margin: 0 4px 3px }
.bubble { max-inline-size: 88%; min-inline-size: 0; padding: 10px 14px; border-radius: var(--_radius); background: var(--_surface); border: 1px solid transparent; overflow-wrap: anywhere }
.assistant .bubble, .operator .bubble { border-end-start-radius: 5px }
.user .bubble { background: var(--_accent); color: var(--_on-accent); border-end-end-radius: 5px; white-space: pre-wrap }
.operator .bubble { border-color: var(--_line); background: var(--_back) }
.notice { align-items: center; text-align: center }
.notice .bubble { background: none; color: var(--_muted); font-size: .87em; padding: 0 }
.waiting .bubble { opacity: .72 }
.meta { display: flex; align-items: center; gap: 4px; margin: 4px 4px 0; min-block-size: 18px; font-size: .8em; color: var(--_muted) }
.meta svg { inline-size: 15px; block-size: 15px }
.meta.bad, .bad > svg { color: var(--_bad) }
.tools { display: flex; gap: 14px; margin-inline-start: auto }
.tools button { inline-size: 30px; block-size: 30px; color: var(--_muted) }
.tools button::after { content: ""; position: absolute; inset: -7px }
.tools svg { inline-size: 17px; block-size: 17px }
.tools button:hover { color: var(--_text); background: var(--_surface) }
.tools [aria-pressed=true] { color: var(--_accent) }
.tools [aria-pressed=true] svg { fill: color-mix(in srgb, currentColor 25%, transparent) }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin: 0 0 6px; padding: 0; list-style: none }
.chips li { display: flex; align-items: center; gap: 6px; padding: 3px 11px 3px 8px; border: 1px solid var(--_line); border-radius: 14px; font-size: .84em; color: var(--_muted) }
.chips svg { inline-size: 15px; block-size: 15px }
.sources { inline-size: 100%; max-inline-size: 88%; margin: 8px 0 0; padding: 0; list-style: none; display: flex; flex-direction: column; gap: 4px; font-size: .88em }
summary { display: flex; align-items: center; gap: 8px; min-block-size: 44px; padding: 4px 12px; cursor: pointer; list-style: none; border: 1px solid var(--_line); border-radius: 12px }
summary::-webkit-details-marker { display: none }
summary b { flex: none; min-inline-size: 22px; block-size: 22px; border-radius: 7px; background: var(--_surface); text-align: center; line-height: 22px; font-size: .9em }
summary span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
details p { margin: 6px 12px 10px; color: var(--_muted); overflow-wrap: anywhere }
.dots { display: inline-flex; gap: 4px; padding: 7px 0; vertical-align: middle }
.dots i { inline-size: 7px; block-size: 7px; border-radius: 50%; background: var(--_muted) }
.label { color: var(--_muted); font-size: .93em; margin-inline-start: 8px }
.why { display: flex; flex-direction: column; gap: 8px; inline-size: 88%; margin-block-start: 6px; padding: 12px; border: 1px solid var(--_line); border-radius: 14px }
.why div { display: flex; gap: 8px; justify-content: flex-end }
.solid { min-block-size: 44px; padding: 0 18px; border-radius: 22px; background: var(--_accent); color: var(--_on-accent); font-weight: 600; border: 1px solid transparent }

.bubble :is(p, ul, ol, pre, blockquote, .wide, h1, h2, h3, h4, h5, h6) { margin: .6em 0 }
.bubble :is(h1, h2, h3, h4, h5, h6) { font-size: 1.06em; font-weight: 650; line-height: 1.35; white-space: normal }
.bubble :is(ul, ol) { padding-inline-start: 1.4em } .bubble li { margin: .2em 0 } .bubble li > p { margin: 0 }
.bubble a { color: inherit; text-decoration: underline; text-underline-offset: 2px }
.assistant .bubble a { color: light-dark(color-mix(in srgb, var(--_accent) 88%, #000), color-mix(in srgb, var(--_accent) 70%, #fff)) }
.bubble.bubble > :first-child { margin-block-start: 0 } .bubble.bubble > :last-child { margin-block-end: 0 }
.cite { min-inline-size: 18px; padding: 0 5px; margin-inline: 2px; border-radius: 6px; font: 600 .75em/18px var(--_font); vertical-align: .25em; background: color-mix(in srgb, var(--_text) 12%, transparent) }
code, pre { font: .9em/1.5 ui-monospace, "SF Mono", Consolas, monospace }
code { padding: .1em .35em; border-radius: 5px; background: light-dark(#0000000f, #ffffff1c) }
.code { position: relative; max-inline-size: 100% }
.code pre { margin: 0; padding: 12px 14px; border-radius: 12px; overflow: auto; background: light-dark(#1d2029, #0b0d11); color: #eceef3; direction: ltr; text-align: left }
.code code { padding: 0; background: none; font-size: 1em }
.code .plain { position: absolute; inset-block-start: 0; inset-inline-end: 0; color: #eceef3; font-size: .82em; text-decoration: none; background: light-dark(#1d2029, #0b0d11) }
.code .plain + pre { padding-block-start: 40px }
blockquote { border-inline-start: 3px solid var(--_line); padding-inline-start: 12px; color: var(--_muted) }
hr { border: 0; border-block-start: 1px solid var(--_line); margin: 12px 0 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .93em }
th, td { padding: 6px 10px; border: 1px solid color-mix(in srgb, currentColor 22%, transparent); text-align: start; overflow-wrap: normal }
th { font-weight: 650 }

form.composer { padding: 10px 12px; padding-block-end: max(12px, env(safe-area-inset-bottom)); border-block-start: 1px solid var(--_line) }
.box { display: flex; align-items: flex-end; gap: 4px; padding: 3px; border: 1px solid light-dark(#8b93a3, #6b7280); border-radius: 26px; background: var(--_back) }
.box:focus-within { border-color: var(--_accent); box-shadow: 0 0 0 2px var(--_accent) }
textarea { flex: 1; min-inline-size: 0; border: 0; background: none; resize: none; padding: 10px 6px 10px 14px; padding-inline: 14px 6px; font-size: 16px; line-height: 24px; max-block-size: 144px; field-sizing: content; scrollbar-width: thin }
textarea:focus-visible { outline: none } textarea:placeholder-shown { direction: inherit }
.why textarea { border: 1px solid light-dark(#8b93a3, #6b7280); border-radius: 10px; min-block-size: 68px }
.why textarea:focus-visible { outline: 2px solid var(--_accent) }
::placeholder { color: var(--_muted); opacity: 1 }
.go { flex: none; inline-size: 44px; block-size: 44px; border-radius: 50%; display: grid; place-items: center; background: var(--_accent); color: var(--_on-accent); border: 1px solid transparent }
.note { display: flex; align-items: center; min-block-size: 24px; padding-inline: 12px 0; font-size: .87em; color: var(--_muted) } .note span { flex: 1 }
.note:has(:not(span)) { min-block-size: 44px }

.variants { gap: 2px; margin-inline: 6px 0; align-items: center }
.list { flex: 1; overflow: auto; padding: 10px; display: flex; flex-direction: column }
.list ul { flex: 1; margin: 0 0 10px; padding: 0; list-style: none }
.list label { display: flex; align-items: center; gap: 12px; min-block-size: 44px; padding: 0 14px; cursor: pointer }
.list input { flex: none; inline-size: 18px; block-size: 18px; margin: 0; accent-color: var(--_accent) }
.list button { inline-size: 100%; min-block-size: 56px; padding: 8px 14px; text-align: start; border-radius: 14px; display: block }
.list button:hover, .list [aria-current=true] { background: var(--_surface) }
.list span { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-weight: 550 }
.list small { color: var(--_muted); font-size: .85em }
.list .fresh { display: flex; align-items: center; gap: 10px; color: light-dark(var(--_accent), var(--_text)); font-weight: 600 }

@media (max-width: 520px) {
  :host(:not([inline])) dialog { inset: 0; inline-size: 100%; block-size: var(--_view, 100dvh); border: 0; border-radius: 0 }
  header { padding-block-start: max(8px, env(safe-area-inset-top)) }
}
@media (prefers-reduced-motion: no-preference) {
  dialog:modal, .root:not(.still) dialog[open] { animation: rise .18s ease-out }
  .dots i { animation: dot 1.2s infinite } .dots i:nth-child(2) { animation-delay: .15s } .dots i:nth-child(3) { animation-delay: .3s }
  .launcher { transition: transform .15s } .launcher:hover { transform: scale(1.05) }
  @keyframes rise { from { opacity: 0; transform: translateY(12px) } }
  @keyframes dot { 0%, 60%, 100% { opacity: .3 } 30% { opacity: 1 } }
}
.caret > :last-child::after { content: ""; display: inline-block; inline-size: 7px; block-size: 1em; margin-inline-start: 3px; vertical-align: -.13em; border-radius: 2px; background: var(--_accent) }
@media (forced-colors: active) {
  .bubble, .launcher, .solid, .go { border-color: CanvasText } .user .bubble { border-width: 2px }
  header { border-block-end: 1px solid CanvasText } .tools [aria-pressed=true] { outline: 2px solid Highlight }
}
@media print { .launcher, form.composer { display: none } }
`;

/** One sheet for all widgets of a page. */
export const sheet = new CSSStyleSheet();
sheet.replaceSync(CSS);
