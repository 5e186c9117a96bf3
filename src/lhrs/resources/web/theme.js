// Light, dark, or as the system has it: one switch through the three.

import { $ } from "./dom.js";

const NAME = "lhrs-theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const WORDS = { auto: "System", light: "Light", dark: "Dark" };

export function startTheme() {
  $("theme").onclick = () => set(NEXT[document.documentElement.dataset.theme]);
  set(localStorage.getItem(NAME) ?? "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
}

function set(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem(NAME, theme);
  $("theme").textContent = WORDS[theme];
  $("theme").setAttribute("aria-label", `Colours: ${WORDS[theme]}`);
  tell();
}

const tell = () => document.dispatchEvent(new Event("themechange"));
