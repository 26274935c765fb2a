// The live page of Aldis. Everything from the application is put into the page as text, never as HTML.

"use strict";

const KEPT = 200;
const OUTSIDE = "outside";
// Most signals are sent by the application itself, so that sender is not shown.
const isUsualSender = (sender) => sender === "None" || sender.startsWith("Flask '");
const $ = (id) => document.getElementById(id);

const entries = new Map(); // By "epoch:number": the newest data, and the element that shows it.
let waiting = new Map(); // The newest data that arrived while the page is paused.
let connections = [];
let handled = 0;
let epoch = null;
let cleared = { epoch: null, number: 0 };
let isPaused = false;

// Build elements.

function make(tag, names, ...children) {
  const element = document.createElement(tag);

  if (names) element.className = names;

  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

function showTime(ms) {
  if (ms === null || ms === undefined) return "…";
  if (ms < 0.001) return "0 µs";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(2)} s`;
}

const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function qualified(name) {
  const end = name.lastIndexOf(".") + 1;
  return make("code", "", make("span", "quiet", name.slice(0, end)), make("span", "own", name.slice(end)));
}

// Sum up a request.

function walk(sends, visit, depth = 0) {
  for (const send of sends) {
    visit("signal", send, depth);

    for (const call of send.calls) {
      visit("call", call, depth + 1, send);
      walk(call.sends, visit, depth + 2);
    }
  }
}

function measure(data) {
  const sum = { signals: 0, calls: 0, failures: 0, end: data.duration ?? 0, names: [] };

  walk(data.sends, (kind, item) => {
    sum.end = Math.max(sum.end, item.offset + (item.duration ?? 0));
    sum.names.push(kind === "signal" ? item.signal : item.receiver);
    sum[kind === "signal" ? "signals" : "calls"] += 1;
    sum.failures += kind === "call" && item.outcome === "raised" ? 1 : 0;
  });

  sum.isFailed = sum.failures > 0 || Boolean(data.failure) || data.status >= 500 || data.sends.some((s) => s.failure);
  sum.names = sum.names.join("\n").toLowerCase();
  sum.end = Math.max(sum.end, 0.001);
  return sum;
}

function kindOf(kind, item) {
  if (kind === "signal") return item.failure ? "failed" : "signal";
  if (item.outcome === "raised") return "failed";
  if (item.outcome === "delivered") return "later";
  return item.via ? "ran-later" : "call";
}

function place(element, item, end) {
  const from = Math.min(Math.max(item.offset / end, 0), 1) * 100;
  element.style.left = `min(${from}%, 100% - 4px)`;
  element.style.width = `${Math.min(((item.duration ?? 0) / end) * 100, 100 - from)}%`;
  return element;
}

// Show one request, folded.

function statusOf(data) {
  if (data.method === null) return null;
  if (data.status === null) return make("span", "status", data.failure ? "✗" : "…");

  const kinds = { 2: "good", 4: "client", 5: "server" };
  return make("span", `status ${kinds[Math.floor(data.status / 100)] ?? ""}`, String(data.status));
}

function countsOf(data, sum) {
  const failed = data.failure && !sum.failures ? data.failure : sum.failures ? `${sum.failures} failed` : null;

  if (sum.isFailed && failed) return make("span", "counts", make("span", "failure", `✗ ${failed}`), ` · ${plural(sum.calls, "receiver")}`);
  return make("span", "counts", `${plural(sum.signals, "signal")} · ${plural(sum.calls, "receiver")}`);
}

function stripOf(data, sum) {
  const strip = make("span", "strip");
  strip.setAttribute("aria-hidden", "true");
  let drawn = 0;

  walk(data.sends, (kind, item) => {
    drawn += 1;
    const look = kindOf(kind, item);

    if (drawn <= 60) strip.append(place(make("i", look === "ran-later" ? "later" : look), item, sum.end));
  });

  return strip;
}

function summarise(entry) {
  const { data, sum } = entry;
  const isRequest = data.method !== null;
  const when = make("time", "time", new Date(data.started * 1000).toLocaleTimeString("en-GB"));
  const what = isRequest
    ? make("span", "what", make("span", "method", data.method), make("span", "path", data.path))
    : make("span", "what", make("span", "path", make("b", "", data.sends[0]?.signal ?? ""), ` ${OUTSIDE} a request`));

  what.title = isRequest ? `${data.method} ${data.path}` : `${data.sends[0]?.signal} ${OUTSIDE} a request`;
  const parts = [when, what, stripOf(data, sum), countsOf(data, sum), statusOf(data), make("span", "took", showTime(data.duration))];

  // At phone width the counts are hidden. Colour alone must not tell a failure, so add a mark and a word.
  if (sum.isFailed) what.append(make("span", "failure", "✗"), make("span", "sr", "failed"));

  entry.element.className = `entry${sum.isFailed ? " failed" : ""}${isRequest ? "" : ` ${OUTSIDE}`}`;
  entry.element.firstChild.replaceChildren(...parts.filter(Boolean));
}

// Show one request, unfolded.

function chipsOf(payload) {
  return payload.map(([name, type, value]) => {
    const kind = type === "NoneType" ? "None" : type;
    const tellsMore = value !== undefined && value !== kind && value !== `<${kind}>`;
    return make("span", "chip", make("b", "", name), kind && `: ${kind}`, tellsMore ? make("span", "value", ` = ${value}`) : null);
  });
}

function nameOf(kind, item, depth) {
  const look = kindOf(kind, item);
  const name = make("div", "name", make("span", `glyph ${look}`));
  name.style.setProperty("--depth", depth);

  if (kind === "signal") {
    name.append(make("code", "signal-name", item.signal));

    if (item.failure) name.append(make("span", "failure", `stopped by ${item.failure}`));
    if (item.muted) name.append(make("span", "badge", "muted"));
    else if (item.calls.length === 0) name.append(make("span", "alone", "no receivers"));
    if (!isUsualSender(item.sender)) name.append(make("span", "place", `by ${item.sender}`));

    name.append(...chipsOf(item.payload));
  } else {
    name.append(qualified(item.receiver));

    if (item.failure) name.append(make("span", "failure", `raised ${item.failure}`));

    if (item.priority) name.append(make("span", "badge", `priority ${item.priority}`));
    if (item.async) name.append(make("span", "badge", "async"));
    if (item.via) name.append(make("span", "badge later", `${item.outcome === "delivered" ? "handed to" : "run by"} ${item.via}`));
    if (item.place) name.append(make("span", "place", item.place));
  }

  return name;
}

// Return whether something was sent or called after the application had answered.
const goesOn = ({ data, sum }) => data.method !== null && Boolean(data.duration) && sum.end > data.duration * 1.001;

function rowOf(entry, kind, item, depth) {
  const { data, sum } = entry;
  const look = kindOf(kind, item);
  const track = make("div", "track", place(make("span", `bar ${look}`), item, sum.end));

  if (goesOn(entry)) {
    const mark = make("span", "answered");
    mark.style.left = `${(data.duration / sum.end) * 100}%`;
    track.append(mark);
  }

  const row = make("li", `row ${kind}-row`, nameOf(kind, item, depth), track, make("span", "took", showTime(item.duration)));
  row.classList.toggle("failed", look === "failed");
  row.classList.toggle("unheard", kind === "signal" && item.calls.length === 0 && look !== "failed");
  row.dataset.depth = depth;
  row.dataset.name = (kind === "signal" ? item.signal : item.receiver).toLowerCase();
  return row;
}

function axisOf(sum) {
  const ticks = make("div", "ticks");

  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const tick = make("span", "", part === 0 ? "0" : showTime(sum.end * part));
    tick.style.left = `${part * 100}%`;
    ticks.append(tick);
  }

  const axis = make("div", "axis", ticks);
  axis.setAttribute("aria-hidden", "true");
  return axis;
}

function unfold(entry) {
  const { data, sum, element } = entry;
  const rows = make("ol", "rows");
  let leftOut = data.left_out;

  walk(data.sends, (kind, item, depth) => {
    rows.append(rowOf(entry, kind, item, depth));
    leftOut += kind === "signal" ? item.left_out : 0;
  });

  const fall = make("div", "fall", axisOf(sum), rows);

  if (data.failure) fall.append(make("p", "note failure", `The request ended with ${data.failure}.`));
  if (data.partial) fall.append(make("p", "note", "Under load, signals are recorded for only a part of each second, so some signals of this request are missing."));
  else if (data.duration !== null && data.sends.length === 0) fall.append(make("p", "note", "No signal was sent."));
  if (leftOut) fall.append(make("p", "note", `${plural(leftOut, "more row")} left out.`));
  if (goesOn(entry)) {
    const closed = data.closed === null ? "" : `, and the response was sent and closed after ${showTime(data.closed)}`;
    fall.append(make("p", "note", make("span", "mark mark-answered"), `The application answered after ${showTime(data.duration)}${closed}.`));
  }

  element.querySelector(".fall")?.remove();
  element.append(fall);
  mark(entry);
}

// Keep the list of requests.

function insert(entry) {
  const list = $("requests");
  let next = list.firstChild;

  while (next && next.dataset.epoch === epoch && Number(next.dataset.number) > entry.data.number) next = next.nextSibling;

  list.insertBefore(entry.element, next);
}

function add(key, data) {
  const element = make("details", "entry", make("summary", ""));
  const entry = { data, element, sum: measure(data) };
  element.dataset.epoch = epoch;
  element.dataset.number = data.number;
  element.addEventListener("toggle", () => {
    if (element.open) unfold(entry);
    else element.querySelector(".fall")?.remove();
  });
  entries.set(key, entry);
  summarise(entry);
  element.classList.add("new");
  insert(entry);
  return entry;
}

function change(entry, data) {
  entry.data = data;
  entry.sum = measure(data);
  summarise(entry);

  if (entry.element.open) unfold(entry);
}

function show(key, data) {
  const known = entries.get(key);

  if (known) change(known, data);
  else if (epoch !== cleared.epoch || data.number > cleared.number) add(key, data);

  const entry = entries.get(key);

  if (entry) filter(entry);
}

function forget() {
  const kept = { true: 0, false: 0 };

  for (const element of [...$("requests").children]) {
    if (!element.dataset.number) continue;

    const key = `${element.dataset.epoch}:${element.dataset.number}`;
    const isRequest = entries.get(key).data.method !== null;
    kept[isRequest] += 1;

    if (kept[isRequest] > KEPT) {
      entries.delete(key);
      element.remove();
    }
  }
}

function take(list) {
  for (const data of list) {
    const key = `${epoch}:${data.number}`;

    if (isPaused) waiting.set(key, data);
    else show(key, data);
  }

  while (waiting.size > 2 * KEPT) waiting.delete(waiting.keys().next().value);

  forget();
  count();
}

// When another process answers, the server was restarted. When an earlier process answers again, several processes serve.
const processes = new Set();
let areSeveral = false;

function meet(process) {
  areSeveral ||= process !== epoch && processes.has(process);
  processes.add(process);

  if (areSeveral) for (const divider of document.querySelectorAll(".divider")) divider.remove();
  else if ($("requests").firstChild?.dataset.number) $("requests").prepend(make("p", "divider", "The server was restarted"));
}

// Filters.

function wanted() {
  return {
    name: $("filter-signal").value.trim().toLowerCase(),
    path: $("filter-path").value.trim().toLowerCase(),
    isFailed: $("filter-failed").checked,
    isOutside: $("filter-outside").checked,
  };
}

function filter(entry, want = wanted()) {
  const { data, sum } = entry;
  const isRequest = data.method !== null;

  entry.element.hidden =
    !sum.names.includes(want.name) ||
    !(isRequest ? data.path.toLowerCase() : "").includes(want.path) ||
    (want.isFailed && !sum.isFailed) ||
    (!want.isOutside && !isRequest);
}

function mark(entry, want = wanted()) {
  for (const row of entry.element.querySelectorAll(".row")) {
    row.classList.toggle("hit", want.name !== "" && row.dataset.name.includes(want.name));
  }
}

function filterAll() {
  const want = wanted();

  for (const entry of entries.values()) {
    filter(entry, want);
    mark(entry, want);
  }

  count();
  showConnections();
  renderRelay();
}

function count() {
  let shown = 0;
  let failed = 0;

  for (const { element, sum } of entries.values()) {
    shown += element.hidden ? 0 : 1;
    failed += sum.isFailed ? 1 : 0;
  }

  const parts = [shown === entries.size ? `${shown} shown` : `${shown} of ${entries.size} shown`, `${failed} failed`, `${plural(handled, "request")} handled`];

  if (waiting.size) parts.push(`${waiting.size} new while paused`);

  $("summary").textContent = entries.size ? parts.join(" · ") : "";
  $("count-requests").textContent = entries.size;
  $("empty-requests").hidden = shown > 0;
  $("legend").hidden = entries.size === 0;
  $("empty-title").textContent = entries.size ? "Nothing matches the filters" : "Waiting for the first request";
  $("empty-text").textContent = entries.size
    ? `Hidden by the filters: ${entries.size}.`
    : "Use your application in another tab. Each request appears here, with the signals that were sent in it.";
}

// Connections.

function badgesOf(record) {
  const badges = [record.is_weak ? "weak" : "strong"];

  if (record.priority) badges.push(`priority ${record.priority}`);
  if (record.is_async) badges.push("async");
  if (record.is_once) badges.push("once");

  const list = make("div", "badges", ...badges.map((text) => make("span", "badge", text)));

  if (record.via) list.append(make("span", "badge later", `via ${record.via}`));
  return list;
}

function tableOf(signal) {
  const head = make("tr", "", ...["Turn", "Receiver", "For sender", "How"].map((text) => make("th", "", text)));

  for (const cell of head.children) cell.scope = "col";

  const rows = signal.connections.map((record, index) =>
    make(
      "tr",
      "",
      make("td", "", String(index + 1)),
      make("td", "", qualified(record.receiver), record.place ? make("span", "place", record.place) : null),
      make("td", "", record.sender === "ANY" ? "for any sender" : make("span", "", "for ", make("code", "", record.sender))),
      make("td", "", badgesOf(record)),
    ),
  );

  return make("table", "connections-of-signal", make("thead", "", head), make("tbody", "", ...rows));
}

function cardOf(signal) {
  const head = make("header", "", make("h3", "", signal.name));

  if (signal.library !== "aldis") head.append(make("span", "badge", signal.library));
  if (signal.doc) head.append(make("p", "", signal.doc));

  head.append(make("span", "count", signal.connections ? plural(signal.connections.length, "receiver") : "?"));
  return make("section", "card", head, signal.connections ? tableOf(signal) : make("p", "note", "Its connections cannot be listed."));
}

function showConnections() {
  const { name } = wanted();
  const isWanted = (signal) =>
    signal.name.toLowerCase().includes(name) || (signal.connections ?? []).some((record) => record.receiver.toLowerCase().includes(name));
  const shown = connections.filter(isWanted);
  const heard = shown.filter((signal) => signal.connections === null || signal.connections.length);
  const silent = shown.filter((signal) => signal.connections !== null && signal.connections.length === 0);
  const total = connections.reduce((sum, signal) => sum + (signal.connections ?? []).length, 0);
  const cards = heard.map(cardOf);

  if (silent.length) {
    const names = silent.map((signal) => make("li", "chip", signal.name, signal.library === "aldis" ? null : ` (${signal.library})`));
    cards.push(make("section", "card silent", make("p", "quiet", "No receiver is connected to"), make("ul", "", ...names)));
  }

  $("connections").replaceChildren(...cards);
  $("count-connections").textContent = total;
  $("connections-summary").textContent = `${plural(total, "connection")} to ${plural(connections.length, "signal")}`;
  $("empty-connections").hidden = shown.length > 0;
}

function nameSignals() {
  const names = [...new Set(connections.map((signal) => signal.name))];
  $("signal-names").replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
}

// The relay. The page asks the server only while the relay tab is visible.

const RELAY_EVERY_MS = 2000;
let relay = null; // The last answer.
let relayTimer = null;
let asking = null;

const isRelaySeen = () => !document.hidden && !$("panel-relay").hidden;

function lookAtRelay() {
  clearTimeout(relayTimer);

  if (!isRelaySeen()) asking?.abort();
  else if (asking === null) askRelay();
}

async function askRelay() {
  const { signal } = (asking = new AbortController());
  let answer = { problem: "The server does not answer." };

  try {
    const response = await fetch("relay", { signal });
    answer = response.ok ? await response.json() : { problem: `The server answers with ${response.status}.` };
  } catch {
    // The server is down, or the page has stopped asking.
  }

  asking = null;

  if (signal.aborted) {
    lookAtRelay(); // The tab may be visible again by now.
    return;
  }

  showRelay(answer);
  relayTimer = setTimeout(lookAtRelay, RELAY_EVERY_MS);
}

function showAge(seconds) {
  const units = { d: 86400, h: 3600, min: 60 };
  const unit = Object.keys(units).find((name) => seconds >= 2 * units[name]);
  return unit ? `${Math.floor(seconds / units[unit])} ${unit}` : `${seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
}

const ageOf = (receiver) => (receiver.backlog + receiver.in_flight ? showAge(receiver.age) : "–");

// Set the role, because the style sheet may show a table as something else, and then its own roles are lost.
function as(role, element) {
  element.setAttribute("role", role);
  return element;
}

function cell(label, names, ...children) {
  const element = as("cell", make("td", names, ...children));
  element.dataset.label = label;
  return element;
}

const figure = (label, value, names = "") => cell(label, `figure ${value ? names : "none"}`, value.toLocaleString("en"));

function receiverRow(receiver) {
  const name = cell("Receiver", "name-cell", make("code", "own", receiver.name));

  if (!receiver.known) {
    const badge = make("span", "badge warn", "not known here");
    badge.title = "No receiver of this name is connected in this process. Its messages wait for a process that has it.";
    name.append(badge);
  }

  return make(
    "tr",
    "",
    name,
    figure("Backlog", receiver.backlog),
    figure("In flight", receiver.in_flight),
    figure("Retrying", receiver.retrying, "warn"),
    cell("Oldest", `figure age${ageOf(receiver) === "–" ? " none" : ""}`, ageOf(receiver)),
    figure("Dead", receiver.dead, "failure"),
    cell("Last failure", "why", receiver.failure),
  );
}

function letterRow(letter) {
  const died = make("time", "", new Date(letter.died * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }));
  died.dateTime = new Date(letter.died * 1000).toISOString();
  return make(
    "tr",
    "",
    cell("Number", "figure", String(letter.number)),
    cell("Receiver", "name-cell", make("code", "", letter.receiver)),
    cell("Attempts", "figure", String(letter.attempts)),
    cell("Died", "when", died),
    cell("Reason", "why", letter.reason),
  );
}

