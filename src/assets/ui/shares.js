// Parts of a whole: one stacked bar, and a list that says the same in words.
import { element } from "./dom.js";
import { count, percent } from "./format.js";

/** parts: [[name, number]]; those that are 0 are left out. */
export function showShares(place, parts) {
  const present = parts.filter(([, number]) => number > 0);
  const sum = present.reduce((total, [, number]) => total + number, 0);
  if (sum === 0) {
    place.replaceChildren(element("p", { className: "empty", textContent: "Nothing in this window." }));
    return;
  }
  const stack = element("div", { className: "stack", ariaHidden: "true" });
  const list = element("ul");
  for (const [name, number] of present) {
    const piece = named("span", name);
    piece.style.width = `${(100 * number) / sum}%`;
    stack.append(piece);
    list.append(element("li", {}, named("i", name), `${name} ${percent(number / sum)} (${count(number)})`));
  }
  place.replaceChildren(stack, list);
}

function named(tag, name) {
  const made = element(tag);
  made.dataset.name = name;
  return made;
}
