// What knows nothing of the page's state.
const BLUE = [90, 155, 216], ORANGE = [240, 150, 62]; // dark text stays legible on both
const MEANINGS = { h: "hidden state", c: "cell state", i: "input gate", f: "forget gate", g: "candidate", o: "output gate", r: "reset gate", z: "update gate", n: "candidate" };

const MOST_BESIDE = 40; // characters

const range = (count) => Array.from({ length: count }, (_, index) => index);
// Two significant digits, such as 0.30 and 12, and never 1.2e+2.
const digits = (value) => {
  const text = value.toPrecision(2);
  return text.includes("e") || Number(text) === 0 ? String(Number(text)) : text;
};
const visible = (character) => (character === "\n" ? "⏎" : character);

function make(tag, name, text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

function button(name, text, act) {
  const element = make("button", name, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

function color(amount, largest) {
  const share = largest > 0 ? amount / largest : 0;
  const end = share < 0 ? BLUE : ORANGE;
  return `rgb(${end.map((level) => Math.round(255 + (level - 255) * Math.abs(share)))})`;
}

const isNumber = (fact) => fact.values.every((entry) => typeof entry !== "string");

function cellText(entry) {
  if (entry === null) return "–";
  if (typeof entry !== "number" || Number.isInteger(entry)) return String(entry);
  return digits(entry);
}

function compare(a, b) {
  if (a === null || b === null) return 0;
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}

// Scrolls a box and never the page, unlike scrollIntoView.
function reveal(element, box, top = 0) {
  const inner = element.getBoundingClientRect(), outer = box.getBoundingClientRect();
  box.scrollTop += Math.min(0, inner.top - outer.top - top) || Math.max(0, inner.bottom - outer.bottom + 2);
}

function glyph(tag, character) {
  return make(tag, character === "\n" ? "ov-pad" : "", visible(character));
}

// The part of a picture that one of its steps reads.
function slice(address, step, steps) {
  const element = make("b", "ov-slice"), picture = make("img");
  picture.src = address;
  picture.alt = "";
  picture.style.width = `${100 * steps}%`;
  picture.style.marginLeft = `${-100 * step}%`;
  element.append(picture);
  return element;
}

// The label of a line: beside its cells, or, where some label is long, above them.
function named(label, longest, right) {
  const mark = right ? "  " : " ✗";
  if (longest <= MOST_BESIDE) return [make("span", "ov-label", label.padEnd(longest) + mark)];
  return [make("span", "ov-label", label + mark), make("span", "ov-break")];
}