function relayCard(title, rows, ...note) {
  // The column heads repeat the labels of the cells. A narrow screen has no columns and shows the labels instead.
  const heads = [...rows[0].children].map((first) => as("columnheader", make("th", first.className.split(" ")[0], first.dataset.label)));
  const head = as("rowgroup", make("thead", "", as("row", make("tr", "", ...heads))));
  const body = as("rowgroup", make("tbody", "", ...rows.map((row) => as("row", row))));
  const table = as("table", make("table", "", head, body));

  for (const each of heads) each.scope = "col";

  return make("section", "card plain", make("header", "", make("h3", "", title)), table, note.length ? make("p", "note", ...note) : null);
}

function showRelay(answer) {
  const isNews = relay === null || withoutAges(answer) !== withoutAges(relay);
  relay = answer;
  $("relay-time").textContent = `as of ${new Date().toLocaleTimeString("en-GB")}`;

  // If only the ages change, update them in place, so that a selected text stays selected.
  if (isNews) renderRelay();
  else showAges();
}

const withoutAges = (answer) => JSON.stringify(answer, (key, value) => (key === "age" ? undefined : value));
const isNamed = (each) => (each.receiver ?? each.name).toLowerCase().includes(wanted().name);

function showAges() {
  const shown = (relay.receivers ?? []).filter(isNamed);
  const cells = document.querySelectorAll("#relay .age");
  shown.forEach((receiver, index) => {
    cells[index].textContent = ageOf(receiver);
  });
}

