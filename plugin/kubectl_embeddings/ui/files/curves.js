// Draws the three curves with uPlot, in the colours of the page. Called by page.js.

const HEIGHT = 150;
const SHORTEST_S = 300;
const upTo = (least) => (_, low, high) => [0, Math.max(least, (high ?? 0) * 1.15)];
const CURVES = {
  freshPercent: { unit: " %", color: "--well", range: (_, low) => [Math.max(0, Math.floor((low ?? 100) - Math.max(1, (100 - (low ?? 100)) * 0.2))), 100] },
  due: { unit: "", color: "--hindered", range: upTo(5) },
  textsPerMinute: { unit: "", color: "--info", range: upTo(5) },
};
const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const drawn = new Map();

function options(name, width) {
  const style = getComputedStyle(document.documentElement);
  const of = (variable) => style.getPropertyValue(variable).trim();
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: of("--quiet"), font, grid: { stroke: of("--line"), width: 1 }, ticks: { show: false } };
  const time = (_, moments) => moments.map((moment) => new Date(moment * 1000).toTimeString().slice(0, 5));
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { sync: { key: "curves" }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { range: CURVES[name].range } },
    axes: [
      { ...axis, values: time, space: 50, size: 26, grid: { show: false } },
      { ...axis, values: (_, ticks) => ticks.map((tick) => short.format(tick)), size: 46, space: 24 },
    ],
    series: [{}, { stroke: of(CURVES[name].color), width: 2, points: { size: 5 }, spanGaps: false }],
  };
}

// The curves end now, and show five minutes at least.
function range(history, now, opened, keptSeconds) {
  return { min: now - Math.min(keptSeconds, Math.max(SHORTEST_S, now - opened)), max: now };
}

export function curves(history, { now, opened, keptSeconds }) {
  for (const name of Object.keys(CURVES)) {
    const parent = document.getElementById(name);
    let plot = drawn.get(name);
    if (!plot) {
      plot = new uPlot(options(name, parent.clientWidth), [[], []], parent);
      drawn.set(name, plot);
    }
    plot.setData([history.at, history[name]], false);
    plot.setScale("x", range(history, now, opened, keptSeconds));
    say(name, parent, history[name]);
  }
}

// What the curve shows, in words.
function say(name, parent, values) {
  const known = values.filter((value) => value !== null);
  const written = (value) => `${numbers.format(value)}${CURVES[name].unit}`;
  const last = values.at(-1) ?? null;
  const title = parent.parentElement.querySelector("figcaption").firstChild.textContent.trim();
  document.getElementById(`${name}-now`).textContent = last === null ? "not known yet" : written(last);
  parent.setAttribute(
    "aria-label",
    known.length ? `${title}: between ${written(Math.min(...known))} and ${written(Math.max(...known))}` : `${title}: not known yet`,
  );
}

export function redrawn() {
  for (const plot of drawn.values()) plot.destroy();
  drawn.clear();
}

export function resized() {
  for (const [name, plot] of drawn) plot.setSize({ width: document.getElementById(name).clientWidth, height: HEIGHT });
}
