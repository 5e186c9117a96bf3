// The list of results above the image and the map: visibility, color, download.

import { $, button, download, el } from "./dom.js";
import { changed, classesOf, onChange, places, store } from "./store.js";

let listed = "";

export function startLayers() {
  onChange(render);
}

function render() {
  const turns = store.current?.turns.filter((turn) => turn.reply?.boxes.length || turn.geojson) ?? [];
  const keys = turns.map((turn) => turn.key).join();
  if (keys === listed) return; // keeps the focus of a checkbox
  listed = keys;
  $("layers").hidden = !turns.length;
  $("layers").replaceChildren(...turns.map(row));
}

function row(turn) {
  const item = el(
    "li",
    {},
    el(
      "label",
      { className: "check" },
      el("input", { type: "checkbox", checked: turn.shown, onchange: (event) => set(turn, { shown: event.target.checked }) }),
      el("span", {}, turn.title),
    ),
    classesOf(turn).size
      ? null
      : el("input", {
          type: "color",
          value: turn.color,
          "aria-label": `Color of ${turn.title}`,
          onchange: (event) => set(turn, { color: event.target.value }),
        }),
  );
  if (places(turn)) item.append(button("GeoJSON", () => save(turn), { "aria-label": `Save ${turn.title} as GeoJSON` }));
  return item;
}

function set(turn, change) {
  Object.assign(turn, change);
  changed(turn);
}

function save(turn) {
  const name = turn.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  download(`${name}.geojson`, JSON.stringify(places(turn)), "application/geo+json");
}
