// The image viewer: the current image with the boxes of the answers, in pixels of the file.

import { $ } from "./dom.js";
import { onChange, store } from "./store.js";

const SVG = "http://www.w3.org/2000/svg";
let zoom = 1;
let shown = null;

export function startViewer() {
  onChange(render);
  $("zoom-in").onclick = () => setZoom(Math.min(16, zoom * 1.5));
  $("zoom-out").onclick = () => setZoom(Math.max(1, zoom / 1.5));
  new ResizeObserver(fit).observe($("viewer"));
}

export const percent = (fraction) => `${Math.round(100 * fraction)} %`;

function setZoom(value) {
  zoom = value;
  fit();
}

/** Fits the image to its container, times the zoom, around the same center. */
function fit() {
  if (!store.current) return;
  const { width, height } = store.current.about;
  const place = $("viewer");
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
  if ($("image").src !== image.url) $("image").src = image.url;
  if (image !== shown) {
    shown = image;
    $("image").alt = image.name;
    $("boxes").setAttribute("viewBox", `0 0 ${image.about.width} ${image.about.height}`);
    setZoom(1);
  }
  $("boxes").replaceChildren(...image.turns.filter((turn) => turn.shown && turn.reply).flatMap(toRects));
}

function toRects(turn) {
  return turn.reply.boxes.map((box, n) => {
    const [x1, y1, x2, y2] = box.xyxy;
    const rect = document.createElementNS(SVG, "rect");
    const sure = box.confidence === null ? "" : `, ${percent(box.confidence)}`;
    const about = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, tabindex: 0, role: "img", stroke: turn.color };
    for (const [name, value] of Object.entries(about)) rect.setAttribute(name, value);
    rect.setAttribute("aria-label", `${n + 1}: ${box.label}${sure}`);
    rect.dataset.box = `${turn.key}:${n}`;
    return rect;
  });
}
