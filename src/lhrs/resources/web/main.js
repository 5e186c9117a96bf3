// Starts the modules of the page, and asks for the API key when the server requires one.

import { startSaving } from "./answer.js";
import * as api from "./api.js";
import { startChat } from "./chat.js";
import { $, notice } from "./dom.js";
import { restore, startImages } from "./images.js";
import { startLayers } from "./layers.js";
import { startLinks } from "./link.js";
import { startMap } from "./map.js";
import { startViewer } from "./viewer.js";
import { loadSensors, startRendering } from "./rendering.js";
import { resumeScenes } from "./scene.js";
import { startTheme } from "./theme.js";
import { changed, store } from "./store.js";

let pending = null;

/** Shows the dialog of the key, once for concurrent requests; returns whether there is a new key. */
function askForKey() {
  pending ??= new Promise((answer) => {
    $("key").value = api.key.get();
    $("key-dialog").returnValue = "cancel";
    $("key-dialog").onclose = () => {
      pending = null;
      const isSet = $("key-dialog").returnValue === "ok";
      if (isSet) api.key.set($("key").value.trim());
      answer(isSet);
    };
    $("key-dialog").showModal();
  });
  return pending;
}

async function greet() {
  try {
    const again = Boolean(store.model);
    store.model = await api.model();
    $("model").textContent = store.model;
    if (again) return;
    await restore();
    await loadSensors();
    resumeScenes();
  } catch (error) {
    notice(error.message);
  }
}

api.onKeyRequired(askForKey);
$("key-cancel").onclick = () => $("key-dialog").close("cancel");
$("key-open").onclick = async () => (await askForKey()) && greet();
startTheme();
startLinks();
startImages();
startViewer();
startRendering();
startMap();
startLayers();
startSaving();
startChat();
changed();
greet();
