// Curves over the steps of training, drawn as SVG: axes, legend, reading by pointer and keys, a table.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 52, right: 12, top: 8, bottom: 34 };
const PLOT_HEIGHT = 210, MOST_COLOURS = 6, MOST_ROWS = 24;

/** Make an SVG element, as `h` makes one of HTML. */
function s(tag, properties = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Round marks of an axis: about `wanted` of them from low to high. */
function linearTicks(low, high, wanted = 4) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough) ?? rough;
  const first = Math.ceil(low / gap - 1e-9), last = Math.floor(high / gap + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => Number(((first + index) * gap).toPrecision(12)));
}

/** Marks of a logarithmic axis: powers of ten, and 2 and 5 times these where there are few. */
function logTicks(low, high) {
  const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high));
  const powers = Array.from({ length: to - from + 1 }, (_, index) => from + index);
  const fine = powers.flatMap((power) => [1, 2, 5].map((times) => times * 10 ** power));
  const within = (ticks) => ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  const coarse = within(powers.map((power) => 10 ** power));
  if (coarse.length < 2) return within(fine).length > 1 ? within(fine) : linearTicks(low, high, 3);
  const every = Math.ceil(coarse.length / 5);
  return coarse.filter((_, index) => index % every === 0);
}

/** A curve: bins of steps, means and extremes; `place` replaces what follows a number of bins. */
class Curve {
  constructor(label) {
    Object.assign(this, { label, step: [], mean: [], low: [], high: [], stride: 1, last: null, shown: true });
  }

  place(first, values, { stride, last, num }) {
    const size = values.length / 4;
    [this.step, this.mean, this.low, this.high].forEach((row, index) => {
      row.length = first;
      for (let at = 0; at < size; at += 1) row.push(values[index * size + at]);
    });
    Object.assign(this, { stride, last, num });
  }

  /** Number of the bin that is nearest to a step; −1 without any. */
  nearest(step) {
    let low = 0, high = this.step.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.step[middle] < step) low = middle + 1;
      else high = middle;
    }
    if (low > 0 && step - this.step[low - 1] < this.step[low] - step) return low - 1;
    return high < 0 ? -1 : low;
  }

  get isGuess() {
    return this.label.endsWith("a guess");
  }
}

