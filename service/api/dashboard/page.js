// The live page: shows each state that the service sends, and the rates since earlier ones.

const HISTORY_S = 300;
const RATE_S = 10;
const LOST_MS = 8000;
const AGAIN_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const SCORING = /^\/score|\/infer$|ModelInfer$|ModelStreamInfer$/;
const REFUSED = 503;

const KINDS = {
  400: "invalid request", 401: "no valid API key", 404: "no such route or model", 405: "method not allowed",
  406: "no acceptable format", 408: "arrived too slowly", 413: "too large", 414: "URL too long",
  415: "unsupported format", 431: "headers too large", 499: "client left", 500: "internal error",
  501: "not offered", 503: "overloaded or not ready", 505: "unsupported HTTP version",
};
const LEVELS = { none: "good", slight: "warning", strong: "bad" };
const WORDS = { none: "No drift", slight: "Slight drift", strong: "Strong drift" };

const find = (id) => document.getElementById(id);
let history = [];
let paused = false;

// Numbers

function number(value, digits = 3) {
  if (value === null || !Number.isFinite(value)) return "–";
  if (value !== 0 && Math.abs(value) < 1e-4) return value.toExponential(digits - 1);
  return value.toLocaleString("en", { maximumSignificantDigits: Math.max(digits, Math.ceil(Math.log10(Math.abs(value) + 1))) });
}

function percent(value) {
  return value === null ? "–" : `${number(100 * value)}\u00a0%`;
}

// A value and its error in per cent, with the decimals that the error has.
function measured(value, error) {
  const decimals = Math.max(0, 1 - Math.floor(Math.log10(100 * error)));
  return `${(100 * value).toFixed(decimals)} ± ${(100 * error).toFixed(decimals)} %`;
}

function duration(seconds) {
  if (seconds === null) return "–";
  if (!Number.isFinite(seconds)) return "> 10 s";
  if (seconds < 1e-3) return `${number(seconds * 1e6)} µs`;
  return seconds < 1 ? `${number(seconds * 1e3)} ms` : `${number(seconds)} s`;
}