function renderRelay() {
  if (relay === null) return;

  const { problem, receivers = [], letters = [] } = relay;
  const sum = (name) => receivers.reduce((total, receiver) => total + receiver[name], 0);
  const [shown, dead] = [receivers, letters].map((list) => list.filter(isNamed));
  const cards = [];

  if (shown.length) cards.push(relayCard("Receivers", shown.map(receiverRow)));

  if (dead.length) {
    const isAll = letters.length >= sum("dead");
    const title = isAll ? "Dead letters" : `Dead letters, the oldest ${letters.length} of ${sum("dead").toLocaleString("en")}`;
    const [retry, ...others] = ["flask relay dead retry NUMBER", "retry", "show", "drop"].map((text) => make("code", "", text));
    const note = ["In a terminal, ", retry, " retries one dead letter. Write ", others[1], " instead of ", others[0], " to show it, or ", others[2], " to delete it."];
    cards.push(relayCard(title, dead.map(letterRow), ...note));
  }

  const parts = [plural(receivers.length, "receiver"), `${sum("backlog").toLocaleString("en")} waiting`, `${sum("in_flight").toLocaleString("en")} in flight`, plural(sum("dead"), "dead letter")];
  $("relay").replaceChildren(...cards);
  $("relay-summary").textContent = problem ? "" : parts.join(" · ");
  $("relay-problem").hidden = !problem;
  $("relay-problem-text").textContent = problem ?? "";
  $("empty-relay").hidden = Boolean(problem) || cards.length > 0;
  $("empty-relay-title").textContent = receivers.length ? "No receiver of that name" : "No durable receiver is connected";
  $("empty-relay-text").textContent = receivers.length ? "" : "No message waits either.";
}

