// Whole scenes: started, polled until they end, fetched, and shown on the map.

import * as api from "./api.js";
import { notice } from "./dom.js";
import { see } from "./map.js";
import { addTurn, changed, endTurn, store } from "./store.js";

const POLL_MS = 700;
const VERBS = { classify: "classify", ground: "find", count: "count", vqa: "ask", caption: "describe" };

export async function startScene(image, body) {
  try {
    const scene = await api.startScene({ file_id: image.id, ...body });
    const what = body.target ?? body.labels?.join(", ") ?? "";
    const title = `Whole scene: ${VERBS[body.task]} ${what}`.trim();
    await poll(image, addTurn(image, { task: "scene", title, time: new Date().toISOString(), scene }));
  } catch (error) {
    notice(error.message);
  }
}

/** Polls the scenes that were running before a reload, and fetches those that are done. */
export function resumeScenes() {
  for (const image of store.images) for (const turn of image.turns) if (turn.scene && turn.state !== "failed") poll(image, turn);
}

export async function cancelScene(image, turn) {
  endTurn(image, turn, { state: "failed", error: "Cancelled." });
  await api.removeScene(turn.scene.id).catch((error) => error.status === 404 || notice(error.message));
}

async function poll(image, turn) {
  try {
    while (turn.state !== "failed" && store.images.includes(image)) {
      turn.scene = await api.scene(turn.scene.id);
      if (turn.state === "failed") return; // cancelled meanwhile
      if (turn.scene.state === "failed") return endTurn(image, turn, { state: "failed", error: turn.scene.error });
      if (turn.scene.state === "done") return await finish(image, turn);
      changed(turn);
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  } catch (error) {
    if (turn.state !== "failed") endTurn(image, turn, { state: "failed", error: error.message });
  }
}

async function finish(image, turn) {
  const geojson = JSON.parse(await (await api.sceneResult(turn.scene.id, "answers.geojson")).text());
  endTurn(image, turn, { state: "done", text: turn.scene.summary.answer, geojson });
  if (image === store.current) await see(true);
}
