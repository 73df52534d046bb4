// The inspector: the chosen feature map large, a unit of it, and what changes it.

const LARGE = 224; // pixels of the screen that the longer side of the chosen map takes

class Inspector {
  /** `onunit(row, column)` is called when a unit is chosen. */
  constructor(edits, onunit) {
    Object.assign(this, { edits, onunit });
    this.canvas = h("canvas", { class: "lv-large", tabindex: 0, role: "application",
      "aria-roledescription": "feature map", "aria-label": "Chosen map. Arrow keys choose a unit; with Paint on, space paints it." });
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons && this.paints) this.down(event); });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.title = h("h2", {}, "Choose a map");
    this.unit = h("div", { class: "lv-unit" });
    this.value = h("input", { type: "number", step: "any", value: 1 });
    this.paintButton = button("Paint", () => {
      this.paints = !this.paints;
      this.paintButton.setAttribute("aria-pressed", String(this.paints));
    }, { "aria-pressed": "false", title: "draw the value into this map" });
    this.controls = h("div", {},
      h("div", { class: "lv-row" },
        button("Silence map", () => this.edit("scale", 0, false)),
        button("Silence unit", () => this.edit("scale", 0, true))),
      h("div", { class: "lv-row" }, field("Value", this.value),
        button("Scale map", () => this.edit("scale", this.number(), false)),
        button("Scale unit", () => this.edit("scale", this.number(), true)),
        button("Hold map", () => this.edit("hold", this.number(), false)),
        button("Hold unit", () => this.edit("hold", this.number(), true)), this.paintButton));
    this.body = h("div", { hidden: true }, this.canvas, this.controls, this.unit);
    this.element = h("section", { class: "lv-inspector", "aria-label": "Chosen map" }, this.title, this.body);
    this.paints = false;
    this.reset();
  }

  reset() {
    this.channel = null;
    this.at = null;
    this.title.textContent = "Choose a map";
    this.body.hidden = true;
    this.unit.replaceChildren();
  }

  /** Show a channel of a layer with maps of a shape (channels, rows, columns). */
  choose(layer, channel, shape) {
    Object.assign(this, { layer, channel, rows: shape[1], columns: shape[2], at: null });
    this.title.textContent = `Map ${channel} of ${layer}`;
    this.body.hidden = false;
    this.unit.replaceChildren(h("p", { class: "lv-note" }, "Click a unit in the map: its receptive field " +
      "and the images that excite this map most are shown."));
  }

  paint({ levels, rows, columns, limits }) {
    if (!levels) return;
    paintLevels(this.canvas, levels, rows, columns, limits);
    const scale = clamp(Math.floor(LARGE / Math.max(rows, columns)), 1, 40);
    this.canvas.style.width = `${columns * scale}px`;
    if (!this.at) return;
    const context = this.canvas.getContext("2d");
    context.fillStyle = "rgb(10 132 255 / 75%)";
    context.fillRect(this.at[1] * columns / this.columns, this.at[0] * rows / this.rows, 1, 1);
  }

  number() {
    const value = Number(this.value.value);
    return Number.isFinite(value) ? value : 0;
  }

  edit(kind, value, ofUnit) {
    if (this.channel === null || (ofUnit && !this.at)) {
      this.unit.replaceChildren(h("p", { class: "lv-note" }, "Choose a unit in the map first."));
      return;
    }
    const [row, column] = ofUnit ? this.at : [];
    this.edits.put({ layer: this.layer, kind, channel: this.channel, value, row, column });
  }

  down(event) {
    const box = this.canvas.getBoundingClientRect();
    const row = clamp(Math.floor((event.clientY - box.top) / box.height * this.rows), 0, this.rows - 1);
    const column = clamp(Math.floor((event.clientX - box.left) / box.width * this.columns), 0, this.columns - 1);
    this.move(row, column);
    if (this.paints) this.dab();
  }

  /** Choose a unit. */
  move(row, column) {
    this.at = [row, column];
    this.onunit(row, column);
  }

  /** Paint the value into the chosen unit. */
  dab() {
    const [row, column] = this.at, edit = this.edits.painted(this.layer, this.channel);
    const cells = edit.cells.filter(([r, c]) => r !== row || c !== column);
    this.edits.put({ ...edit, cells: [...cells, [row, column, this.number()]] });
  }

  key(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const [row, column] = this.at ?? [0, 0];
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      this.move(clamp(row + down, 0, this.rows - 1), clamp(column + right, 0, this.columns - 1));
    } else if (this.paints && (event.key === " " || event.key === "Enter")) {
      this.move(row, column);
      this.dab();
    } else return;
    event.preventDefault();
  }

  /** Show what is known of a unit: its activation, its field, and the best patches of its map. */
  tell({ value, num_pixels: pixels, patch, examples, buffers }, ink, ontake) {
    const best = examples.map(({ name, value: own, image }, index) => {
      const canvas = h("canvas", { "aria-hidden": "true" });
      paintBytes(canvas, buffers[index + 1], patch, ink);
      return h("button", { type: "button", class: "lv-example", title: `${name}: ${shortNumber(own)}; click to draw on it`,
        "aria-label": `${name}, activation ${shortNumber(own)}: draw on it`, onclick: () => ontake(image) },
        canvas, h("span", { class: "lv-caption" }, shortNumber(own)));
    });
    this.unit.replaceChildren(
      h("p", {}, `Unit (${this.at.join(", ")}): activation ${shortNumber(value)}, sees ${pixels} pixels (blue on the drawing).`),
      h("h3", {}, "Patches that excite this map most"),
      best.length ? h("div", { class: "lv-examples" }, ...best) : h("p", { class: "lv-note" }, "No sample excites it."));
  }
}
