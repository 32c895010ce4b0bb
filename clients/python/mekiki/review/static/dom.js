// Elements, made of names, attributes and text. Nothing here reads markup: what comes from outside stays text.

const SVG = "http://www.w3.org/2000/svg";

export function el(name, attributes = {}, ...children) {
  return dress(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, name), attributes, children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Signs that are not seen or turn the text around are spelled out, but for the joiners that scripts are written with.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cn}]/gu;
const JOINERS = new Set(["\u200c", "\u200d"]);

export function visible(text) {
  return text.replace(UNSEEN, (sign) => (JOINERS.has(sign) ? sign : `\\u{${sign.codePointAt(0).toString(16)}}`));
}

// Foreign text, isolated, so that its direction does not reach what stands beside it.
export function foreign(text, attributes = {}) {
  return el("bdi", { title: visible(text), ...attributes }, visible(text));
}

export function replace(node, ...children) {
  node.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}
