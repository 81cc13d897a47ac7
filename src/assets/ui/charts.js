// Charts over time, by uPlot. Each is made once and then only given new data.
import UPlot from "./vendor/chart.js";

const made = new Map(); // place -> chart
const HEIGHT_PX = 205; // beside the legend

export function showTraffic(place, series) {
  const data = [series.map((point) => point.at_s), series.map((point) => point.requests), series.map((point) => point.errors)];
  const lines = [["Requests", "--accent", true], ["Errors", "--bad", true]];
  update(place, lines, data, `Requests: ${sum(data[1])}, errors: ${sum(data[2])}, over the window`);
}

export function showLatency(place, series) {
  const percentiles = ["p50", "p95", "p99"].map((name) => series.map((point) => point.total_ms[name]));
  const lines = [["p50", "--accent"], ["p95", "--cache"], ["p99", "--bad"]];
  const last = percentiles.map((values) => values.findLast((value) => value !== null));
  const words = last[0] === undefined ? "No answers in the window" : `Last: ${last.map((ms, i) => `${lines[i][0]} ${Math.round(ms)} ms`).join(", ")}`;
  update(place, lines, [series.map((point) => point.at_s), ...percentiles], words);
}

function update(place, lines, data, words) {
  place.role = "img";
  place.ariaLabel = words;
  const chart = made.get(place);
  if (chart) chart.setData(data);
  else make(place, lines, data);
}

function make(place, lines, data) {
  made.get(place)?.destroy();
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width: place.clientWidth,
    height: HEIGHT_PX,
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    legend: { live: true },
    scales: { y: { range: (_, low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
    axes: [axis, { ...axis, size: 56 }],
    series: [{}, ...lines.map(([label, name, isFilled]) => ({
      label,
      stroke: colour(name),
      width: 2,
      fill: isFilled ? `color-mix(in srgb, ${colour(name)} 18%, transparent)` : undefined,
      points: { show: data[0].length < 30, size: 4 },
      value: (_, value) => (value == null ? "–" : String(Math.round(value))),
    }))],
  };
  made.set(place, new UPlot(options, data, place));
  place.dataset.lines = JSON.stringify(lines);
  resizes.observe(place);
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

const resizes = new ResizeObserver((entries) => {
  for (const { target } of entries) made.get(target)?.setSize({ width: target.clientWidth, height: HEIGHT_PX });
});

// A canvas does not follow the colours of the page by itself.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [place, chart] of made) make(place, JSON.parse(place.dataset.lines), chart.data);
});
