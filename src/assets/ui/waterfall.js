// A small waterfall of one request. Server-Timing knows how long parts took, not when they began: they are laid end to
// end, in the order in which they ended. `ttft` and `total` count from the request's arrival.
import { element } from "./dom.js";
import { milliseconds } from "./format.js";

/** [{part, fromMs, tookMs}] for the report's timings and what the browser measured (null until it has). */
export function rowsOf(timings = {}, browser = null) {
  const rows = [];
  let fromMs = 0;
  for (const [part, tookMs] of Object.entries(timings)) {
    if (part === "ttft" || part === "total") continue;
    rows.push({ part, fromMs, tookMs });
    fromMs += tookMs;
  }
  const { ttft, total } = timings;
  if (ttft !== undefined && total !== undefined) rows.push({ part: "stream", fromMs: ttft, tookMs: Math.max(0, total - ttft) });
  if (total !== undefined) rows.push({ part: "total", fromMs: 0, tookMs: total });
  if (browser) rows.push({ part: "browser", fromMs: 0, tookMs: browser.totalMs });
  return rows;
}

/** Draws into `place`. */
export function showWaterfall(place, timings, browser) {
  const rows = rowsOf(timings, browser);
  if (rows.length === 0) {
    place.replaceChildren(element("p", { className: "empty", textContent: "Each part of the way gets a bar here." }));
    return;
  }
  const endMs = Math.max(1, ...rows.map(({ fromMs, tookMs }) => fromMs + tookMs));
  place.replaceChildren(...rows.map((row) => bar(row, endMs)));
}

function bar({ part, fromMs, tookMs }, endMs) {
  const row = document.createElement("div");
  row.className = "bar";
  const [name, track, fill, amount] = ["span", "span", "span", "span"].map((tag) => document.createElement(tag));
  name.textContent = part;
  track.className = "track";
  fill.className = "fill";
  fill.dataset.part = part;
  fill.style.left = `${(100 * fromMs) / endMs}%`;
  fill.style.width = `${(100 * tookMs) / endMs}%`;
  amount.className = "amount";
  amount.textContent = milliseconds(tookMs);
  track.append(fill);
  row.append(name, track, amount);
  return row;
}