function age(seconds) {
  if (seconds < 90) return `${Math.max(Math.round(seconds), 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

const counted = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;

function size(bytes) {
  if (bytes < 1024) return counted(bytes, "byte");
  return bytes < 2 ** 20 ? `${number(bytes / 1024)} KiB` : `${number(bytes / 2 ** 20)} MiB`;
}

const clock = (seconds) => new Date(1000 * seconds).toLocaleTimeString("en-GB");

// Rates between two states

const routesOf = (state) => Object.fromEntries(state.activity.routes.map((route) => [route.route, route]));
const sum = (numbers) => numbers.reduce((total, one) => total + one, 0);
const count = (route) => (route ? sum(Object.values(route.statuses)) : 0);
const scoring = (state) => state.activity.routes.filter((route) => SCORING.test(route.route));

function byStatus(state) {
  const counts = {};
  for (const route of state.activity.routes) {
    for (const [status, n] of Object.entries(route.statuses)) counts[status] = (counts[status] ?? 0) + n;
  }
  return counts;
}

function restarted(before, state) {
  return sum(before.activity.routes.map(count)) > sum(state.activity.routes.map(count));
}

// The state RATE_S before a place in the history, or the first one.
function earlier(place) {
  let before = place;
  while (before > 0 && history[place].time_s - history[before].time_s < RATE_S) before -= 1;
  return history[before];
}

function quantile(fraction, durations, bounds) {
  const total = sum(durations);
  if (!total) return null;
  let below = 0;
  for (const [place, n] of durations.entries()) {
    if (below + n >= fraction * total && n) {
      const low = place ? bounds[place - 1] : 0;
      return place < bounds.length ? low + (bounds[place] - low) * ((fraction * total - below) / n) : Infinity;
    }
    below += n;
  }
  return Infinity;
}

const difference = (now, before) => now.map((n, place) => n - (before ? before[place] : 0));

function totalDurations(state) {
  const total = new Array(state.duration_bounds_s.length + 1).fill(0);
  for (const route of scoring(state)) route.durations.forEach((n, place) => { total[place] += n; });
  return total;
}

// The values of the charts at one place in the history.
function rates(place) {
  const state = history[place];
  const before = earlier(place);
  const seconds = state.time_s - before.time_s;
  if (!seconds) return null;
  const requests = (one) => sum(scoring(one).map(count));
  const durations = difference(totalDurations(state), totalDurations(before));
  const refused = (one) => byStatus(one)[REFUSED] ?? 0;
  return {
    before,
    seconds,
    time_s: state.time_s,
    events: (state.activity.events - before.activity.events) / seconds,
    requests: (requests(state) - requests(before)) / seconds,
    refused: (refused(state) - refused(before)) / seconds,
    latency: quantile(0.99, durations, state.duration_bounds_s),
    flight: state.activity.in_flight.requests,
  };
}

// Elements

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Changes only cells that differ, so that a screen reader keeps its place. A cell is a text, or a text and a class.
function fill(id, rows) {
  const body = find(id).tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, place) => {
    const row = body.rows[place] ?? body.insertRow();
    cells.forEach((cell, column) => {
      const [text, level] = Array.isArray(cell) ? cell : [cell, ""];
      const found = row.cells[column] ?? row.insertCell();
      write(found, text);
      if (found.className !== level) found.className = level;
    });
  });
}

function verdict(id, level, word, detail) {
  const element = find(id);
  if (element.className !== level) element.className = level;
  write(element.querySelector(".word"), word);
  write(element.querySelector(".detail"), detail);
}

// For screen readers, which announce changed verdicts but not the numbers, which change all the time.
function summarise() {
  const named = [...document.querySelectorAll(".verdicts > div")];
  write(find("summary"), named.map((one) => `${one.querySelector("dt").textContent}: ${one.querySelector(".word").textContent}.`).join(" "));
}

function draw(parent, name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  parent.append(element);
}

function canvas(id, label) {
  const svg = find(id);
  const { clientWidth: width, clientHeight: height } = svg;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", label);
  svg.replaceChildren();
  return { svg, width, height };
}

function sparkline(id, points, name, shown) {
  const finite = points.filter((point) => Number.isFinite(point.value) && point.value !== null);
  const last = points.at(-1)?.value ?? null;
  write(find(`${id}-now`), shown(last));
  const most = Math.max(...finite.map((point) => point.value), 0);
  const { svg, width, height } = canvas(id, `${name}: ${shown(last)} now, at most ${shown(most)} in five minutes`);
  draw(svg, "line", { class: "axis", x1: 0, x2: width, y1: height - 1, y2: height - 1 });
  if (finite.length < 2 || !most) return;
  const end = points.at(-1).time_s;
  const x = (time) => width * (1 - (end - time) / HISTORY_S);
  const y = (value) => height - 2 - (height - 6) * (value / most);
  draw(svg, "polyline", { class: "line", points: finite.map((one) => `${x(one.time_s)},${y(one.value)}`).join(" ") });
}

function ticks(low, high, n) {
  const step = 10 ** Math.floor(Math.log10((high - low) / n));
  const wide = [1, 2, 5, 10].find((factor) => (high - low) / (factor * step) <= n) * step;
  const first = Math.ceil(low / wide);
  return Array.from({ length: Math.floor(high / wide) - first + 1 }, (_, place) => Number(((first + place) * wide).toPrecision(12)));
}

function histogram(model) {
  const caption = find("scores-caption");
  const scores = model?.scores;
  if (!scores) {
    find("scores").toggleAttribute("hidden", true);
    write(caption, "The model file has no reference histograms: export the model again to compare scores with background.");
    return;
  }
  find("scores").toggleAttribute("hidden", false);
  const { svg, width, height } = canvas("scores", "Histogram of the anomaly score, described below");
  if (!width) return; // not laid out yet
  const fractions = (counts) => { const total = sum(counts); return counts.map((n) => (total ? n / total : 0)); };
  const reference = fractions(scores.reference);
  const recent = fractions(scores.recent);
  const inside = [...reference.slice(1, -1), ...recent.slice(1, -1)];
  const most = Math.max(...inside, 1e-3);
  const least = 1e-5;
  const [left, right, top, bottom] = [58, 8, 16, 24];
  const x = (score) => left + (width - left - right) * ((score - scores.low) / (scores.high - scores.low));
  const y = (fraction) => top + (height - top - bottom) * (Math.log(most / Math.max(fraction, least)) / Math.log(most / least));
  const bins = reference.length - 2;
  const edge = (place) => x(scores.low + (scores.high - scores.low) * (place / bins));
  const steps = (values) => values.slice(1, -1).flatMap((value, place) => [`${edge(place)},${y(value)}`, `${edge(place + 1)},${y(value)}`]);
  for (let power = Math.ceil(Math.log10(least)); power <= Math.log10(most); power += 1) {
    draw(svg, "line", { class: "axis", x1: left, x2: width - right, y1: y(10 ** power), y2: y(10 ** power) });
    draw(svg, "text", { x: left - 6, y: y(10 ** power) + 4, "text-anchor": "end" }, percent(10 ** power).replace("\u00a0", "\u202f"));
  }
  draw(svg, "polygon", { class: "reference", points: [`${edge(0)},${y(least)}`, ...steps(reference), `${edge(bins)},${y(least)}`].join(" ") });
  for (const tick of ticks(scores.low, scores.high, width / 90)) {
    draw(svg, "text", { x: x(tick), y: height - 6, "text-anchor": "middle" }, number(tick));
  }
  if (sum(scores.recent)) draw(svg, "polyline", { class: "line", points: steps(recent).join(" ") });
  for (const point of model.points.filter((one) => one.threshold > scores.low && one.threshold < scores.high)) {
    draw(svg, "line", { class: "mark", x1: x(point.threshold), x2: x(point.threshold), y1: top, y2: height - bottom });
    const anchor = x(point.threshold) > width - 40 ? "end" : "middle";
    draw(svg, "text", { class: "mark-name", x: x(point.threshold), y: 12, "text-anchor": anchor }, point.name);
  }
  const drawn = sum(scores.recent) ? `Line: ${number(sum(scores.recent))} recent events, of which ${percent(recent.at(-1))} `
    + `lie above the bins and ${percent(recent[0])} below.` : "No recent events yet.";
  write(caption, `Fraction of events in each bin. ${drawn} Area: ${number(model.reference_events)} `
    + `background events of the reference, ${percent(reference.at(-1))} above and ${percent(reference[0])} below.`);
}

// Parts of the page

function showVerdicts(state, now) {
  const { activity, model } = state;
  const missing = activity.rows - activity.workers.length;
  const serving = `${activity.workers.length} of ${activity.rows} workers`;
  if (state.status !== "ok") verdict("service", "warning", state.status === "draining" ? "Stopping" : "Starting", serving);
  else verdict("service", missing ? "warning" : "good", missing ? "Workers missing" : "Serving", serving);

  const drifting = (model?.quantities ?? []).filter((one) => one.drift !== "none").map((one) => one.name);
  if (!model?.scores) verdict("drift", "", "Not measured", model ? "the model file has no reference histograms" : "");
  else if (model.drift === null) verdict("drift", "", "Too few events", `${number(model.sampled_events)} of ${number(model.min_events)} sampled`);
  else verdict("drift", LEVELS[model.drift], WORDS[model.drift], drifting.length ? drifting.join(", ") : "score and features are as in the reference");

  const full = Math.max(...Object.entries(state.max_in_flight).map(([unit, most]) => (most ? activity.in_flight[unit] / most : 0)));
  const filled = `${full > 0 && full < 0.01 ? "less than 1\u00a0%" : percent(full)} of the in-flight limit is used`;
  if (now?.refused > 0) verdict("load", "bad", "Shedding load", `${number(now.refused)} requests refused per second; ${filled}`);
  else verdict("load", full > 0.5 ? "warning" : "good", full > 0.5 ? "Nearly full" : "Normal", filled);

  const models = [...new Set(activity.workers.map((worker) => worker.model).filter(Boolean))];
  const file = activity.files.model;
  const loaded = file?.loaded_at_s ? `loaded ${age(state.time_s - file.loaded_at_s)} ago, at ${clock(file.loaded_at_s)}` : "";
  if (models.length > 1) verdict("model", "warning", models.join(", "), `reloading: workers use two models; accepted events and drift are those of ${model?.identity ?? "neither"}`);
  else verdict("model", file?.accepted === false ? "bad" : "good", models[0] ?? "none", file?.accepted === false ? `a newer file was refused; ${loaded}` : loaded);
}

function showPoints(model) {
  const events = model?.events ?? 0;
  write(find("window"), model ? `Of the ${counted(events, "event")} of the last ${age(model.window_s)}` : "");
  fill("points", (model?.points ?? []).map((point) => {
    if (!events) return [point.name, number(point.threshold, 4), "–", percent(point.nominal), "–"];
    const rate = point.accepted / events;
    const error = Math.sqrt(point.accepted) / events;
    return [point.name, number(point.threshold, 4), point.accepted ? measured(rate, error) : "none", percent(point.nominal), `×\u202f${number(rate / point.nominal)}`];
  }));
}

function showQuantities(model) {
  const rule = "A PSI of 0.02 more than by chance is slight drift, of 0.1 strong.";
  if (!model?.scores) write(find("quantities-hint"), "The model file has no reference histograms to compare events with.");
  else if (!model.quantities.length) write(find("quantities-hint"), `Distances from the reference follow once ${number(model.min_events)} events are sampled; there are ${number(model.sampled_events)}. ${rule}`);
  else write(find("quantities-hint"), `${number(model.sampled_events)} sampled events, ${percent(model.sampled_events / model.events)} of those of the last ${age(model.window_s)}. ${rule}`);
  find("quantities").hidden = !model?.quantities.length;
  fill("quantities", (model?.quantities ?? []).map((one) => [one.name, [one.drift, LEVELS[one.drift]], one.psi.toFixed(3), one.ks.toFixed(3)]));
}

function showRequests(state, now) {
  const before = now ? routesOf(now.before) : {};
  const rows = state.activity.routes.map((route) => {
    const old = before[route.route];
    const rate = now ? (count(route) - count(old)) / now.seconds : null;
    const durations = now ? difference(route.durations, old?.durations) : [];
    const [median, high, highest] = [0.5, 0.95, 0.99].map((fraction) => duration(quantile(fraction, durations, state.duration_bounds_s)));
    return [route.route, number(rate), number(count(route)), median, high, highest];
  });
  fill("routes", rows);
}

function showErrors(state, now) {
  const before = now ? byStatus(now.before) : {};
  const errors = Object.entries(byStatus(state)).filter(([status]) => status >= 400);
  find("no-errors").hidden = errors.length > 0;
  find("errors").hidden = !errors.length;
  fill("errors", errors.map(([status, n]) => {
    const rate = now ? (n - (before[status] ?? 0)) / now.seconds : null;
    return [status, KINDS[status] ?? "other", [number(rate), rate && status >= 500 ? "bad" : ""], number(n)];
  }));
}

function showWorkers(state, now) {
  const { activity } = state;
  const old = Object.fromEntries((now?.before.activity.workers ?? []).map((worker) => [worker.pid, worker.requests]));
  const lags = now ? activity.loop_lags - now.before.activity.loop_lags : 0;
  const lag = lags ? (activity.loop_lag_s - now.before.activity.loop_lag_s) / lags : null;
  const { requests, events, bytes } = activity.in_flight;
  write(find("queue"), `In flight: ${counted(requests, "request")} with ${counted(events, "event")} and ${size(bytes)}. `
    + `Event loops are ${duration(lag)} late on average.`);
  fill("workers", activity.workers.map((worker) => {
    const rate = now && worker.pid in old ? (worker.requests - old[worker.pid]) / now.seconds : null;
    return [String(worker.pid), number(rate), number(worker.requests), worker.model || "none yet"];
  }));
}

function show() {
  const state = history.at(-1);
  const all = history.map((_, place) => rates(place)).filter(Boolean);
  const now = all.at(-1);
  const points = (name) => all.map((one) => ({ time_s: one.time_s, value: one[name] }));
  showVerdicts(state, now);
  summarise();
  sparkline("events", points("events"), "Events per second", number);
  sparkline("requests", points("requests"), "Requests per second", number);
  sparkline("latency", points("latency"), "Latency, 99th percentile", duration);
  sparkline("flight", points("flight"), "Requests in flight", number);
  showPoints(state.model);
  histogram(state.model);
  showQuantities(state.model);
  showRequests(state, now);
  showErrors(state, now);
  showWorkers(state, now);
}

// Server-sent events

let lost = 0;

function setConnection(text, isLost) {
  write(find("connection"), text);
  find("connection").classList.toggle("lost", isLost);
  document.querySelector("main").classList.toggle("lost", isLost);
}

function receive(event) {
  const state = JSON.parse(event.data);
  if (history.length && restarted(history.at(-1), state)) history = [];
  history.push(state);
  while (state.time_s - history[0].time_s > HISTORY_S) history.shift();
  clearTimeout(lost);
  lost = setTimeout(() => setConnection(`no response since ${clock(state.time_s)}`, true), LOST_MS);
  if (paused) return;
  setConnection(`live, ${clock(state.time_s)}`, false);
  show();
}

// The browser reconnects by itself, but not after an HTTP error.
function connect() {
  const source = new EventSource("dashboard/events");
  source.onmessage = receive;
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS);
  };
}

find("pause").addEventListener("click", ({ currentTarget: button }) => {
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
  write(button, paused ? "Resume" : "Pause");
  if (paused) setConnection(`paused at ${clock(history.at(-1)?.time_s ?? Date.now() / 1000)}`, false);
  else if (history.length) show();
});
addEventListener("resize", () => { if (history.length && !paused) show(); });
lost = setTimeout(() => setConnection("no response", true), LOST_MS);
connect();
