// Opens images (drop, choose, paste, example), shows them as thumbnails, one of them current.

import * as api from "./api.js";
import { $, button, el, notice } from "./dom.js";
import { changed, stored, nextKey, onChange, store } from "./store.js";

export function startImages() {
  $("choose").onclick = $("add").onclick = () => $("files").click();
  $("files").onchange = () => {
    openFiles([...$("files").files]);
    $("files").value = "";
  };
  $("example").onclick = async () => {
    try {
      await openFiles([await api.example("river.tif")]);
    } catch (error) {
      notice(error.message);
    }
  };
  let depth = 0;
  const drag = (by) => (event) => {
    event.preventDefault();
    depth = Math.max(0, depth + by);
    document.body.classList.toggle("dropping", depth > 0);
  };
  document.addEventListener("dragenter", drag(1));
  document.addEventListener("dragleave", drag(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    depth = 0;
    drag(0)(event);
    openFiles([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => openFiles([...event.clipboardData.files]));
  onChange((what) => what || render());
}

/** Fetches the images that were open before a reload and that the server still has. */
export async function restore() {
  const { images, current } = stored();
  for (const { id, turns, rendering } of images) {
    try {
      const image = await open(id, rendering);
      image.turns = turns.map((turn) => ({ ...turn, key: nextKey() }));
      if (id === current) store.current = image;
    } catch (error) {
      if (error.status !== 404) notice(error.message);
    }
  }
  store.current ??= store.images[0] ?? null;
  changed();
}

async function openFiles(files) {
  for (const file of files) {
    const bar = el("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
    const row = el("li", { className: "uploading" }, el("span", {}, file.name), bar);
    $(store.images.length ? "tabs" : "first-uploads").append(row);
    try {
      const { id } = await api.upload(file, (fraction) => (bar.value = fraction));
      store.current = await open(id);
    } catch (error) {
      notice(`${file.name}: ${error.message}`);
    }
    row.remove();
    changed();
  }
}

async function open(id, rendering = {}) {
  const image = { id, url: "", turns: [], rendering: {} };
  await setRendering(image, rendering);
  store.images.push(image);
  return image;
}

/** Renders an image in another way: its preview, and what is sent with questions from now on. */
export function setRendering(image, rendering) {
  image.rendered = fetchRendering(image, rendering); // questions wait for it
  return image.rendered;
}

async function fetchRendering(image, rendering) {
  const [record, blob] = await Promise.all([api.file(image.id, rendering), api.preview(image.id, rendering)]);
  URL.revokeObjectURL(image.url);
  Object.assign(image, { name: record.filename, about: record.image, url: URL.createObjectURL(blob), rendering });
}

async function close(image) {
  const at = store.images.indexOf(image);
  store.images.splice(at, 1);
  for (const turn of image.turns) turn.abort?.abort();
  if (store.current === image) store.current = store.images[Math.min(at, store.images.length - 1)] ?? null;
  changed();
  URL.revokeObjectURL(image.url);
  (store.current ? $("tabs").querySelector("[aria-current=true]") : $("choose")).focus();
  await api.removeFile(image.id).catch((error) => error.status === 404 || notice(error.message));
}

function render() {
  $("strip").hidden = !store.images.length;
  $("empty").hidden = store.images.length > 0;
  const open = store.images.map((image) =>
    el(
      "li",
      {},
      button("", () => ((store.current = image), changed(), focusCurrent()), {
        className: "thumb",
        "aria-label": image.name,
        "aria-current": String(image === store.current),
        title: image.name,
      }),
      button("×", () => close(image), { className: "close", "aria-label": `Remove ${image.name}` }),
    ),
  );
  open.forEach((item, n) => item.firstChild.append(el("img", { src: store.images[n].url, alt: "" })));
  $("tabs").replaceChildren(...open, ...$("tabs").querySelectorAll(".uploading"));
}

const focusCurrent = () => $("tabs").querySelector("[aria-current=true]").focus();