class Plot {
  constructor({ name, unit, log }) {
    Object.assign(this, { name, unit, log, curves: new Map(), at: null, width: 360, dirty: false });
    this.svg = s("svg", { class: "lv-plot", tabindex: "0", role: "img", "aria-label": name, height: PLOT_HEIGHT });
    this.legend = h("div", { class: "lv-legend", role: "group", "aria-label": `Curves of ${name}` });
    this.reading = h("p", { class: "lv-reading lv-dim", "aria-live": "polite" }, "");
    this.rows = h("tbody", {});
    this.head = h("tr", {});
    const table = h("table", { class: "lv-numbers" }, h("caption", { class: "lv-hidden" }, name), h("thead", {}, this.head), this.rows);
    const more = h("details", { ontoggle: () => this.fill() }, h("summary", {}, "As a table"),
      h("div", { class: "lv-scroll", tabindex: "0", role: "region", "aria-label": `${name} as a table` }, table));
    this.more = more;
    const logarithmic = h("input", { type: "checkbox", onchange: () => { this.log = logarithmic.checked; this.draw(); } });
    logarithmic.checked = log;
    const title = h("div", { class: "lv-row" }, h("h3", {}, name), h("div", { class: "lv-field" }, h("label", {}, logarithmic, " log axis")));
    this.element = h("div", { class: "lv-curves", "data-plot": name, hidden: true }, title, this.legend, this.svg, this.reading, more);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.read(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("blur", () => this.read(null));
    new ResizeObserver(([{ contentRect }]) => this.resize(contentRect.width)).observe(this.element);
  }

  resize(width) {
    if (width < 1 || Math.abs(width - this.width) < 1) return;
    this.width = width;
    this.draw();
  }

  reset() {
    this.curves.clear();
    this.labels = null;
    this.changed();
  }

  /** Take up what is new of a curve. */
  take(about, values) {
    let curve = this.curves.get(about.tag);
    if (!curve) {
      curve = new Curve(about.label);
      this.curves.set(about.tag, curve);
    }
    curve.place(about.first, values, about);
    this.changed();
  }

  changed() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => {
      this.dirty = false;
      this.element.hidden = !this.curves.size;
      this.keys();
      this.draw();
      this.fill();
    });
  }

  /** The legend: a button for each curve, by which it is hidden. */
  keys() {
    const labels = [...this.curves.keys()].join("\n");
    if (this.labels !== labels) {
      this.labels = labels;
      this.legend.replaceChildren(...[...this.curves.values()].map((curve, index) => {
        const line = s("svg", { width: 22, height: 8, "aria-hidden": "true", class: this.style(index, curve) }, s("path", { d: "M0 4 H22" }));
        const value = h("span", { class: "lv-dim" }, "");
        const key = h("button", { type: "button", class: "lv-key", "aria-pressed": String(curve.shown), onclick: () => {
          curve.shown = !curve.shown;
          key.setAttribute("aria-pressed", String(curve.shown));
          this.draw();
        } }, line, curve.label, value);
        curve.value = value;
        return key;
      }));
    }
    for (const curve of this.curves.values()) curve.value.textContent = curve.last ? shortNumber(curve.last[1]) : "";
  }

  style(index, curve) {
    return `lv-c${index % MOST_COLOURS}${curve.isGuess ? " lv-dashed" : ""}`;
  }

  shown() {
    return [...this.curves.values()].filter((curve) => curve.shown && curve.step.length);
  }

  /** Ranges of both axes. */
  ranges() {
    const curves = this.shown();
    const positive = (values) => (this.log ? values.filter((value) => value > 0) : values);
    const bounds = (rows) => rows.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    const [first, last] = bounds(curves.flatMap(({ step }) => [step[0], step.at(-1)]));
    let [low, high] = bounds(curves.flatMap((curve) => [bounds(positive(curve.low))[0], bounds(positive(curve.high))[1]]));
    if (!Number.isFinite(low) || !Number.isFinite(high)) return null;
    if (this.log) [low, high] = low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
    else {
      const edge = (high - low || Math.abs(high) || 1) * 0.05;
      [low, high] = [low - edge, high + edge];
    }
    return { first: Math.min(0, first), last: Math.max(last, this.end ?? 0) || 1, low, high };
  }

  draw() {
    const { width } = this, range = this.ranges();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${PLOT_HEIGHT}`);
    this.svg.setAttribute("width", width);
    this.range = range;
    if (!range) {
      this.svg.replaceChildren(s("text", { x: width / 2, y: PLOT_HEIGHT / 2, "text-anchor": "middle" }, "no values to show"));
      return;
    }
    const inner = { right: width - MARGIN.right, bottom: PLOT_HEIGHT - MARGIN.bottom };
    const scale = (value, from, to, begin, end) => begin + (end - begin) * (value - from) / (to - from);
    this.x = (step) => scale(step, range.first, range.last, MARGIN.left, inner.right);
    this.y = (value) => (this.log
      ? scale(Math.log(Math.max(value, range.low)), Math.log(range.low), Math.log(range.high), inner.bottom, MARGIN.top)
      : scale(value, range.low, range.high, inner.bottom, MARGIN.top));
    this.cursor = s("g", { class: "lv-cursor" });
    this.svg.replaceChildren(this.axes(range, inner), ...this.lines(range), this.cursor);
    const words = this.shown().map((curve) => `${curve.label} ${shortNumber(curve.last[1])}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.name} over the steps; now, at step ${range.last}: ${words}. Arrow keys read values.`);
    if (this.at !== null) this.read(this.at);
  }

  axes(range, inner) {
    const group = s("g", { class: "lv-axes" });
    const marks = this.log ? logTicks(range.low, range.high) : linearTicks(range.low, range.high);
    for (const value of marks) {
      const y = this.y(value);
      group.append(s("path", { d: `M${MARGIN.left} ${y} H${inner.right}` }),
        s("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, shortNumber(value)));
    }
    for (const step of linearTicks(range.first, range.last, Math.max(2, this.width / 110))) {
      const x = this.x(step);
      group.append(s("path", { d: `M${x} ${inner.bottom} v4` }),
        s("text", { x, y: inner.bottom + 16, "text-anchor": "middle" }, step.toLocaleString("en")));
    }
    group.append(s("path", { class: "lv-frame", d: `M${MARGIN.left} ${MARGIN.top} V${inner.bottom} H${inner.right}` }),
      s("text", { x: inner.right, y: PLOT_HEIGHT - 4, "text-anchor": "end" }, "step"),
      s("text", { x: 11, y: (MARGIN.top + inner.bottom) / 2, "text-anchor": "middle",
        transform: `rotate(-90 11 ${(MARGIN.top + inner.bottom) / 2})` }, this.unit));
    return group;
  }

  lines(range) {
    return [...this.curves.values()].flatMap((curve, index) => {
      if (!curve.shown || !curve.step.length) return [];
      const steps = [...curve.step], means = [...curve.mean];
      if (curve.isGuess && steps.at(-1) < range.last) { // the same answer to the same samples
        steps.push(range.last);
        means.push(means.at(-1));
      }
      const along = (values, order) => order.map((at) => `${this.x(steps[at]).toFixed(1)} ${this.y(values[at]).toFixed(1)}`).join("L");
      const forth = curve.step.map((_, at) => at), path = `M${along(means, steps.map((_, at) => at))}`;
      const group = s("g", { class: this.style(index, curve), "data-label": curve.label });
      if (curve.stride > 1) group.append(s("path", { class: "lv-band",
        d: `M${along(curve.high, forth)}L${along(curve.low, [...forth].reverse())}Z` }));
      group.append(s("path", { class: "lv-line", d: path }));
      if (curve.step.length === 1 && !curve.isGuess) group.append(s("circle", { cx: this.x(steps[0]), cy: this.y(means[0]), r: 3 }));
      return [group];
    });
  }

  point(event) {
    if (!this.range) return;
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    this.read(this.range.first + clamp(share, 0, 1) * (this.range.last - this.range.first));
  }

  key(event) {
    const curve = this.shown().sort((a, b) => b.step.length - a.step.length)[0];
    if (!curve) return;
    const here = this.at === null ? curve.step.length - 1 : curve.nearest(this.at);
    const places = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: curve.step.length - 1 };
    if (!(event.key in places)) return;
    this.read(curve.step[clamp(places[event.key], 0, curve.step.length - 1)]);
    event.preventDefault();
  }

  /** Read the values at a step; null: none. */
  read(step) {
    this.at = step;
    this.cursor?.replaceChildren();
    if (step === null || !this.range) {
      this.reading.textContent = "";
      return;
    }
    const words = [];
    let nearest = null;
    for (const curve of this.shown()) {
      const at = curve.nearest(step);
      if (nearest === null || Math.abs(curve.step[at] - step) < Math.abs(nearest - step)) nearest = curve.step[at];
      const span = curve.stride > 1 ? ` (${shortNumber(curve.low[at])} to ${shortNumber(curve.high[at])})` : "";
      words.push(`${curve.label} ${shortNumber(curve.mean[at])}${span}`);
      this.cursor.append(s("circle", { cx: this.x(curve.step[at]), cy: this.y(curve.mean[at]), r: 3.5 }));
    }
    this.cursor.append(s("path", { d: `M${this.x(nearest)} ${MARGIN.top} V${PLOT_HEIGHT - MARGIN.bottom}` }));
    this.reading.textContent = `step ${nearest.toLocaleString("en")}: ${words.join(", ")}`;
  }

  /** Fill the table, while it is open: some rows, the latest among them. */
  fill() {
    if (!this.more.open) return;
    const curves = [...this.curves.values()];
    const steps = [...new Set(curves.flatMap(({ step }) => step))].sort((a, b) => a - b);
    const every = Math.ceil(steps.length / MOST_ROWS);
    const some = steps.filter((_, index) => (steps.length - 1 - index) % every === 0);
    this.head.replaceChildren(h("th", { scope: "col" }, "step"), ...curves.map(({ label }) => h("th", { scope: "col" }, label)));
    this.rows.replaceChildren(...some.map((step) => h("tr", {}, h("th", { scope: "row" }, step.toLocaleString("en")),
      ...curves.map((curve) => {
        const at = curve.step.indexOf(step);
        return h("td", {}, at < 0 ? "" : shortNumber(curve.mean[at]));
      }))));
  }
}
