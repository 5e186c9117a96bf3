// The conversation about the current image: the form, and the answers in order.

import * as api from "./api.js";
import { showTurn } from "./answer.js";
import { $, el, notice } from "./dom.js";
import { mapIsOpen, visible } from "./map.js";
import { cancelScene, startScene } from "./scene.js";
import { addTurn, changed, endTurn, onChange, store } from "./store.js";

const TASKS = {
  ask: { label: "Question", hint: "Ask about this image", send: "Ask" },
  caption: { label: null, hint: "", send: "Describe" },
  classify: { label: "Classes to choose from, by commas", hint: "forest, river, city (empty: the model's own)", send: "Classify" },
  ground: { label: "What to find", hint: "the buildings", send: "Find" },
  count: { label: "What to count", hint: "buildings", send: "Count" },
};
const SCENE = {
  classify: { label: "Classes to choose from, by commas", hint: "Forest, AnnualCrop, River" },
  ground: TASKS.ground,
  count: TASKS.count,
  vqa: { label: "Question to each window", hint: "Is there water?" },
  caption: TASKS.caption,
};
const NUM_PREVIOUS = 6;
/** Turns that are sent again, for models that read conversations. */
const articles = new Map();
const drafts = {};
let asking = null;

export function startChat() {
  $("composer").onsubmit = (event) => {
    event.preventDefault();
    if (asking) asking.abort.abort();
    else send();
  };
  $("composer").onchange = setForm;
  $("words").oninput = () => (drafts[draft()] = $("words").value);
  $("words").onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!asking) $("composer").requestSubmit();
  };
  document.addEventListener("keydown", (event) => event.key === "Escape" && asking?.abort.abort());
  document.addEventListener("viewchange", setForm);
  onChange(render);
  setForm();
}

const task = () => $("composer").elements.task.value;
const draft = () => (task() === "scene" ? `scene ${$("scene-kind").value}` : task());

function setForm() {
  const scene = task() === "scene";
  const { label, hint, send } = scene ? { send: "Start", ...SCENE[$("scene-kind").value] } : TASKS[task()];
  $("scene-fields").hidden = !scene;
  $("words").hidden = !label;
  $("words-label").textContent = label ?? "";
  $("words").placeholder = hint;
  $("words").value = drafts[draft()] ?? "";
  $("send").textContent = asking ? "Stop" : scene ? "Start" : send;
  $("part").hidden = scene || !mapIsOpen();
}

function send() {
  const image = store.current;
  if (!image) return notice("Choose an image first.");
  const words = $("words").hidden ? "" : $("words").value.trim();
  const labels = words.split(",").map((label) => label.trim()).filter(Boolean);
  const kind = task() === "scene" ? $("scene-kind").value : task();
  if (!words && (kind === "ask" || kind === "vqa")) return $("words").focus();
  if (kind === "classify" && labels.length === 1) return notice("Give at least two classes, or none.");
  if (task() === "scene") {
    const gsd = $("scene-gsd").valueAsNumber;
    const body = { ...image.rendering, task: kind, size: $("scene-size").valueAsNumber, ...(gsd ? { gsd_m: gsd } : {}) };
    if (kind === "classify") return startScene(image, { ...body, ...(labels.length ? { labels } : {}) });
    return startScene(image, { ...body, ...(kind === "caption" ? {} : { target: words || TASKS[kind].hint }) });
  }
  const fields = { task: kind };
  if (kind === "classify" && labels.length) fields.labels = labels;
  if (kind === "ground") fields.expression = words || TASKS.ground.hint;
  if (kind === "count") fields.target = words || TASKS.count.hint;
  if (mapIsOpen() && $("part-only").checked) {
    fields.bbox = visible();
    if (!fields.bbox) return notice("The map shows no part of the image.");
  }
  const titles = { ask: words, caption: "Describe", ground: `Find ${fields.expression}`, count: `Count ${fields.target}` };
  titles.classify = labels.length ? `Classify: ${labels.join(", ")}` : "Classify";
  if (kind === "ask") drafts.ask = "";
  ask(image, titles[kind], fields);
}

async function ask(image, title, fields) {
  const previous = image.turns.filter((turn) => turn.state === "done" && turn.task === "ask").slice(-NUM_PREVIOUS);
  const messages = fields.task !== "ask" ? [] : previous.flatMap((turn) => [
    { role: "user", content: turn.title },
    { role: "assistant", content: turn.reply.answer },
  ]);
  const content = [{ type: "file", file: { file_id: image.id } }, { type: "text", text: title }];
  const turn = addTurn(image, { task: fields.task, title, time: new Date().toISOString(), abort: new AbortController() });
  asking = turn;
  setForm();
  try {
    await image.rendered?.catch(() => {}); // a choice that is still being rendered applies to this question
    const body = { model: store.model, messages: [...messages, { role: "user", content }], lhrs: { ...image.rendering, ...fields } };
    const reply = await api.chat(body, (piece) => ((turn.text += piece), changed(turn)), turn.abort.signal);
    endTurn(image, turn, { state: "done", reply });
  } catch (error) {
    const stopped = error.name === "AbortError";
    endTurn(image, turn, { state: "failed", error: stopped ? "Stopped." : error.message });
  }
  asking = null;
  setForm();
}

function render() {
  const image = store.current;
  $("looking").hidden = !image;
  $("scene-task").hidden = !image?.about.corners;
  if (!image?.about.corners && task() === "scene") {
    $("composer").elements.task.value = "ask";
    setForm();
  }
  if (image) setFacts(image);
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  const turns = image?.turns ?? [];
  for (const turn of turns) articles.set(turn.key, showTurn(turn, articles.get(turn.key), () => cancelScene(image, turn)));
  const wanted = turns.map((turn) => articles.get(turn.key));
  for (const node of [...log.children]) if (!wanted.includes(node)) node.remove();
  for (const node of wanted) if (!node.isConnected) log.append(node);
  log.setAttribute("aria-busy", String(turns.some((turn) => turn.state === "asking" && !turn.scene)));
  if (!turns.length) log.replaceChildren(el("p", { className: "muted hint" }, hint(image)));
  if (atEnd) log.scrollTop = log.scrollHeight;
}

const hint = (image) => (image ? "Ask a question, or pick what to do below." : "Answers appear here. Start with an image.");

function setFacts(image) {
  const { width, height, gsd_m: gsd, corners } = image.about;
  $("name").textContent = image.name;
  const facts = [`${width.toLocaleString("en")} × ${height.toLocaleString("en")} px`];
  if (gsd) facts.push(`${Number(gsd.toPrecision(3))} m per pixel`);
  if (corners) facts.push(`${corners[0][1].toFixed(3)}°, ${corners[0][0].toFixed(3)}°`);
  facts.push(image.about.scaling);
  $("facts").textContent = facts.join(" · ");
}
