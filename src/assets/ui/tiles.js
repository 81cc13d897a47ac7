// The figures on top.
import { element } from "./dom.js";
import { count, decimal, dollars, milliseconds, percent } from "./format.js";

const FEW_ERRORS = 0.01; // above it the tile turns red

// [label, figure, line beneath it] of `total`
const TILES = [
  ["Requests", (total) => count(total.requests), (total, windowS) => `${decimal(total.requests / windowS)} a second`],
  ["Errors", (total) => percent(total.error_rate), (total) => `${count(total.errors)} failed, ${count(total.timeouts)} timeouts`],
  ["p95, whole answer", (total) => milliseconds(total.total_ms.p95), (total) => `p50 ${milliseconds(total.total_ms.p50) ?? "–"}`],
  ["p95, first token", (total) => milliseconds(total.ttft_ms.p95), (total) => `p50 ${milliseconds(total.ttft_ms.p50) ?? "–"}`],
  ["Cache hit rate", (total) => percent(total.cache.hit_rate), (total) => `${count(total.cache.hits)} of ${count(total.cache.lookups)}`],
  ["Tokens/s, median", (total) => count(total.tokens_per_s.p50), (total) => `${count(total.tokens.output)} written`],
  ["Cost", (total) => dollars(total.cost_usd), () => "by declared prices"],
  ["Cost avoided", (total) => dollars(total.cost_avoided_usd), (total) => `${count(total.tokens.avoided)} tokens`],
];

/** Fills `list`, a <dl>. total: null before it is known; the tiles are there already, so that nothing moves. */
export function showTiles(list, total, windowS) {
  const tiles = TILES.map(([label, figure, beneath]) => {
    const isBad = label === "Errors" && total !== null && total.error_rate > FEW_ERRORS;
    return element(
      "div",
      {},
      element("dt", { textContent: label }),
      element("dd", { textContent: (total && figure(total)) ?? "–", className: isBad ? "bad" : "" }),
      element("dd", { textContent: total ? beneath(total, windowS) : "", className: "more" }),
    );
  });
  list.replaceChildren(...tiles);
}
