// What the page knows: images and the turns asked about each. Kept for this tab, so that a reload loses nothing.

const NAME = "lhrs-work";
/** Okabe and Ito's colours, which people with colour blindness tell apart; as in the pictures that lhrs draws. */
export const COLOURS = ["#f0e442", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#0072b2", "#ffffff"];

export const store = { images: [], current: null, model: "" };
const listeners = [];
let keeping = false;

export const onChange = (listener) => listeners.push(listener);

/** Tells everyone that something is different, and keeps it. `what` is the turn that changed, if it is only one. */
export function changed(what = null) {
  for (const listener of listeners) listener(what);
  if (!keeping) return;
  const images = store.images.map(({ id, turns }) => ({
    id,
    turns: turns.filter((turn) => turn.state !== "asking" || turn.scene).map(({ geojson, abort, ...kept }) => kept),
  }));
  try {
    sessionStorage.setItem(NAME, JSON.stringify({ images, current: store.current?.id }));
  } catch {
    sessionStorage.removeItem(NAME); // too much to keep; what is shown stays
  }
}

/** Returns what was kept before a reload; from now on changes are. */
export function kept() {
  const before = JSON.parse(sessionStorage.getItem(NAME) ?? '{"images": []}');
  keeping = true;
  return before;
}

let last = 0;

/** Adds a turn to an image. */
export function addTurn(image, turn) {
  const colour = COLOURS[image.turns.length % COLOURS.length];
  const made = { state: "asking", text: "", error: "", told: null, scene: null, shown: true, colour, ...turn };
  made.key = nextKey();
  image.turns.push(made);
  changed(made);
  return made;
}

/** Ends a turn; if it has places, they are shown instead of those of earlier turns. */
export function endTurn(image, turn, change) {
  Object.assign(turn, { abort: null }, change);
  if (turn.told?.boxes.length || turn.geojson) for (const other of image.turns) other.shown = other === turn;
  changed(turn);
}

export const nextKey = () => `t${++last}`;

/** The results of a turn on the map, or null. */
export const places = (turn) => turn.geojson ?? turn.told?.geojson ?? null;

/** The classes of a whole scene, largest first, each with its area and its colour in classes.tif; empty if it has none. */
export function classesOf(turn) {
  const areas = turn.scene?.summary?.by_answer_km2 ?? {};
  const order = turn.scene?.labels ?? Object.keys(areas).sort();
  const colour = (name) => COLOURS[order.indexOf(name) % COLOURS.length];
  return new Map(Object.entries(areas).map(([name, km2]) => [name, { colour: colour(name), km2 }]));
}
