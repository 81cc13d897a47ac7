// The world: a dot for each location (size: requests, colour: p95), a diamond for each cloud region, and lines between
// those that talked.
import { feature, geoGraticule10, geoNaturalEarth1, geoPath } from "./vendor/map.js";
import { count, milliseconds } from "./format.js";

const WIDTH = 960;
const HEIGHT = 480;
const MAX_RADIUS = 18;
const SLOW_MS = 1000;
const LATE_MS = 2000;
const LABELLED = 8; // the busiest locations have their names beside them

const projection = geoNaturalEarth1().fitExtent([[8, 8], [WIDTH - 8, HEIGHT - 8]], { type: "Sphere" });
const path = geoPath(projection);
const world = fetch("/ui/vendor/land.json").then((response) => response.json());
const frames = new WeakMap(); // place -> the group that is drawn anew

/** groups, regions: as /v1/metrics?by=colo has them. What has no coordinates is left to the tables. */
export async function drawMap(place, groups, regions) {
  if (!frames.has(place)) frames.set(place, frame(place));
  const layer = await frames.get(place);
  const busiest = groups.filter(isPlaced);
  const most = Math.max(1, ...busiest.map(({ requests }) => requests));
  const lines = regions.filter((region) => isPlaced(region) && region.requests > 0).map((region) => line(region, groups.find(({ key }) => key === region.colo)));
  const diamonds = new Map(regions.filter(isPlaced).map((region) => [region.region, diamond(region)]));
  const dots = busiest.map((group, i) => dot(group, MAX_RADIUS * Math.sqrt(group.requests / most), i < LABELLED));
  layer.replaceChildren(...lines.filter(Boolean), ...diamonds.values(), ...dots.reverse()); // the busiest on top
  const words = busiest.map(({ key, requests }) => `${key} ${requests}`).join(", ");
  layer.parentNode.setAttribute("aria-label", words ? `World map. Requests: ${words}` : "World map, no requests in this window");
}

async function frame(place) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "World map" });
  const layer = shape("g");
  const atlas = await world;
  svg.append(
    shape("path", { class: "graticule", d: path(geoGraticule10()) }),
    shape("path", { class: "land", d: path(feature(atlas, atlas.objects.land)) }),
    layer,
  );
  place.replaceChildren(svg);
  return layer;
}

const isPlaced = ({ latitude, longitude }) => latitude != null && longitude != null;
const pointOf = ({ latitude, longitude }) => projection([longitude, latitude]);

function line(region, from) {
  if (!from || !isPlaced(from)) return null;
  const coordinates = [[from.longitude, from.latitude], [region.longitude, region.latitude]];
  const words = `${region.colo} to ${region.region}: ${count(region.requests)} requests, RTT ${milliseconds(region.rtt_ms.p50) ?? "unknown"}`;
  const drawn = shape("path", { class: "line", d: path({ type: "LineString", coordinates }) }, words);
  if (region.breaker) drawn.dataset.breaker = region.breaker;
  return drawn;
}

function diamond(region) {
  const [x, y] = pointOf(region);
  const mark = shape("path", { class: "region", d: `M${x},${y - 8}l8,8l-8,8l-8,-8z` }, `Cloud region ${region.region}`);
  return group(mark, label(region.region, x, y + 22));
}

function dot(colo, radius, isLabelled) {
  const [x, y] = pointOf(colo);
  const { p95 } = colo.total_ms;
  const pace = p95 == null ? "unknown" : p95 < SLOW_MS ? "fast" : p95 < LATE_MS ? "slow" : "late";
  const words = `${colo.key}: ${count(colo.requests)} requests, p95 ${milliseconds(p95) ?? "unknown"}`;
  const r = Math.max(4, radius);
  const mark = shape("circle", { class: `colo ${pace}`, cx: x, cy: y, r }, words);
  return isLabelled ? group(mark, label(colo.key, x + r + 4, y + 4)) : mark;
}

function group(...children) {
  const made = shape("g");
  made.append(...children);
  return made;
}

function label(text, x, y) {
  const made = shape("text", { x, y });
  made.textContent = text;
  return made;
}

/** title: shown when the pointer rests on it. */
function shape(tag, attributes = {}, title = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (title !== null) made.append(Object.assign(document.createElementNS("http://www.w3.org/2000/svg", "title"), { textContent: title }));
  return made;
}
