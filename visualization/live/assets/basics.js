// Elements, numbers and colours: what all parts of the live page use.

/** Make an element: h("button", {class: "x", onclick: f, "aria-label": "y"}, children…). */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

let labelled = 0;

/** Return a labelled control: the label's text, then the element, tied by an id. */
function field(text, control, ...more) {
  control.id = control.id || `lv-${(labelled += 1)}`;
  return h("div", { class: "lv-field" }, h("label", { for: control.id }, text), control, ...more);
}

/** Return a list to choose from; options are texts, or [value, text]. */
function choice(text, options, onchange) {
  const select = h("select", { onchange: () => onchange(select.value) });
  const fill = (list) => select.replaceChildren(...list.map((option) => {
    const [value, shown] = Array.isArray(option) ? option : [option, option];
    return h("option", { value }, shown);
  }));
  fill(options);
  return { element: field(text, select), select, fill };
}

/** Return a slider with its value beside it. */
function slider(text, { low, high, step, value, unit = "", oninput }) {
  const input = h("input", { type: "range", min: low, max: high, step, value });
  const output = h("output", { for: "" }, "");
  const show = () => { output.textContent = shortNumber(Number(input.value)); };
  input.addEventListener("input", () => { show(); oninput(Number(input.value)); });
  const element = field(text, input, output);
  output.setAttribute("for", input.id);
  if (unit) element.title = unit;
  show();
  return { element, input, set: (number) => { input.value = number; show(); } };
}

function button(text, onclick, properties = {}) {
  return h("button", { type: "button", onclick, ...properties }, text);
}

function shortNumber(value) {
  if (!Number.isFinite(value)) return String(value);
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Numbers of float32 in a buffer, which may begin anywhere. */
function floats(bytes) {
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

/** Panels by name; each file of one adds its own. */
const PANELS = {};

const BLUE = [33, 102, 172], ORANGE = [196, 98, 8];

/** Colours of 256 levels between limits: black to white without signs, else blue, white, orange. */
function colourTable([low, high]) {
  const table = new Uint8ClampedArray(256 * 3);
  const largest = Math.max(-low, high) || 1;
  for (let level = 0; level < 256; level += 1) {
    const value = low + (high - low) * level / 255;
    if (low >= 0) {
      table.fill(level, 3 * level, 3 * level + 3);
    } else {
      const share = Math.abs(value) / largest;
      const end = value < 0 ? BLUE : ORANGE;
      for (let colour = 0; colour < 3; colour += 1) {
        table[3 * level + colour] = 255 + (end[colour] - 255) * share;
      }
    }
  }
  return table;
}

/** Paint levels (rows × columns) into a canvas of as many pixels. */
function paintLevels(canvas, levels, rows, columns, limits) {
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const context = canvas.getContext("2d"), picture = context.createImageData(columns, rows);
  const table = colourTable(limits);
  for (let place = 0; place < rows * columns; place += 1) {
    const level = levels[place];
    picture.data[4 * place] = table[3 * level];
    picture.data[4 * place + 1] = table[3 * level + 1];
    picture.data[4 * place + 2] = table[3 * level + 2];
    picture.data[4 * place + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

/** Paint an image (channels × rows × columns) of bytes from 0 to 255, ink dark on light paper. */
function paintBytes(canvas, bytes, [channels, rows, columns], ink) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), picture = context.createImageData(columns, rows);
  const size = rows * columns;
  for (let place = 0; place < size; place += 1) {
    for (let colour = 0; colour < 3; colour += 1) {
      const value = bytes[(channels === 3 ? colour * size : 0) + place];
      picture.data[4 * place + colour] = ink ? 255 - value : value;
    }
    picture.data[4 * place + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}
