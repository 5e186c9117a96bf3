// One turn: the question, the streamed answer, its confidence, boxes and warnings.

import { $, button, download, el, notice } from "./dom.js";
import * as api from "./api.js";
import { fly, mapIsOpen } from "./map.js";
import { percent } from "./viewer.js";
import { classesOf, places, store } from "./store.js";

const SURE = [[0.9, "very sure"], [0.7, "fairly sure"], [0.4, "not sure"], [0, "a guess"]];

/** Returns the turn's article; call it again whenever the turn has changed, with the article of before. */
export function showTurn(turn, before, cancel) {
  const article = before ?? el("article", {}, el("p", { className: "question" }, turn.title), el("p", { className: "answer" }));
  const answer = article.querySelector(".answer");
  if (turn.state === "asking" && !turn.scene) {
    answer.append(turn.text.slice(answer.textContent.length)); // screen readers read the pieces
    return article;
  }
  const parts = turn.error ? [el("p", { className: "error" }, turn.error)] : turn.scene ? ofScene(turn, cancel) : ofAnswer(turn);
  answer.replaceChildren(...linked(turn));
  while (answer.nextSibling) answer.nextSibling.remove();
  article.append(...parts.filter((part) => part !== null));
  return article;
}

function ofAnswer(turn) {
  const { confidence, out_of_distribution, boxes, ignored, warnings } = turn.reply;
  return [
    warning(out_of_distribution ? "This image looks unlike everything the model was trained on. Do not rely on this answer." : null),
    ...warnings.map(warning),
    confidence === null ? null : sureness(confidence),
    boxes.length ? el("ul", { className: "boxes" }, ...boxes.map((box, n) => chip(turn, box, n))) : null,
    ignored.includes("history") ? el("p", { className: "muted small" }, "This model answers each question on its own.") : null,
    view(turn.reply.rendering),
  ];
}

const warning = (text) => (text ? el("p", { className: "warning" }, text) : null);

function sureness(confidence) {
  const bar = el("i");
  bar.style.width = `${100 * confidence}%`;
  const words = SURE.find(([least]) => confidence >= least)[1];
  const title = "Probability of the answer's words for the model; how often it is right may differ.";
  return el("p", { className: "sure", title }, el("span", { className: "meter", "aria-hidden": "true" }, bar), `${words}, ${percent(confidence)}`);
}

/** The text of the answer; words about boxes highlight them. */
function linked(turn) {
  const text = turn.reply?.answer ?? turn.text;
  if (!turn.reply?.boxes.length) return [text];
  const labels = [...new Set(turn.reply.boxes.map((box) => box.label))].filter(Boolean);
  const words = [...labels.map((label) => label.replaceAll(/[^\p{L}\p{N} ]/gu, "\\$&")), "\\d+ box(?:es)?"];
  return text.split(new RegExp(`(${words.join("|")})`, "iu")).map((part, n) => {
    if (n % 2 === 0) return part;
    const label = labels.find((name) => name.toLowerCase() === part.toLowerCase());
    const numbers = turn.reply.boxes.flatMap((box, k) => (!label || box.label === label ? [k] : []));
    const name = numbers.length === 1 ? `${turn.key}:${numbers[0]}` : `${turn.key}:*`;
    return el("mark", { tabIndex: 0, "data-box": name }, part);
  });
}

function chip(turn, box, n) {
  const sure = box.confidence === null ? "" : ` ${percent(box.confidence)}`;
  const go = () => (mapIsOpen() ? fly(turn, n) : $("boxes").querySelector(`[data-box="${turn.key}:${n}"]`)?.focus());
  return el("li", {}, button(`${n + 1} ${box.label}${sure}`, go, { "data-box": `${turn.key}:${n}` }));
}

function view(rendering) {
  if (!rendering) return null;
  const [left, top, right, bottom] = rendering.window;
  const facts = [
    `bands ${rendering.bands.join(", ")} (${rendering.chosen_by})`,
    `values: ${rendering.scaling}`,
    `columns ${left} to ${right}, rows ${top} to ${bottom}, read as ${rendering.size.join(" × ")} pixels`,
  ];
  const list = el("ul", {}, ...facts.map((fact) => el("li", {}, fact)));
  return el("details", { className: "view" }, el("summary", {}, "Rendering"), list);
}

function ofScene(turn, cancel) {
  const { state, progress, summary, windows, warnings } = turn.scene;
  if (!summary) {
    const value = progress > 0 ? { value: progress } : {}; // else an indeterminate progress bar
    const bar = el("progress", { max: 1, ...value, "aria-label": "Progress of the whole scene" });
    const words = state === "queued" ? "queued" : `${windows.toLocaleString("en")} windows`;
    return [el("p", { className: "running" }, bar, el("span", {}, words), button("Cancel", cancel))];
  }
  const rows = [...classesOf(turn)].map(([name, { color, km2 }]) => {
    const patch = el("i", { className: "patch" });
    patch.style.background = color;
    return el("tr", {}, el("th", { scope: "row" }, patch, name), el("td", {}, `${Number(km2.toPrecision(3))} km²`));
  });
  const text = `${summary.out_of_distribution} of ${summary.answered} windows look unlike everything the model was trained on.`;
  return [
    warning(summary.out_of_distribution ? text : null),
    ...warnings.map(warning),
    rows.length ? el("table", { className: "legend" }, el("caption", {}, "Areas"), el("tbody", {}, ...rows)) : null,
    el("p", { className: "ends" }, ...turn.scene.results.map((name) => button(name, () => fetchResult(turn, name)))),
  ];
}

async function fetchResult(turn, name) {
  try {
    download(`${store.current.name.replace(/\.\w+$/, "")}-${name}`, await api.sceneResult(turn.scene.id, name));
  } catch (error) {
    notice(error.message);
  }
}

/** Saves all turns as a file. */
export function startSaving() {
  const save = (make, name, type) => () => {
    download(name, JSON.stringify(make(), null, 1), type);
    $("save").open = false;
    $("save").firstElementChild.focus();
  };
  $("save-json").onclick = save(history, "lhrs-answers.json", "application/json");
  $("save-geojson").onclick = save(allPlaces, "lhrs-places.geojson", "application/geo+json");
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !$("save").open) return;
    $("save").open = false;
    $("save").firstElementChild.focus();
  });
}

function history() {
  const turns = (image) =>
    image.turns
      .filter((turn) => turn.state === "done")
      .map(({ task, title, time, reply, scene, geojson }) => ({ task, question: title, time, ...(scene ? { scene, geojson } : reply) }));
  return { model: store.model, images: store.images.map((image) => ({ file: image.name, ...image.about, turns: turns(image) })) };
}

function allPlaces() {
  const features = store.images.flatMap((image) =>
    image.turns.flatMap((turn) =>
      (places(turn)?.features ?? []).map((feature) => ({
        ...feature,
        properties: { image: image.name, question: turn.title, ...feature.properties },
      })),
    ),
  );
  return { type: "FeatureCollection", features };
}