// Each server says whether it has a relay.
function offerRelay(isThere) {
  $("tab-relay").hidden = !isThere;

  if (!isThere && !$("panel-relay").hidden) choose(tabs[0]);
  if (isThere && location.hash === "#relay" && $("panel-relay").hidden) choose($("tab-relay"));
}

// Listen. If the server restarts or ends the stream to free its thread, connect again.

let source = null;
let timer = null;
let last = "";
let delay = 500;

function say(state, text) {
  $("state").dataset.state = state;

  if ($("state-text").textContent !== text) $("state-text").textContent = text;
}

function listen() {
  stop();
  source = new EventSource(`events?after=${encodeURIComponent(last)}`);

  source.addEventListener("hello", (event) => {
    const hello = JSON.parse(event.data);

    if (epoch !== hello.epoch) {
      waiting = new Map([...waiting].filter(([key]) => key.startsWith(hello.epoch)));
      meet(hello.epoch);
    }

    epoch = hello.epoch;
    delay = 500;
    offerRelay(hello.relay);
    sayHowItIs();
  });
  source.addEventListener("entries", (event) => {
    const { requests, entries: list } = JSON.parse(event.data);
    handled = requests;
    last = event.lastEventId;
    take(list);
  });
  source.addEventListener("connections", (event) => {
    connections = JSON.parse(event.data);
    nameSignals();
    showConnections();
  });
  source.addEventListener("again", (event) => {
    stop();
    timer = setTimeout(listen, Number(event.data));
  });
  source.onerror = () => {
    stop();
    say("lost", "Reconnecting");
    timer = setTimeout(listen, delay);
    delay = Math.min(delay * 2, 3000);
  };
}

