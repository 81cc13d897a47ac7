// Elements in one expression.

/** element("td", {className: "bad"}, "text", child…) */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
