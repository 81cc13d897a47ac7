// The world: a dot for each location (area: requests, colour: p95), a diamond for each cloud region, and lines between
// those that talked.
import { feature, geoGraticule10, geoNaturalEarth1, geoPath } from "./vendor/map.js";
import { count, milliseconds } from "./format.js";

const WIDTH = 960;
const HEIGHT = 440; // without the ice of the south
const MAX_RADIUS = 18;
const SLOW_MS = 1000;
const LATE_MS = 2000;
const LABELLED = 12; // the busiest locations have their names beside them, where there is room
const LETTER = [7.4, 12]; // width and height of a label's letter

const projection = geoNaturalEarth1().fitWidth(WIDTH - 16, { type: "Sphere" });
projection.translate([WIDTH / 2, HEIGHT / 2 + 22]);
const path = geoPath(projection);
const world = fetch("/ui/vendor/land.json").then((response) => response.json());
const frames = new WeakMap(); // place -> the group that is drawn anew

/** groups, regions: as /v1/metrics?by=colo has them. What has no coordinates is left to the tables. */
export async function drawMap(place, groups, regions) {
  if (!frames.has(place)) frames.set(place, frame(place));
  const layer = await frames.get(place);
  const zoom = Math.min(2.4, Math.max(1, WIDTH / place.clientWidth)); // on a small screen marks and names keep their size
  const busiest = groups.filter(isPlaced);
  const most = Math.max(1, ...busiest.map(({ requests }) => requests));
  const lines = regions.filter((region) => isPlaced(region) && region.requests > 0).map((region) => line(region, groups.find(({ key }) => key === region.colo)));
  const places = [...new Map(regions.filter(isPlaced).map((region) => [region.region, region])).values()];
  const dots = busiest.map((group) => dot(group, zoom * Math.max(4, MAX_RADIUS * Math.sqrt(group.requests / most))));
  const names = labels([
    ...places.map((region) => [region.region, ...pointOf(region), 9 * zoom]),
    ...busiest.slice(0, LABELLED).map((group, i) => [group.key, ...pointOf(group), dots[i].r.baseVal.value]),
  ], zoom);
  layer.replaceChildren(...lines.filter(Boolean), ...dots, ...places.map((region) => diamond(region, zoom)), ...names);
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

function diamond(region, zoom) {
  const [x, y] = pointOf(region);
  const r = 7 * zoom;
  return shape("path", { class: "region", d: `M${x},${y - r}l${r},${r}l-${r},${r}l-${r},-${r}z` }, `Cloud region ${region.region}`);
}

function dot(colo, r) {
  const [cx, cy] = pointOf(colo);
  const { p95 } = colo.total_ms;
  const pace = p95 == null ? "unknown" : p95 < SLOW_MS ? "fast" : p95 < LATE_MS ? "slow" : "late";
  const words = `${colo.key}: ${count(colo.requests)} requests, p95 ${milliseconds(p95) ?? "unknown"}`;
  return shape("circle", { class: `colo ${pace}`, cx, cy, r }, words);
}

/** marks: [text, x, y, radius], the more important ones first. A name that finds no room beside its mark is left out. */
function labels(marks, zoom) {
  const taken = [];
  const [width, height] = LETTER.map((size) => size * zoom);
  return marks.flatMap(([text, x, y, r]) => {
    const long = text.length * width;
    const corners = [[x + r + 2, y - height / 2], [x - r - 2 - long, y - height / 2], [x - long / 2, y - r - height], [x - long / 2, y + r]];
    const free = corners.find(([left, top]) => taken.every((box) => left > box[2] || left + long < box[0] || top > box[3] || top + height < box[1]));
    if (!free) return [];
    const [left, top] = free;
    taken.push([left, top, left + long, top + height]);
    const made = shape("text", { x: left, y: top + 0.85 * height, "font-size": 11 * zoom });
    made.textContent = text;
    return [made];
  });
}

/** title: shown when the pointer rests on it. */
function shape(tag, attributes = {}, title = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (title !== null) made.append(Object.assign(document.createElementNS("http://www.w3.org/2000/svg", "title"), { textContent: title }));
  return made;
}
