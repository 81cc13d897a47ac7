// The edge report as a list of facts. The cells are always the same ones, so that nothing moves when they fill.
import { decimal, dollars, milliseconds } from "./format.js";

const cacheWords = ({ cache }) => (cache ? [cache.status, cache.tier, cache.collapsed && "shared"].filter(Boolean).join(", ") : null);

// [label, what it means, value of a report]
const FACTS = [
  ["Served by", "What the answer came from", (report) => report.served_by, "main"],
  ["Colo", "Cloudflare's data centre that ran the gateway", (report) => report.colo, "main"],
  ["TTFT", "From the request's arrival to the first content; of a cache, to all of it", (report) => milliseconds(ttftMs(report)), "main"],
  ["Total", "From the request's arrival to the whole answer", (report) => milliseconds(report.timings_ms?.total), "main"],
  ["Your RTT", "Round trip between you and that data centre", (report) => milliseconds(report.client_rtt_ms)],
  ["Cache", "What the caches had", cacheWords],
  ["Model", "The model that answered", (report) => report.model, "wide"],
  ["Why", "Reason of the route, and the question's complexity from 0 to 1", why, "wide"],
  ["Tokens/s", "Output tokens after the first, over the time from the first to the last", (report) => decimal(tokensPerSecond(report))],
  ["Tokens", "Read by the model, and written by it", tokens],
  ["Cost", "Declared price of this answer", (report) => dollars(report.cost_usd)],
  ["Saved", "What a cache hit or a shared call would have cost", (report) => dollars(report.cost_avoided_usd)],
  ["Cloud region", "Region of the cloud that was asked", (report) => report.cloud_region],
  ["Region's RTT", "Network and waiting between the data centre and that region", (report) => milliseconds(report.cloud_rtt_ms)],
];

/** What a cache has comes in one piece. */
function ttftMs({ timings_ms: timings = {}, served_by: servedBy }) {
  return timings.ttft ?? (servedBy?.endsWith("-cache") ? timings.total : undefined);
}

function why({ route_reason: reason, complexity, cascade }) {
  if (!reason) return null;
  const parts = [reason];
  if (complexity !== undefined) parts.push(`complexity ${decimal(complexity)}`);
  if (cascade?.outcome) parts.push(`cascade: ${cascade.outcome}`);
  return parts.join(" · ");
}

function tokens({ usage, usage_estimated: isEstimated }) {
  if (!usage) return null;
  return `${isEstimated ? "about " : ""}${usage.prompt_tokens} in, ${usage.completion_tokens} out`;
}

/** Unknown for caches, whose answers come in one piece, and where the clock did not move. */
export function tokensPerSecond({ timings_ms: timings = {}, usage }) {
  const tokens = usage?.completion_tokens;
  const spentMs = timings.total - timings.ttft;
  return tokens > 1 && spentMs > 1 ? (1000 * (tokens - 1)) / spentMs : null;
}

/** Fills `list`, a <dl>. report: null before there is one. */
export function showBadge(list, report) {
  const cells = FACTS.map(([label, meaning, read, rank]) => {
    const cell = document.createElement("div");
    if (rank) cell.className = rank;
    const name = document.createElement("dt");
    name.textContent = label;
    cell.title = meaning;
    const value = document.createElement("dd");
    const text = report && read(report);
    value.textContent = text ?? "–";
    if (text == null) value.className = "unknown";
    if (label === "Served by" && text) value.dataset.served = text;
    cell.append(name, value);
    return cell;
  });
  list.replaceChildren(...cells);
}
