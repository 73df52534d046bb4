const root = document.currentScript.closest(".ov-root");
const at = (name) => root.querySelector(`.ov-${name}`);
const record = JSON.parse(at("data").textContent);
// The address speaks of one overlay; those after the first on a page say which they are.
const place = String([...document.querySelectorAll(".ov-root")].indexOf(root) + 1);
const LEVELS = 127; // as in overlay_page.py
const NUM_STRONGEST = 8, NUM_MATCHES = 20;
let part, quantity; // what is shown: two entries of the record
let unit = 0; // the picked one
let column = 1, descending = true; // of the units' table: variation, largest first
let listed = []; // units in the table, as sorted
let shown = []; // samples in the list of lines, as sorted
let moment = null; // {sample, step} that the squares show
let anchor = null; // {sample, step} where a span begins
let dragging = false;
let span = null; // {sample, start, stop} that was selected
let match = null; // the chosen one of its matches
let lines = [], cells = [], squares = []; // elements by sample, by sample and step, by unit

// Values

function unpack(packed) {
  packed.array ??= Int8Array.from(atob(packed.levels), (byte) => byte.charCodeAt(0));
  return packed.array;
}

function value(sample, step, number) {
  const [, steps, units] = part.shape;
  const level = unpack(quantity)[(sample * steps + step) * units + number];
  return (level * quantity.largest[number]) / LEVELS;
}

const lineValues = (sample) => range(part.shape[1]).map((step) => value(sample, step, unit));

const limit = (number) =>
  at("layer-scale").checked ? Math.max(...quantity.largest) : quantity.largest[number];

// Units

function columns() {
  const own = [
    { name: "unit", values: range(part.shape[2]) },
    { name: "variation", values: quantity.deviation },
  ];
  return [...own, ...part.facts];
}

function listUnits() {
  const facts = columns();
  const words = at("unit-filter").value.toLowerCase().split(/\s+/);
  const least = Number(at("least").value) * Math.max(...quantity.deviation);
  const keys = facts[column].values;
  const sign = descending ? -1 : 1;
  listed = range(part.shape[2]).filter((number) => {
    const text = facts.map((fact) => cellText(fact.values[number])).join("\n").toLowerCase();
    return quantity.deviation[number] >= least && words.every((word) => text.includes(word));
  });
  // What is not known stands last either way.
  listed.sort((a, b) => (keys[a] === null) - (keys[b] === null) || sign * compare(keys[a], keys[b]) || a - b);
  at("unit-count").textContent = `${listed.length} of ${part.shape[2]} units`;
  at("least-shown").textContent = `${Number((100 * at("least").value).toFixed(1))} %`;
  at("headers").replaceChildren(...facts.map(header));
  at("units").replaceChildren(...listed.map((number) => row(number, facts)));
  showMoment();
}

function header(fact, index) {
  const cell = make("th", isNumber(fact) ? "ov-number" : "");
  const sorter = button("", fact.name, () => {
    // The most of a number is of interest first, but units count up.
    descending = column === index ? !descending : index > 0 && isNumber(fact);
    column = index;
    listUnits();
    at("headers").children[index].firstChild.focus();
  });
  if (column === index) sorter.append(make("span", "ov-arrow", descending ? "▾" : "▴"));
  cell.ariaSort = column !== index ? "none" : descending ? "descending" : "ascending";
  cell.append(sorter);
  return cell;
}

function row(number, facts) {
  const line = make("tr", number === unit ? "ov-chosen" : "");
  line.dataset.unit = number;
  line.addEventListener("click", () => pick(number));
  line.append(...facts.map((fact) => {
    const text = cellText(fact.values[number]);
    const cell = make("td", isNumber(fact) ? "ov-number" : "", text);
    cell.title = text;
    return cell;
  }));
  const width = (100 * quantity.deviation[number]) / (Math.max(...quantity.deviation) || 1);
  line.children[1].style.background = `linear-gradient(270deg, #d5e0ea ${width}%, transparent ${width}%)`;
  return line;
}