function stop() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

function sayHowItIs() {
  if (isPaused) say("paused", "Paused");
  else say("live", "Live");
}

// Stop listening while the page is hidden, to free a thread of the server.
let resting = null;

document.addEventListener("visibilitychange", () => {
  clearTimeout(resting);

  if (document.hidden) resting = setTimeout(stop, 3000);
  else if (source === null) listen();

  lookAtRelay();
});
window.addEventListener("pagehide", stop);
window.addEventListener("pageshow", (event) => event.persisted && listen());

// Handle clicks and keys.

const tabs = [$("tab-requests"), $("tab-connections"), $("tab-relay")];

function choose(tab) {
  for (const each of tabs) {
    const isChosen = each === tab;
    each.setAttribute("aria-selected", String(isChosen));
    each.tabIndex = isChosen ? 0 : -1;
    $(each.getAttribute("aria-controls")).hidden = !isChosen;
  }

  for (const part of document.querySelectorAll(".only-requests")) part.hidden = tab !== tabs[0];

  history.replaceState(null, "", tab === tabs[0] ? "#" : `#${tab.id.replace("tab-", "")}`);
  lookAtRelay();
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const there = tabs.filter((each) => !each.hidden);
    const at = there.indexOf(tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: there.length - 1 }[event.key];

    if (to === undefined) return;

    const next = there[(to + there.length) % there.length];
    choose(next);
    next.focus();
    event.preventDefault();
  });
}

$("requests").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];

  if (step === undefined || event.target.tagName !== "SUMMARY") return;

  const all = [...$("requests").querySelectorAll(".entry:not([hidden]) > summary")];
  all[all.indexOf(event.target) + step]?.focus();
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;

  if (event.key === "/") {
    $("filter-signal").focus();
    event.preventDefault();
  }
});

for (const input of [$("filter-signal"), $("filter-path")]) {
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;

    input.value = "";
    filterAll();
  });
}

for (const id of ["filter-signal", "filter-path", "filter-failed", "filter-outside"]) $(id).addEventListener("input", filterAll);

$("filters").addEventListener("submit", (event) => event.preventDefault());

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("pause").textContent = isPaused ? "Go on" : "Pause";

  if (!isPaused) {
    const list = [...waiting.values()];
    waiting = new Map();
    take(list);
  }

  if ($("state").dataset.state !== "lost") sayHowItIs();
});

$("clear").addEventListener("click", () => {
  const numbers = [...entries.values()].map((entry) => entry.data.number);
  cleared = { epoch, number: Math.max(0, ...numbers) };
  entries.clear();
  waiting = new Map();
  $("requests").replaceChildren();
  count();
});

if (location.hash === "#connections") choose(tabs[1]);

count();
listen();
