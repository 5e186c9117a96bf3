// The current image as a picture, with the boxes of the answers drawn on it in the file's own pixels.

import { $ } from "./dom.js";
import { onChange, store } from "./store.js";

const SVG = "http://www.w3.org/2000/svg";
let zoom = 1;
let shown = null;

export function startPicture() {
  onChange(render);
  $("zoom-in").onclick = () => setZoom(Math.min(16, zoom * 1.5));
  $("zoom-out").onclick = () => setZoom(Math.max(1, zoom / 1.5));
  new ResizeObserver(fit).observe($("picture"));
}

export const percent = (share) => `${Math.round(100 * share)} %`;

function setZoom(value) {
  zoom = value;
  fit();
}

/** Makes the picture as large as the place allows, times the zoom, around the same middle. */
function fit() {
  if (!store.current) return;
  const { width, height } = store.current.about;
  const place = $("picture");
  const scale = zoom * Math.min(place.clientWidth / width, place.clientHeight / height);
  const middle = [place.scrollLeft + place.clientWidth / 2, place.scrollTop + place.clientHeight / 2];
  const figure = place.firstElementChild;
  const before = figure.clientWidth || 1;
  figure.style.width = `${width * scale}px`;
  figure.style.height = `${height * scale}px`;
  const ratio = (width * scale) / before;
  place.scrollTo(middle[0] * ratio - place.clientWidth / 2, middle[1] * ratio - place.clientHeight / 2);
}

function render() {
  const image = store.current;
  if (!image) return;
  if (image !== shown) {
    shown = image;
    $("image").src = image.url;
    $("image").alt = `Picture of ${image.name}`;
    $("boxes").setAttribute("viewBox", `0 0 ${image.about.width} ${image.about.height}`);
    setZoom(1);
  }
  $("boxes").replaceChildren(...image.turns.filter((turn) => turn.shown && turn.told).flatMap(drawn));
}

function drawn(turn) {
  return turn.told.boxes.map((box, n) => {
    const [x1, y1, x2, y2] = box.xyxy;
    const rect = document.createElementNS(SVG, "rect");
    const sure = box.confidence === null ? "" : `, ${percent(box.confidence)}`;
    const about = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, tabindex: 0, role: "img", stroke: turn.colour };
    for (const [name, value] of Object.entries(about)) rect.setAttribute(name, value);
    rect.setAttribute("aria-label", `${n + 1}: ${box.label}${sure}`);
    rect.dataset.box = `${turn.key}:${n}`;
    return rect;
  });
}