function pick(number) {
  draw(number);
  remember();
}

function draw(number) {
  unit = number;
  for (const line of at("units").children) {
    const chosen = Number(line.dataset.unit) === unit;
    line.classList.toggle("ov-chosen", chosen);
    if (chosen) reveal(line, at("table"), at("headers").offsetHeight);
  }
  const facts = columns().slice(1).map((fact) => make("span", "", `${fact.name}: ${cellText(fact.values[unit])}`));
  at("picked").replaceChildren(make("b", "", `unit ${unit}`), ...facts);
  at("picked").title = at("picked").textContent;
  paint();
  listLines();
  showMoment();
  showSpan();
}

// Lines

function buildLines() {
  cells = record.labels.map((_, sample) => part.reads[sample].map((character, step) => {
    const cell = make("span", "ov-char");
    Object.assign(cell.dataset, { sample, step });
    cell.tabIndex = -1;
    if (record.images) cell.append(slice(record.images[sample], step, part.shape[1]));
    cell.append(glyph("span", character));
    if (part.writes) cell.append(glyph("i", part.writes[sample][step]));
    return cell;
  }));
  const width = Math.max(...record.labels.map((label) => label.length));
  lines = record.labels.map((label, sample) => {
    const line = make("div", record.right[sample] ? "ov-line" : "ov-line ov-wrong");
    line.dataset.sample = sample;
    line.append(...named(label, width, record.right[sample]), ...cells[sample]);
    return line;
  });
}

function listLines() {
  const order = at("line-order").value, text = at("line-filter").value.toLowerCase();
  const keys = {
    given: () => 0,
    wrong: (sample) => Number(record.right[sample]),
    highest: (sample) => -Math.max(...lineValues(sample)),
    lowest: (sample) => Math.min(...lineValues(sample)),
  };
  const key = lines.map((_, sample) => keys[order](sample));
  shown = range(lines.length)
    .filter((sample) => record.labels[sample].toLowerCase().includes(text))
    .filter((sample) => !(at("wrong-only").checked && record.right[sample]))
    .sort((a, b) => key[a] - key[b] || a - b);
  const wrong = record.right.filter((right) => !right).length;
  at("line-count").textContent = `${shown.length} of ${lines.length}, ${wrong} wrong`;
  const present = [...at("lines").children].map((line) => Number(line.dataset.sample));
  // Lines that stay in their order are left alone, for moving one would take its focus.
  if (String(present) !== String(shown)) at("lines").replaceChildren(...shown.map((sample) => lines[sample]));
  if (shown.length && !at("lines").querySelector("[tabindex='0']")) cells[shown[0]][0].tabIndex = 0;
}

function paint() {
  const largest = limit(unit);
  cells.forEach((line, sample) => line.forEach((cell, step) => {
    cell.style.backgroundColor = color(value(sample, step, unit), largest);
  }));
  at("low").textContent = digits(-largest);
  at("high").textContent = digits(largest);
}

// One moment

function showMoment() {
  if (!moment) return;
  const { sample, step } = moment;
  const values = range(part.shape[2]).map((number) => value(sample, step, number));
  const code = (character) => make("code", "", visible(character));
  const when = ["step ", make("b", "", step), ` of 0–${part.shape[1] - 1}, reads `, code(part.reads[sample][step])];
  if (part.writes) when.push(", writes ", code(part.writes[sample][step]));
  at("when").replaceChildren(...when, ` · ${record.labels[sample]} · unit ${unit}: `, make("b", "", digits(values[unit])));
  const kept = new Set(listed);
  squares.forEach((square, number) => {
    square.className = "ov-square";
    square.classList.toggle("ov-chosen", number === unit);
    square.classList.toggle("ov-hidden-unit", !kept.has(number));
    square.title = `unit ${number}: ${digits(values[number])}`;
    square.style.backgroundColor = color(values[number], limit(number));
  });
  const strongest = range(values.length).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]) || a - b);
  at("strongest").replaceChildren("strongest:", ...strongest.slice(0, NUM_STRONGEST).map((number) => chip(number, digits(values[number]))));
  markCells("ov-now", { sample, start: step, stop: step + 1 });
}

