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

/** Pixels of 256 levels between limits: black to white without signs, else blue, white, orange. */
function colourTable([low, high]) {
  const table = new Uint32Array(256);
  const largest = Math.max(-low, high) || 1;
  for (let level = 0; level < 256; level += 1) {
    const value = low + (high - low) * level / 255;
    const share = Math.abs(value) / largest, end = value < 0 ? BLUE : ORANGE;
    const [red, green, blue] = low >= 0 ? [level, level, level] : end.map((each) => 255 + (each - 255) * share);
    table[level] = 0xff000000 | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red);
  }
  return table;
}

const GREYS = colourTable([0, 1]); // little-endian, as all machines with browsers are

/** Return a canvas's context for pixels that are put into it, with room for as many. */
function pixelsOf(canvas, rows, columns) {
  if (!canvas.pixels || canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    const picture = context.createImageData(columns, rows);
    canvas.pixels = { context, picture, words: new Uint32Array(picture.data.buffer) };
  }
  return canvas.pixels;
}

/** Paint levels (rows × columns) into a canvas of as many pixels. */
function paintLevels(canvas, levels, rows, columns, limits) {
  const { context, picture, words } = pixelsOf(canvas, rows, columns);
  const table = limits[0] >= 0 ? GREYS : colourTable(limits);
  for (let place = 0; place < words.length; place += 1) words[place] = table[levels[place]];
  context.putImageData(picture, 0, 0);
}

/** Paint an image (channels × rows × columns) of bytes from 0 to 255, ink dark on light paper. */
function paintBytes(canvas, bytes, [channels, rows, columns], ink) {
  const { context, picture, words } = pixelsOf(canvas, rows, columns), size = rows * columns;
  const flip = ink ? 255 : 0, green = channels === 3 ? size : 0, blue = 2 * green;
  for (let place = 0; place < size; place += 1) {
    words[place] = 0xff000000 | ((bytes[blue + place] ^ flip) << 16) |
      ((bytes[green + place] ^ flip) << 8) | (bytes[place] ^ flip);
  }
  context.putImageData(picture, 0, 0);
}
