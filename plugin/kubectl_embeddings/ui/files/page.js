// Asks for the state of the page every few seconds, and shows it. What is old is never shown as new: the page says of when it is.

import { curves, redrawn, resized } from "./curves.js";
import * as draw from "./draw.js";

const EVERY_S = 5;
const HIDDEN_EVERY_S = 60;
const OLD_AFTER_S = 20;
const WITHIN_MS = 10_000;
const ENDED = "`kubectl embeddings ui` does not answer: start it again, and open the address that it prints";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
let last = null; // the last answer, and when it came, by this page's own clock
let problem = "";
let timer;
let words = new Map();

function announce(text) {
  page.announcement.textContent = text;
}

async function ask() {
  clearTimeout(timer);
  try {
    const chosen = encodeURIComponent(page["curves-source"].value);
    const answer = await fetch(`state?source=${chosen}`, { signal: AbortSignal.timeout(WITHIN_MS) });
    problem = answer.ok ? "" : ENDED;
    if (answer.ok) {
      last = { state: await answer.json(), came: performance.now() };
      show(last.state);
    }
  } catch {
    problem = ENDED;
  }
  showAge();
  clearTimeout(timer);
  timer = setTimeout(ask, (document.hidden ? HIDDEN_EVERY_S : EVERY_S) * 1000);
}

function ago(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s ago`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} minutes ago` : `${Math.floor(seconds / 3600)} hours ago`;
}

function clock(moment) {
  return new Date(moment * 1000).toTimeString().slice(0, 8);
}

// The seconds since this part was read, by the clock of the command and then by that of this page.
function age(part) {
  return part.ageSeconds + (performance.now() - last.came) / 1000;
}

function ofWhen(part) {
  return part.at === null ? "Nothing has been read yet" : `What is shown here is of ${clock(part.at)}, ${ago(age(part))}`;
}

function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

function showAge() {
  const sources = last?.state.sources;
  const known = sources && sources.at !== null;
  const why = problem || sources?.problem || (known && age(sources) > OLD_AFTER_S ? "The API server has not answered lately" : "");
  document.body.classList.toggle("stale", Boolean(why));
  setText(page.updated, known ? `${why ? "Not up to date: of" : "Up to date:"} ${clock(sources.at)}, ${ago(age(sources))}` : why ? "Nothing has been read yet" : "Reading …");
  page.updated.classList.toggle("old", Boolean(why));
  page.problem.hidden = !why;
  // Not with the age, which would be read aloud again every second.
  setText(page.problem, why ? `${capital(why)}. ${known ? `What is shown is of ${clock(sources.at)}.` : ""}` : "");
  if (last) notes(last.state);
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function note(name, part, whenEmpty) {
  const cut = part.cut ? `There may be more: the page reads ${draw.shown(part.cut)} of each phase.` : "";
  // The problem of all parts is said once, at the top.
  const why = part.problem && part.problem !== last.state.sources.problem ? `${capital(part.problem)}. ` : "";
  const text = part.problem ? `${why}${ofWhen(part)}.` : part.at === null ? "" : part.items.length ? cut : whenEmpty;
  setText(page[`${name}-note`], text);
  page[`${name}-note`].classList.toggle("old", Boolean(part.problem));
}

function notes(state) {
  const where = state.namespace ? `Namespace ${state.namespace} has` : "The cluster has";
  note("sources", state.sources, `${where} no EmbeddingSource.`);
  note("dead-letters", state.deadLetters, "There are none.");
  note("open-jobs", state.openJobs, "There are none.");
  const worst = state.operators.length > 0 || state.sources.items.some((one) => one.attention.length);
  setText(page["attention-note"], state.sources.at === null || worst || state.sources.items.length === 0 ? "" : "Nothing does.");
}

function show(state) {
  const everywhere = !state.namespace;
  const items = state.sources.items;
  const pressing = items.filter((one) => one.attention.length).map((one) => ({ ...one, key: one.key }));
  document.title = `${pressing.length ? `(${pressing.length}) ` : ""}Embeddings · ${state.namespace || "all namespaces"}`;
  setText(page.place, `${state.namespace ? `Namespace ${state.namespace}` : "All namespaces"} of ${state.server}`);
  if (state.sources.at !== null) draw.list(page.totals, totals(state, pressing), draw.total);
  const said = pressing.map(({ key, name, namespace, status, level, attention }) => ({ key, name, namespace, status, level, attention }));
  // What the sources say is old where no operator works, so that is said before it.
  const absent = state.operators.map(({ namespace, ...one }) => ({ key: `${namespace}/ operator`, name: "No operator", namespace, status: "NoLeader", level: "stopped", attention: [one] }));
  draw.list(page.attention, [...absent, ...said], draw.attention(everywhere, announce));
  draw.list(page["sources-rows"], items.map(({ attention, ...one }) => one), draw.source(everywhere));
  page["sources-table"].hidden = items.length === 0;
  draw.list(page["dead-letters"], state.deadLetters.items, draw.deadLetters(everywhere, announce));
  draw.list(page["open-jobs"], state.openJobs.items, draw.openJobs(everywhere));
  choices(items, everywhere);
  showCurves();
  changes(items);
}

function totals(state, pressing) {
  const all = state.sources.totals;
  const sources = state.sources.items.length;
  const counted = all.freshPercent !== "";
  return [
    { key: "sources", title: "Need attention", value: draw.shown(pressing.length), more: `of ${sources === 1 ? "1 source" : `${draw.shown(sources)} sources`}` },
    { key: "fresh", title: "Fresh", value: counted ? `${all.freshPercent} %` : "not counted", more: !counted ? "" : `of ${draw.shown(all.total)} rows` },
    { key: "due", title: "Due rows", value: counted ? draw.shown(all.due) : "not counted", more: all.oldestDue ? `the oldest for ${all.oldestDue}` : "" },
    { key: "open", title: "Open jobs", value: draw.shown(all.open) },
    { key: "dead", title: "Dead letters", value: draw.shown(all.deadLettered) },
  ];
}

function choices(items, everywhere) {
  const select = page["curves-source"];
  const wanted = [{ key: "", name: "all sources" }, ...items.map((one) => ({ key: one.key, name: everywhere ? one.key : one.name })).sort((one, other) => (one.key < other.key ? -1 : 1))];
  if (JSON.stringify(wanted) === select.content) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map((one) => draw.element("option", { value: one.key }, one.name)));
  select.value = wanted.some((one) => one.key === chosen) ? chosen : "";
  select.content = JSON.stringify(wanted);
}

function showCurves() {
  const { history, now, opened, keptSeconds } = last.state;
  try {
    curves(history, { now, opened, keptSeconds });
  } catch (error) {
    // All else is shown, whatever this browser cannot draw.
    setText(page["curves-note"], `The curves cannot be drawn in this browser (${error.message}).`);
    return;
  }
  setText(
    page["curves-note"],
    `Since ${clock(opened)}. The command keeps the last ${keptSeconds / 60} minutes in memory, and nothing while no tab shows this page; ` +
      "Prometheus keeps the rest. Texts per minute are those of the last minute.",
  );
}

// Tells screen readers which words have changed.
function changes(items) {
  const changed = items.filter((one) => words.size && words.get(one.key) !== one.status);
  words = new Map(items.map((one) => [one.key, one.status]));
  if (changed.length) announce(changed.map((one) => `${one.name} is now ${one.status}`).join(", "));
}

page["curves-source"].addEventListener("change", ask);
document.addEventListener("visibilitychange", () => document.hidden || ask());
addEventListener("resize", resized);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  redrawn();
  if (last) showCurves();
});
setInterval(showAge, 1000);
ask();
