// The state of the page: images and the turns about each, stored for this tab, so that a reload loses nothing.

const NAME = "lhrs-work";
/** Okabe and Ito's colors for the color-blind, as in images that lhrs draws. */
export const COLORS = ["#f0e442", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#0072b2", "#ffffff"];

export const store = { images: [], current: null, model: "" };
const listeners = [];
let persists = false;

export const onChange = (listener) => listeners.push(listener);

/** Notifies listeners of a change and stores it. `what` is the turn that changed, if it is only one. */
export function changed(what = null) {
  for (const listener of listeners) listener(what);
  if (!persists) return;
  const images = store.images.map(({ id, turns, rendering }) => ({
    id,
    rendering,
    turns: turns.filter((turn) => turn.state !== "asking" || turn.scene).map(({ geojson, abort, ...rest }) => rest),
  }));
  try {
    sessionStorage.setItem(NAME, JSON.stringify({ images, current: store.current?.id }));
  } catch {
    sessionStorage.removeItem(NAME); // too much to store; the page stays as it is
  }
}

/** Returns what was stored before a reload; from now on changes are stored. */
export function stored() {
  const before = JSON.parse(sessionStorage.getItem(NAME) ?? '{"images": []}');
  persists = true;
  return before;
}

let last = 0;

/** Adds a turn to an image. */
export function addTurn(image, turn) {
  const color = COLORS[image.turns.length % COLORS.length];
  const added = { state: "asking", text: "", error: "", reply: null, scene: null, shown: true, color, ...turn };
  added.key = nextKey();
  image.turns.push(added);
  changed(added);
  return added;
}

/** Ends a turn; its results are shown instead of those of previous turns. */
export function endTurn(image, turn, change) {
  Object.assign(turn, { abort: null }, change);
  if (turn.reply?.boxes.length || turn.geojson) for (const other of image.turns) other.shown = other === turn;
  changed(turn);
}

export const nextKey = () => `t${++last}`;

/** The results of a turn on the map, or null. */
export const places = (turn) => turn.geojson ?? turn.reply?.geojson ?? null;

/** The classes of a whole scene, largest first, each with its area and its color in classes.tif; empty if it has none. */
export function classesOf(turn) {
  const areas = turn.scene?.summary?.by_answer_km2 ?? {};
  const order = turn.scene?.labels ?? Object.keys(areas).sort();
  const color = (name) => COLORS[order.indexOf(name) % COLORS.length];
  return new Map(Object.entries(areas).map(([name, km2]) => [name, { color: color(name), km2 }]));
}
