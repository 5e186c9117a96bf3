// Links boxes and words: what is hovered or focused is highlighted wherever it is shown.
// A box is named "turn:number", all boxes of a turn "turn:*".

let lit = null;
const listeners = [];

export const onLight = (listener) => listeners.push(listener);

const fits = (name, wanted) => name === wanted || (wanted?.endsWith(":*") && name.startsWith(wanted.slice(0, -1)));

export function light(name) {
  if (name === lit) return;
  lit = name;
  for (const node of document.querySelectorAll("[data-box]")) node.classList.toggle("lit", fits(node.dataset.box, name));
  for (const listener of listeners) listener((other) => fits(other, name));
}

export function startLinks() {
  for (const kind of ["pointerover", "focusin"])
    document.addEventListener(kind, (event) => light(event.target.closest?.("[data-box]")?.dataset.box ?? null));
}
