// The dashboard: asks /v1/metrics and /v1/alerts (docs/metrics.md) again and again, and shows what they say.
import { showAlerts } from "./alerts.js";
import { showLatency, showTraffic } from "./charts.js";
import { count } from "./format.js";
import { authorization, storedKey, storeKey } from "./key.js";
import { drawMap } from "./map.js";
import { showShares } from "./shares.js";
import { showColos, showRegions } from "./tables.js";
import { showTiles } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const EVERY_MS = { "1m": 2_000, "5m": 5_000, "1h": 15_000, "24h": 60_000 };
let timer = null;
let round = 0; // of asking; what an earlier round still brings is dropped

/** Throws an Error with a sentence for people. */
async function get(path) {
  const response = await fetch(path, { headers: authorization(storedKey()), cache: "no-store" }).catch(() => {
    throw new Error("The gateway could not be reached.");
  });
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 404) throw new Error("This gateway does not serve this yet.");
  const hint = { 401: "Put a key of this gateway into the field above.", 403: "Use a key whose record has the scope “metrics”." };
  throw new Error([body.error?.message ?? `The gateway answered ${response.status}.`, hint[response.status]].filter(Boolean).join(" "));
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  const span = $("window").value;
  try {
    const [byColo, byRoute] = await Promise.all(["colo", "served_by"].map((by) => get(`/v1/metrics?window=${span}&by=${by}`)));
    const alerts = await get("/v1/alerts").catch((error) => ({ error: error.message }));
    if (mine === round) show(byColo, byRoute, alerts);
  } catch (error) {
    if (mine === round) say(error.message, true);
  }
  if (mine === round && !isPaused() && !document.hidden) timer = setTimeout(refresh, EVERY_MS[span]);
}

function show(byColo, byRoute, alerts) {
  const { total, groups, regions, series } = byColo;
  showTiles($("tiles"), total, byColo.window_s);
  drawMap($("map"), groups, regions);
  showAlerts($("alerts"), alerts);
  showTraffic($("traffic"), series);
  showLatency($("latency"), series);
  showShares($("routes"), byRoute.groups.map(({ key, requests }) => [key, requests]));
  const { tiers, stale, misses } = total.cache;
  showShares($("tiers"), [...Object.entries(tiers), ["stale", stale], ["misses", misses]]);
  showColos($("colos"), groups);
  showRegions($("regions"), regions);
  say(summary(byColo));
}

function summary({ total, colos, lost, to_s: toS }) {
  if (total.requests === 0) return "No requests in this window yet. Ask something in the playground.";
  const parts = [`Updated ${new Date(toS * 1000).toLocaleTimeString()}.`];
  if (colos.missing.length > 0) parts.push(`Without ${colos.missing.join(", ")}, which did not answer in time.`);
  if (lost > 0) parts.push(`${count(lost)} records were lost.`);
  return parts.join(" ");
}

function say(text, isBad = false) {
  const isNews = isBad || !text.startsWith("Updated");
  $("state").setAttribute("aria-live", isNews ? "polite" : "off"); // the time is not read out every few seconds
  $("state").textContent = text;
  $("state").classList.toggle("bad", isBad);
}

const isPaused = () => $("pause").getAttribute("aria-pressed") === "true";

$("window").addEventListener("change", refresh);
$("key").value = storedKey();
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  storeKey($("key").value.trim());
  refresh();
});
$("pause").addEventListener("click", () => {
  $("pause").setAttribute("aria-pressed", String(!isPaused()));
  $("pause").textContent = isPaused() ? "Resume" : "Pause";
  if (isPaused()) clearTimeout(timer);
  else refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !isPaused()) refresh();
});
showTiles($("tiles"), null, 0);
drawMap($("map"), [], []);
refresh();
