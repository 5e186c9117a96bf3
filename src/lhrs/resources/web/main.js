// Starts the parts of the page, and asks for the API key when the server wants one.

import { startSaving } from "./answer.js";
import * as api from "./api.js";
import { startChat } from "./chat.js";
import { $, notice } from "./dom.js";
import { restore, startImages } from "./images.js";
import { startLayers } from "./layers.js";
import { startLinks } from "./link.js";
import { startMap } from "./map.js";
import { startPicture } from "./picture.js";
import { resumeScenes } from "./scene.js";
import { startTheme } from "./theme.js";
import { changed, store } from "./store.js";

let asked = null;

/** Shows the key's dialog, once for all who want it; returns whether there is a new key. */
function askForKey() {
  asked ??= new Promise((answer) => {
    $("key").value = api.key.get();
    $("key-dialog").returnValue = "cancel";
    $("key-dialog").onclose = () => {
      asked = null;
      const given = $("key-dialog").returnValue === "ok";
      if (given) api.key.set($("key").value.trim());
      answer(given);
    };
    $("key-dialog").showModal();
  });
  return asked;
}

async function greet() {
  try {
    const again = Boolean(store.model);
    store.model = await api.model();
    $("model").textContent = store.model;
    if (again) return;
    await restore();
    resumeScenes();
  } catch (error) {
    notice(error.message);
  }
}

api.onKeyWanted(askForKey);
$("key-cancel").onclick = () => $("key-dialog").close("cancel");
$("key-open").onclick = async () => (await askForKey()) && greet();
startTheme();
startLinks();
startImages();
startPicture();
startMap();
startLayers();
startSaving();
startChat();
changed();
greet();
