// The page: shows what the server says, tells it what is pressed. All state is the server's, so a reload loses nothing.

import { Picture, ROWS } from "./picture.js";
import { Replay } from "./replay.js";

const STRONGEST_DB = 60, STEP_DB = 3, QUIETEST_DB = -60, QUICK_MS = 60, CALL_MS = 150, AGAIN_MS = 1000, FRESH_MS = 400;
const $ = (id) => document.getElementById(id);
const texts = {};
let language = "en", state = null, socket = null, met = false, last = null, levels = [QUIETEST_DB, QUIETEST_DB];

// ---- words ----

const t = (key, values = {}) =>
  (texts[language]?.[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

async function speak(wanted) {
  if (!texts[wanted]) texts[wanted] = await (await fetch(`texts/${wanted}.json`)).json();
  language = wanted;
  document.documentElement.lang = wanted;
  $("language").value = wanted;
  for (const element of document.querySelectorAll("[data-text]")) put(element, t(element.dataset.text));
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
  show();
}

// ---- talk with the server ----

function connect() {
  socket = new WebSocket(new URL("ws", location.href).href.replace("http", "ws"));
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    for (const kind of Object.keys(unsent)) send({ [kind]: unsent[kind] });
    unsent = {};
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : draw(data));
  socket.onclose = () => {
    state = null;
    show();
    setTimeout(connect, AGAIN_MS);
  };
}

let unsent = {}; // by kind: what was said without a connection is sent with the next one, the last word on each thing
function send(message) {
  if (socket?.readyState === WebSocket.OPEN) return socket.send(JSON.stringify(message));
  for (const [kind, values] of Object.entries(message)) unsent[kind] = { ...unsent[kind], ...values };
}

function hear(message) {
  if (message.type === "refused") return complain(message.problem);
  state = message;
  if (!met) { // Later connections change neither guide nor language, which may just have been told otherwise.
    met = true;
    $("guide").hidden = state.memory.guided;
    const wanted = state.memory.language ?? (navigator.language.startsWith("de") ? "de" : "en");
    if (wanted !== language || !texts[wanted]) return void speak(wanted);
  }
  show();
}

// ---- what is shown ----

const problem = $("problem");
let complaint = "";
function complain(text) {
  complaint = text;
  show();
}

function show() {
  if (!texts[language]) return;
  const settings = state?.settings, s = state?.status;
  document.body.dataset.phase = state?.phase ?? "away";
  put($("phase"), !state ? t("phase.away") : s && s.state !== "running" ? t("phase.waiting", { what: s.state })
    : settings.muted && state.phase === "running" ? t("phase.muted") : t(`phase.${state.phase}`));
  const text = complaint || (state?.problem ?? "") || (s?.failure ? t("failure", { why: s.failure }) : "");
  problem.hidden = !text;
  put(problem.querySelector("p"), text);
  press($("filter"), settings && !settings.bypass, t(settings && settings.bypass ? "filter.off" : "filter.on"));
  press($("mute"), settings?.muted ?? false, t(settings?.muted ? "mute.on" : "mute.off"));
  if (settings) showStrength(settings.strength_db);
  if (state) showChoices();
  showReplay();
  showHealth(s);
}

function press(button, pressed, text) {
  button.setAttribute("aria-pressed", String(Boolean(pressed)));
  put(button, text);
  button.disabled = !state;
}

let moving = -Infinity; // when the slider was moved last: the server's answer must not pull it back
function showStrength(strength) {
  const value = strength ?? STRONGEST_DB;
  if (performance.now() - moving > FRESH_MS) $("strength").value = Math.min(value, STRONGEST_DB);
  const words = strength === null ? t("strength.none") : t("strength.value", { db: number(strength) });
  put($("strength-text"), words);
  $("strength").setAttribute("aria-valuetext", words);
}

function showChoices() {
  const { choices, devices, speaker, models, profiles, microphone } = state;
  fill($("profile"), [{ value: "", label: t("profile.none") },
    ...profiles.map(({ name, about }) => ({ value: name, label: profileWords(name, about) }))], choices.profile);
  fill($("channels"), ["1", "2"].map((value) => ({ value, label: t(`channels.${value}`) })), choices.channels);
  const { low_cut_hz } = state.settings;
  fill($("low-cut"), ["", "60", "80", "100", "120"].map((hz) => ({ value: hz, label: lowCutWords(hz) })),
    low_cut_hz === null ? "" : String(low_cut_hz), lowCutWords);
  $("channels-field").hidden = microphone.channels < 2 && choices.channels === "1";
  const virtual = speaker ? [{ value: SPEAKER, label: t("devices.speaker") }] : [];
  fill($("input"), [{ value: "", label: t("devices.default-input") }, ...virtual, ...devices.inputs], choices.input);
  fill($("output"), [{ value: MICROPHONE, label: t("devices.virtual") },
    { value: "", label: t("devices.default-output") }, ...devices.outputs], choices.output);
  fill($("model"), models.map((name) => ({ value: name, label: name })), choices.model);
  $("call-hint").hidden = choices.output !== MICROPHONE;
  $("speaker-hint").hidden = choices.input !== SPEAKER;
}

const MICROPHONE = "virtual-mic", SPEAKER = "virtual-speaker";
const LEAST_DELAY = "music-practice", BUILT_IN = ["call", "podcast", LEAST_DELAY, "far-microphone"];
const profileWords = (name, about) =>
  BUILT_IN.includes(name) ? t(`profile.${name}`) : about ? `${name}: ${about}` : name;

const lowCutWords = (hz) => (hz ? t("low-cut.value", { hz }) : t("low-cut.off"));

function fill(select, options, chosen, words = String) {
  if (!options.some(({ value }) => value === chosen)) options.push({ value: chosen, label: words(chosen) });
  const made = JSON.stringify([options, language]);
  if (select.dataset.made !== made) {
    const shown = select.value; // which somebody may be just about to change
    select.dataset.made = made;
    select.replaceChildren(...options.map(({ value, label }) => new Option(label, value)));
    select.value = options.some(({ value }) => value === shown) ? shown : chosen;
  }
  if (select.value !== chosen && document.activeElement !== select) select.value = chosen;
}

const HEAVY_MS = 2; // A model that takes half the time of a hop leaves little for whatever else happens.
function advice(s, total) {
  const found = [], slow = total >= QUICK_MS;
  if (s.underruns > 5 && s.scheduling === "normal") found.push(t("advice.priority"));
  if (s.worker === "python") found.push(t("advice.worker"));
  else if (s.reused_gains && s.model_ms_p99 > HEAVY_MS) found.push(t("advice.model", { ms: number(s.model_ms_p99, 1) }));
  if (s.cpu_percent > 70) found.push(t("advice.load"));
  if (s.fallback) found.push(t("advice.fallback", { why: s.fallback }));
  if (slow && s.device_latency_ms > total / 2) found.push(t("advice.devices"));
  else if (slow && state.choices.profile !== LEAST_DELAY) found.push(t("advice.filter"));
  return found;
}

function showHealth(s) {
  $("health").hidden = !s;
  if (!s) return;
  const lost = s.dropout_ms + s.skipped_ms, total = s.latency_ms + (s.device_latency_ms ?? 0);
  const words = [
    s.underruns ? [t("words.gaps", { count: number(s.underruns), ms: number(lost) }), true]
      : s.reused_gains ? [t("words.held", { held: number(s.reused_gains) }), false]
      : s.seconds < 90 ? [t("words.clean-seconds", { seconds: number(s.seconds) }), false]
      : [t("words.clean", { minutes: number(s.seconds / 60) }), false],
    [t(total < QUICK_MS ? "words.quick" : total < CALL_MS ? "words.fine" : "words.slow", { ms: number(total) }), total >= CALL_MS],
    [t("words.load", { percent: number(s.cpu_percent) }), s.cpu_percent > 70],
    [s.drift_ppm === null ? t("words.one-clock") : t("words.drift", { ppm: number(Math.abs(s.drift_ppm)) }), false],
  ];
  words.push(...advice(s, total).map((text) => [text, true]));
  const list = $("words");
  while (list.children.length > words.length) list.lastChild.remove();
  words.forEach(([text, warn], i) => {
    const item = list.children[i] ?? list.appendChild(document.createElement("li"));
    put(item, text);
    item.className = warn ? "warn" : "";
  });
  const filter = Math.min(s.algorithmic_latency_ms, s.latency_ms || s.algorithmic_latency_ms);
  const parts = { filter, buffers: Math.max(0, s.latency_ms - filter), devices: s.device_latency_ms ?? 0 };
  const key = $("delay-key");
  Object.entries(parts).forEach(([name, ms], i) => {
    $("delay").children[i].style.width = `${Math.min(100, (100 * ms) / CALL_MS)}%`;
    let item = key.children[i];
    if (!item) {
      item = key.appendChild(document.createElement("li"));
      item.append(Object.assign(document.createElement("i"), { className: name }), document.createElement("span"));
    }
    item.hidden = name === "devices" && s.device_latency_ms === null; // nobody says what they add
    put(item.lastChild, t(`delay.${name}`, { ms: number(ms, 1) }));
  });
  const whole = t("delay.whole", { ms: number(total), budget: number(CALL_MS) });
  $("delay").setAttribute("aria-label", whole);
  const sum = key.children[3] ?? key.appendChild(document.createElement("li"));
  put(sum, whole);
  if ($("figures").closest("details").open)
    $("figures").replaceChildren(...Object.entries(s).flatMap(([name, value]) =>
      [["dt", name], ["dd", String(value)]].map(([tag, text]) => Object.assign(document.createElement(tag), { textContent: text }))));
}

// ---- spectrograms and meters ----

const pictures = [new Picture($("picture-before")), new Picture($("picture-after"))];
function draw(data) {
  const view = new DataView(data), count = view.getInt32(0, true), bytes = new Uint8Array(data, 12);
  pictures.forEach((picture, i) => picture.add(bytes.subarray(i * count * ROWS, (i + 1) * count * ROWS)));
  levels = [view.getFloat32(4, true), view.getFloat32(8, true)];
  if (last === null) last = requestAnimationFrame(showLevels);
}

function showLevels() {
  last = null;
  ["level-before", "level-after"].forEach((id, i) => {
    const share = Math.min(1, Math.max(0, 1 - levels[i] / QUIETEST_DB));
    $(id).firstElementChild.style.transform = `scaleX(${share.toFixed(3)})`;
    $(id).classList.toggle("loud", levels[i] > -3);
    $(id).setAttribute("aria-valuenow", String(Math.round(Math.max(QUIETEST_DB, levels[i]))));
  });
  if (replay.playing) $("progress").value = replay.progress;
}

// ---- replay ----

const replay = new Replay(() => show());
function showReplay() {
  put($("replay"), t(replay.playing ? "hear.stop" : "hear.play"));
  $("replay").disabled = state?.phase !== "running" && !replay.playing;
  $("side").disabled = !replay.playing;
  put($("side"), t(replay.side === "after" ? "hear.to-before" : "hear.to-after"));
  put($("heard"), replay.playing ? t(`hear.${replay.side}`) : "");
  if (!replay.playing) $("progress").value = 0;
}

async function toggleReplay() {
  if (replay.playing) replay.stop();
  else if (!(await replay.start())) complain(t("hear.nothing"));
}
const otherSide = () => replay.playing && replay.choose(replay.side === "after" ? "before" : "after");

// ---- what is pressed ----

const toggleFilter = () => state && send({ set: { bypass: !state.settings.bypass } });
const toggleMute = () => state && send({ set: { muted: !state.settings.muted } });
function setStrength(value) {
  const strength = value >= STRONGEST_DB ? null : value;
  if (state) state.settings.strength_db = strength;
  showStrength(strength);
  send({ set: { strength_db: strength } });
}

$("filter").onclick = toggleFilter;
$("mute").onclick = toggleMute;
$("replay").onclick = toggleReplay;
$("side").onclick = otherSide;
$("strength").oninput = ({ target }) => { moving = performance.now(); setStrength(Number(target.value)); };
for (const mark of document.querySelectorAll("[data-strength]")) mark.onclick = () => setStrength(Number(mark.dataset.strength));
for (const name of ["input", "output", "channels", "model", "profile"])
  $(name).onchange = ({ target }) => { complaint = ""; send({ choose: { [name]: target.value } }); };
$("low-cut").onchange = ({ target }) => send({ set: { low_cut_hz: target.value ? Number(target.value) : null } });
$("retry").onclick = () => { complaint = ""; if (state) send({ choose: { input: state.choices.input } }); show(); };
$("language").onchange = ({ target }) => { send({ remember: { language: target.value } }); speak(target.value); };
$("open-guide").onclick = () => { $("guide").hidden = false; $("guide-title").focus(); };
$("close-guide").onclick = () => { $("guide").hidden = true; send({ remember: { guided: true } }); $("filter").focus(); };
$("report").onclick = async () => {
  const text = await (await fetch("report.txt")).text(), area = $("report-text");
  try {
    await navigator.clipboard.writeText(text);
    put($("reported"), t("report.copied"));
  } catch {
    put($("reported"), t("report.by-hand"));
  }
  area.hidden = false;
  area.value = text;
};

const stronger = (step) => state && setStrength(Math.max(0, (state.settings.strength_db ?? STRONGEST_DB) + step));
const keys = { f: toggleFilter, m: toggleMute, r: toggleReplay, a: otherSide,
  "+": () => stronger(STEP_DB), "=": () => stronger(STEP_DB), "-": () => stronger(-STEP_DB) };
addEventListener("keydown", (event) => {
  const typed = event.target.closest?.("select, textarea, input:not([type=range])");
  if (!typed && !event.ctrlKey && !event.altKey && !event.metaKey && !event.repeat) keys[event.key.toLowerCase()]?.();
});

await speak(navigator.language.startsWith("de") ? "de" : "en");
connect();
Object.assign(globalThis, { rtdenoise: { replay, state: () => state } });
