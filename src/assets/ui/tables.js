// The same facts as the map, to be read and compared.
import { element } from "./dom.js";
import { count, milliseconds, percent } from "./format.js";

const LATE_MS = 2000;

export function showColos(table, groups) {
  fill(table, ["Colo", "Requests", "Errors", "p95", "p95 TTFT", "RTT", "Hit rate"], groups.map((group) => [
    group.key,
    count(group.requests),
    [percent(group.error_rate), group.errors > 0 && "bad"],
    [milliseconds(group.total_ms.p95), group.total_ms.p95 > LATE_MS && "bad"],
    milliseconds(group.ttft_ms.p95),
    milliseconds(group.client_rtt_ms.p50),
    percent(group.cache.hit_rate),
  ]));
}

export function showRegions(table, regions) {
  const tone = { open: "bad", half_open: "warn" };
  fill(table, ["Region", "From", "Requests", "Errors", "RTT p50", "RTT p95", "Breaker"], regions.map((each) => [
    each.region,
    each.colo,
    count(each.requests),
    [count(each.errors), each.errors > 0 && "bad"],
    milliseconds(each.rtt_ms.p50),
    milliseconds(each.rtt_ms.p95),
    [each.breaker?.replace("_", " "), tone[each.breaker]],
  ]));
}

/** rows: cells are a text, null for unknown, or [text, class]. The first one names the row. */
function fill(table, names, rows) {
  if (rows.length === 0) {
    table.replaceChildren(element("tbody", {}, element("tr", {}, element("td", { className: "empty", textContent: "Nothing in this window." }))));
    return;
  }
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col", textContent: name })));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell, i) => {
    const [text, tone] = Array.isArray(cell) ? cell : [cell, ""];
    const place = element(i === 0 ? "th" : "td", { textContent: text ?? "–", className: tone || "" });
    if (i === 0) place.scope = "row";
    return place;
  })));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}
