// The map of a georeferenced image: the image as the base layer, results as layers on it. No external tiles.
// MapLibre is loaded when the map is opened first.

import { $, el, notice } from "./dom.js";
import { light, onLight } from "./link.js";
import { classesOf, onChange, places, store } from "./store.js";
import { percent } from "./viewer.js";

let map = null;
let popup = null;
let shown = null;

export const mapIsOpen = () => !$("map").hidden;

export function startMap() {
  $("see-image").onclick = () => see(false);
  $("see-map").onclick = () => see(true);
  onChange(render);
  onLight((fits) => map && layersOf(store.current).forEach((turn) => mark(turn, fits)));
  document.addEventListener("keydown", (event) => event.key === "Escape" && popup?.remove());
  document.addEventListener("themechange", paintGround);
}

/** Shows the map, or the image. */
export async function see(onMap) {
  if (onMap && !map) {
    try {
      await load();
    } catch {
      return notice("This browser cannot draw maps: it needs WebGL.");
    }
  }
  $("map").hidden = !onMap;
  $("viewer").hidden = $("zoom").hidden = onMap;
  $("see-map").setAttribute("aria-pressed", String(onMap));
  $("see-image").setAttribute("aria-pressed", String(!onMap));
  map?.resize();
  render();
  document.dispatchEvent(new Event("viewchange"));
}

/** What the map shows as west, south, east, north, cut to the current image; null if they do not meet. */
export function visible() {
  const [view, corners] = [map.getBounds(), store.current.about.corners];
  const [x, y] = [corners.map((corner) => corner[0]), corners.map((corner) => corner[1])];
  const west = Math.max(view.getWest(), Math.min(...x));
  const east = Math.min(view.getEast(), Math.max(...x));
  const south = Math.max(view.getSouth(), Math.min(...y));
  const north = Math.min(view.getNorth(), Math.max(...y));
  return west < east && south < north ? [west, south, east, north] : null;
}

/** Moves to a result of a turn and shows its popup. */
export function fly(turn, n) {
  const feature = places(turn)?.features[n];
  if (!feature?.geometry) return;
  const ring = feature.geometry.coordinates[0];
  const bounds = ring.reduce((sum, point) => sum.extend(point), new maplibregl.LngLatBounds(ring[0], ring[0]));
  const { clientWidth, clientHeight } = $("map");
  map.fitBounds(bounds, { padding: Math.min(clientWidth, clientHeight) / 4, animate: calm() });
  showPopup(feature.properties, bounds.getCenter());
}

const calm = () => !matchMedia("(prefers-reduced-motion: reduce)").matches;

async function load() {
  const style = el("link", { rel: "stylesheet", href: "vendor/maplibre-gl.css" });
  const script = el("script", { src: "vendor/maplibre-gl.js" });
  const both = [style, script].map((node) => new Promise((done, fail) => ((node.onload = done), (node.onerror = fail))));
  document.head.append(style, script);
  await Promise.all(both);
  $("map").hidden = false; // it measures itself
  const ground = { id: "ground", type: "background", paint: {} };
  map = new maplibregl.Map({
    container: "map",
    style: { version: 8, sources: {}, layers: [ground] },
    maxZoom: 23,
    attributionControl: false,
  });
  map.addControl(new maplibregl.NavigationControl({ visualizePitch: false }), "bottom-right");
  map.addControl(new maplibregl.ScaleControl({ maxWidth: 120 }), "bottom-left");
  await map.once("load");
  paintGround();
}

function paintGround() {
  const color = getComputedStyle($("map").parentElement).backgroundColor;
  map?.setPaintProperty("ground", "background-color", color);
}

const layersOf = (image) => image.turns.filter((turn) => places(turn)?.features.length);

function render() {
  const image = store.current;
  if (!image?.about.corners && mapIsOpen()) return see(false);
  $("switch").hidden = !image?.about.corners;
  if (!map || !mapIsOpen()) return;
  if (image.url !== shown) showImage(image);
  for (const turn of layersOf(image)) showLayer(turn);
}

function showImage(image) {
  popup?.remove();
  for (const { id, source } of map.getStyle().layers) if (source) map.removeLayer(id);
  for (const id of Object.keys(map.getStyle().sources)) map.removeSource(id);
  shown = image.url;
  const corners = image.about.corners;
  map.addSource("image", { type: "image", url: image.url, coordinates: corners });
  map.addLayer({ id: "image", type: "raster", source: "image", paint: { "raster-fade-duration": 0 } });
  const bounds = corners.reduce((sum, point) => sum.extend(point), new maplibregl.LngLatBounds(corners[0], corners[0]));
  map.fitBounds(bounds, { padding: 16, animate: false });
}

function showLayer(turn) {
  const [fill, line] = [`${turn.key}-fill`, `${turn.key}-line`];
  if (!map.getSource(turn.key)) {
    const lit = (yes, no) => ["case", ["boolean", ["feature-state", "lit"], false], yes, no];
    map.addSource(turn.key, { type: "geojson", data: places(turn), generateId: true });
    const weak = turn.scene ? 0.4 : 0.12;
    map.addLayer({ id: fill, type: "fill", source: turn.key, paint: { "fill-opacity": lit(0.6, weak) } });
    map.addLayer({ id: line, type: "line", source: turn.key, paint: { "line-width": lit(4, turn.scene ? 1 : 2) } });
    map.on("click", fill, (event) => showPopup(event.features[0].properties, event.lngLat));
    map.on("mousemove", fill, (event) => light(`${turn.key}:${event.features[0].id}`));
    map.on("mouseleave", fill, () => light(null));
  }
  const classes = [...classesOf(turn)].flatMap(([name, { color }]) => [name, color]);
  const color = classes.length ? ["match", ["get", "answer"], ...classes, "#888888"] : turn.color;
  map.setPaintProperty(fill, "fill-color", color);
  map.setPaintProperty(line, "line-color", color);
  for (const id of [fill, line]) map.setLayoutProperty(id, "visibility", turn.shown ? "visible" : "none");
}

function mark(turn, fits) {
  if (!map.getSource(turn.key)) return;
  places(turn).features.forEach((_, id) => {
    map.setFeatureState({ source: turn.key, id }, { lit: fits(`${turn.key}:${id}`) });
  });
}

function showPopup(about, where) {
  const sure = typeof about.confidence === "number" ? percent(about.confidence) : "";
  const lines = [el("strong", {}, String(about.label ?? about.answer ?? `object ${about.number}`)), el("span", {}, sure)];
  if (about.out_of_distribution) lines.push(el("span", {}, "unlike the training images"));
  popup?.remove();
  popup = new maplibregl.Popup({ focusAfterOpen: false }).setLngLat(where);
  popup.setDOMContent(el("div", { className: "popup" }, ...lines)).addTo(map);
}
