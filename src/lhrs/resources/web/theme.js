// Light, dark, or the theme of the system.

import { $ } from "./dom.js";

const NAME = "lhrs-theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const WORDS = { auto: "System", light: "Light", dark: "Dark" };

export function startTheme() {
  $("theme").onclick = () => set(NEXT[document.documentElement.dataset.theme]);
  set(localStorage.getItem(NAME) ?? "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", notifyTheme);
}

function set(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem(NAME, theme);
  $("theme").textContent = WORDS[theme];
  $("theme").setAttribute("aria-label", `Colors: ${WORDS[theme]}`);
  notifyTheme();
}

const notifyTheme = () => document.dispatchEvent(new Event("themechange"));
