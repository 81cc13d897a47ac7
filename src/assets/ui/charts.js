// Charts over time, by uPlot. Each is made once and then only given new data.
import UPlot from "./vendor/chart.js";
import { count, milliseconds } from "./format.js";

const made = new Map(); // place -> chart
const HEIGHT_PX = 205; // beside the legend
const WHOLE_STEPS = [1, 2, 5].flatMap((first) => Array.from({ length: 9 }, (_, power) => first * 10 ** power)).sort((a, b) => a - b);
const bars = UPlot.paths.bars({ size: [0.7, 48], radius: 0.15 });

const KINDS = {
  traffic: {
    lines: [["Requests", "--accent"], ["Errors", "--bad"]],
    style: (colour) => ({ fill: colour, paths: bars, points: { show: false } }),
    write: (n) => count(n ?? 0),
    steps: WHOLE_STEPS,
  },
  latency: {
    lines: [["p50", "--accent"], ["p95", "--cache"], ["p99", "--bad"]],
    style: () => ({ width: 2, points: { show: true, size: 4 } }),
    write: (ms) => milliseconds(ms) ?? "–",
  },
};

export function showTraffic(place, series) {
  const data = [series.map((point) => point.at_s), ...["requests", "errors"].map((name) => series.map((point) => point[name] || null))]; // a bar of 0 would be a line
  update(place, "traffic", data, `Requests: ${sum(data[1])}, errors: ${sum(data[2])}, over the window`);
}

export function showLatency(place, series) {
  const percentiles = ["p50", "p95", "p99"].map((name) => series.map((point) => point.total_ms[name]));
  const last = percentiles.map((values) => values.findLast((value) => value !== null));
  const words = last[0] === undefined ? "No answers in the window" : `Last: ${last.map((ms, i) => `${KINDS.latency.lines[i][0]} ${milliseconds(ms)}`).join(", ")}`;
  update(place, "latency", [series.map((point) => point.at_s), ...percentiles], words);
}

function update(place, kind, data, words) {
  place.role = "img";
  place.ariaLabel = words;
  place.dataset.kind = kind;
  const chart = made.get(place);
  if (chart) chart.setData(data);
  else make(place, kind, data);
  requestAnimationFrame(() => { // uPlot draws later, and clears its legend then
    const { cursor } = made.get(place);
    if (!(cursor.left >= 0)) made.get(place).setLegend({ idx: lastKnown(data) }); // else the pointer has chosen one
  });
}

function make(place, kind, data) {
  made.get(place)?.destroy();
  const { lines, style, write, steps } = KINDS[kind];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const options = {
    width: place.clientWidth,
    height: HEIGHT_PX,
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    scales: {
      x: { range: (chart, from, to) => [from - half(chart.data[0]), to + half(chart.data[0])] },
      y: { range: (_, low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] },
    },
    axes: [
      { ...axis, space: 50, size: 30, values: (_, atS, _axis, _space, stepS) => atS.map((each) => time(each, stepS < 60)) },
      { ...axis, size: 68, values: (_, values) => values.map(write), ...(steps && { incrs: steps }) },
    ],
    series: [
      { label: "At", value: (_, atS) => (atS == null ? "–" : time(atS, true)) },
      ...lines.map(([label, name]) => ({
        label,
        stroke: colour(name),
        value: (_, value) => write(value),
        ...style(colour(name)),
      })),
    ],
  };
  made.set(place, new UPlot(options, data, place));
  resizes.observe(place);
}

const half = ([first, second]) => (second === undefined ? 1 : (second - first) / 2); // of a point's time

function lastKnown(data) {
  const known = data[1].findLastIndex((value) => value !== null);
  return known < 0 ? data[0].length - 1 : known;
}

function time(atS, withSeconds) {
  return new Date(atS * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(withSeconds && { second: "2-digit" }) });
}

const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);

const resizes = new ResizeObserver((entries) => {
  for (const { target } of entries) made.get(target)?.setSize({ width: target.clientWidth, height: HEIGHT_PX });
});

// A canvas does not follow the colours of the page by itself.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [place, chart] of made) make(place, place.dataset.kind, chart.data);
});
