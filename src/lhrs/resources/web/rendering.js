// How the current image is rendered: sensor, band composite, meters per pixel. The preview follows the choice.

import * as api from "./api.js";
import { $, el, notice } from "./dom.js";
import { setRendering } from "./images.js";
import { changed, onChange, store } from "./store.js";

const PER_BAND = "per-band";
let sensors = [];
let shown = null;

export function startRendering() {
  onChange((what) => what || showCurrent());
  $("rendering").onchange = apply;
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !$("rendering").open) return;
    $("rendering").open = false;
    $("rendering").firstElementChild.focus();
  });
}

/** Fetches the sensors that the server knows. */
export async function loadSensors() {
  sensors = await api.sensors();
  fill($("sensor"), "detected", sensors.map((sensor) => sensor.id));
  shown = null;
  showCurrent();
}

function fill(select, label, values) {
  select.replaceChildren(el("option", { value: "" }, label), ...values.map((value) => el("option", { value }, value)));
}

/** Offers the composites of the sensor; those of all sensors where it is detected. */
function fillComposites(sensor) {
  const known = sensors.filter((entry) => !sensor || entry.id === sensor);
  const names = new Set(known.flatMap((entry) => entry.composites));
  if (!sensor) names.add(PER_BAND);
  fill($("composite"), "default", [...names].sort());
}

function showCurrent() {
  const image = store.current;
  if (!image || image === shown) return;
  shown = image;
  const { sensor = "", composite = "", gsd_m: gsd = "" } = image.rendering;
  $("sensor").value = sensor;
  fillComposites(sensor);
  $("composite").value = composite;
  $("gsd").value = gsd;
}

async function apply(event) {
  const image = store.current;
  if (event.target.id === "sensor") fillComposites($("sensor").value);
  if (!$("gsd").checkValidity()) return notice("Meters per pixel must be between 0.01 and 10,000.");
  const choice = { sensor: $("sensor").value, composite: $("composite").value, gsd_m: $("gsd").valueAsNumber };
  try {
    await setRendering(image, Object.fromEntries(Object.entries(choice).filter(([, value]) => value)));
  } catch (error) {
    shown = null; // show what is still in use
    notice(error.message);
  }
  changed();
}