function buildSquares() {
  squares = range(part.shape[2]).map((number) => {
    const square = make("div", "ov-square");
    square.addEventListener("click", () => pick(number));
    square.dataset.unit = number;
    return square;
  });
  at("squares").replaceChildren(...squares);
}

function chip(number, text = "") {
  const element = button("ov-unit", ` ${text}`.trimEnd(), () => pick(number));
  element.prepend(make("b", "", number));
  element.classList.toggle("ov-chosen", number === unit);
  return element;
}

// Spans and matches

function onSteps(threshold) {
  const levels = unpack(quantity), units = part.shape[2];
  const amount = (index) => (levels[index] * quantity.largest[index % units]) / LEVELS;
  const scored = quantity.name === "c" ? (index) => Math.tanh(amount(index)) : amount;
  return Uint8Array.from(levels, (_, index) => scored(index) >= threshold);
}

function showSpan() {
  at("hint").hidden = Boolean(span);
  at("query").hidden = !span;
  markCells("ov-in-span", span);
  markCells("ov-in-match", match);
  if (!span) return;
  const threshold = Number(at("on-from").value);
  const { selected, found } = findMatches(onSteps(threshold), part.shape, span, NUM_MATCHES);
  const read = part.reads[span.sample].slice(span.start, span.stop).map(visible).join("");
  at("on-shown").textContent = quantity.name === "c" ? `tanh ≥ ${threshold}` : `≥ ${threshold}`;
  at("span-text").textContent = `${read} (${stepsText(span)})`;
  at("on-units").replaceChildren(selected.length ? `${selected.length} on:` : "no unit is on", ...selected.map((number) => chip(number)));
  at("matches").replaceChildren(...found.map((other) => matchLine(other, selected.length)));
}

const stepsText = ({ start, stop }) => (stop - start > 1 ? `steps ${start}–${stop - 1}` : `step ${start}`);

function matchLine(other, count) {
  const line = button("ov-match", "", () => showMatch(other));
  const reads = part.reads[other.sample].map(visible), code = make("code", "");
  const middle = make("mark", "", reads.slice(other.start, other.stop).join(""));
  code.append(reads.slice(0, other.start).join(""), middle, reads.slice(other.stop).join(""));
  const facts = make("span", "", `${other.shared.length} of ${count} shared · ${other.numOn} on · run ${other.run}`);
  line.append(code, record.labels[other.sample], facts);
  Object.assign(line.dataset, { sample: other.sample, start: other.start, stop: other.stop, on: other.numOn, run: other.run, shared: other.shared });
  line.title = `${stepsText(other)}, shared: ${other.shared.join(", ")}`;
  line.ariaPressed = String(match?.sample === other.sample && match.start === other.start);
  return line;
}

function showMatch(other) {
  match = other;
  if (!shown.includes(other.sample)) {
    at("line-filter").value = "";
    at("wrong-only").checked = false;
    listLines();
  }
  for (const line of at("matches").children) line.ariaPressed = String(Number(line.dataset.sample) === other.sample);
  markCells("ov-in-match", match);
  moment = { sample: other.sample, step: other.stop - 1 };
  reveal(lines[other.sample], at("lines"));
  showMoment();
}

function markCells(name, marked) {
  for (const line of cells) for (const cell of line) cell.classList.remove(name);
  if (marked) cells[marked.sample].slice(marked.start, marked.stop).forEach((cell) => cell.classList.add(name));
}

function select(step) {
  span = { sample: anchor.sample, start: Math.min(anchor.step, step), stop: Math.max(anchor.step, step) + 1 };
  match = null;
  moment = { sample: anchor.sample, step };
  showMoment();
  showSpan();
}

function clear() {
  anchor = span = match = null;
  showSpan();
}

// State

function open(partName, quantityName, number) {
  const next = record.parts.find((other) => other.name === partName) ?? part ?? record.parts[0];
  if (next !== part) {
    part = next;
    moment = anchor = span = match = null;
    column = Math.min(column, part.facts.length + 1);
    buildLines();
    buildSquares();
    at("when").textContent = "Point at a character to see every unit at that moment.";
    at("strongest").replaceChildren();
    at("lines").replaceChildren();
  }
  quantity = part.quantities.find((other) => other.name === quantityName) ?? part.quantities[0];
  choice(at("parts"), record.parts, part, (name) => open(name, quantity.name, unit));
  choice(at("quantities"), part.quantities, quantity, (name) => open(part.name, name, unit));
  listUnits();
  draw(number >= 0 && number < part.shape[2] ? number : listed[0] ?? 0);
}

function choice(group, options, chosen, act) {
  const focused = group.contains(document.activeElement);
  group.replaceChildren(...options.map((option) => {
    const element = button("", option.name, () => {
      act(option.name);
      remember();
    });
    element.ariaPressed = String(option === chosen);
    if (options === part.quantities) element.title = MEANINGS[option.name] ?? "";
    return element;
  }));
  if (focused) group.querySelector("[aria-pressed='true']").focus();
}

function remember() {
  const state = new URLSearchParams({ part: part.name, quantity: quantity.name, unit });
  if (place !== "1") state.set("overlay", place);
  history.replaceState(history.state, "", `#${state}`);
}

function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  const mine = state.has("part") && (state.get("overlay") ?? "1") === place;
  if (mine) open(state.get("part"), state.get("quantity"), Number.parseInt(state.get("unit"), 10));
  return mine;
}

// Hands

function spot(event) {
  const cell = event.target.closest(".ov-char");
  return cell && { sample: Number(cell.dataset.sample), step: Number(cell.dataset.step) };
}

function look(here) {
  moment = here;
  showMoment();
}

function walk(event) {
  const here = spot(event);
  const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
  if (!here || !(down || right)) return;
  event.preventDefault();
  const sample = shown[shown.indexOf(here.sample) + down];
  const step = here.step + right;
  cells[sample]?.[step]?.focus();
  if (!event.shiftKey || down || !cells[sample]?.[step]) return;
  anchor = span ? anchor : here;
  select(step);
}

function walkUnits(event) {
  const down = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!down) return;
  event.preventDefault();
  const next = listed[listed.indexOf(unit) + down];
  if (next !== undefined) pick(next);
}

function listen() {
  const characters = at("lines");
  characters.addEventListener("pointerdown", (event) => {
    const here = spot(event);
    if (!here || event.button) return;
    if (!event.shiftKey || anchor?.sample !== here.sample) anchor = here;
    dragging = true;
    select(here.step);
  });
  characters.addEventListener("pointerover", (event) => {
    const here = spot(event);
    // A hand that slips to another line goes on selecting in the first.
    if (here) dragging && event.buttons ? select(here.step) : look(here);
  });
  characters.addEventListener("pointerleave", () => {
    // Lines crossed on the way to the squares shall not replace what was selected.
    if (span && !match) look({ sample: span.sample, step: span.stop - 1 });
  });
  characters.addEventListener("focusin", (event) => {
    const here = spot(event);
    characters.querySelectorAll("[tabindex='0']").forEach((cell) => { cell.tabIndex = -1; });
    event.target.tabIndex = 0;
    if (here) look(here);
  });
  characters.addEventListener("keydown", walk);
  at("table").addEventListener("keydown", walkUnits);
  for (const name of ["unit-filter", "least"]) at(name).addEventListener("input", listUnits);
  for (const name of ["line-filter", "wrong-only"]) at(name).addEventListener("input", listLines);
  at("line-order").addEventListener("change", listLines);
  at("layer-scale").addEventListener("input", () => draw(unit));
  at("on-from").addEventListener("input", () => { match = null; showSpan(); });
  at("clear").addEventListener("click", clear);
  document.addEventListener("pointerup", () => { dragging = false; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
  window.addEventListener("hashchange", restore);
}

at("least").value = record.threshold;
listen();
if (!restore()) open();
