// The canvas: a drawing on the screen, with a brush, a selection and what is marked on it.

const SHOWN = 360, SHOWN_WIDE = 1000; // pixels of the screen that the longer side of a small image takes
const LINE_LIKE = 3; // times as wide as high, such as a line of handwriting: it is shown above all else
const TOOLS = [["draw", "Draw"], ["erase", "Erase"], ["select", "Select"], ["paste", "Paste"]];
const MARKS = "#0a84ff";

class DrawingCanvas {
  /** `onchange(time)` is called when the drawing has changed, with the time of the event. */
  constructor({ shape, low, high, ink }, onchange, say) {
    this.drawing = new Drawing(shape, low, high);
    Object.assign(this, { shape, ink, onchange, say });
    this.tool = "draw";
    this.radius = Math.max(0.5, Math.min(shape[1], shape[2]) / 28);
    this.level = high;
    this.colour = [high, high, high];
    this.selection = null;
    this.cursor = { x: shape[2] / 2, y: shape[1] / 2 };
    this.marks = { field: null, heat: null, boxes: null };
    this.shown = null; // the image under sliders, while one is moved from its place
    this.build();
  }

  build() {
    const [, rows, columns] = this.shape;
    this.isWide = columns > LINE_LIKE * rows;
    this.scale = clamp(Math.floor((this.isWide ? SHOWN_WIDE : SHOWN) / Math.max(rows, columns)), 1, 60);
    this.picture = h("canvas", { class: "lv-picture", "aria-hidden": "true" });
    this.overlay = h("canvas", {
      class: "lv-overlay", width: columns * this.scale, height: rows * this.scale, tabindex: 0,
      role: "application", "aria-roledescription": "drawing",
      "aria-label": `Drawing, ${columns} by ${rows} pixels. Arrow keys move the brush, space draws, ` +
        "Control Z undoes.",
    });
    this.box = h("div", { class: "lv-canvas" }, this.picture, this.overlay);
    this.box.style.aspectRatio = `${columns} / ${rows}`;
    this.box.style.width = `${columns * this.scale}px`;
    const on = (name, act) => this.overlay.addEventListener(name, act);
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.moved(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.up(event));
    on("keydown", (event) => this.key(event));
    on("focus", () => this.mark()); // the brush is seen where keys move it
    on("blur", () => this.mark());
    this.element = h("div", { class: "lv-draw" }, this.tools(), this.box, this.actions());
    this.paint();
  }

  tools() {
    this.toolButtons = TOOLS.map(([name, text]) => button(text, () => this.use(name), {
      "aria-pressed": String(name === this.tool), "data-tool": name,
    }));
    const most = Math.max(3, Math.min(this.shape[1], this.shape[2]) / 6);
    const size = slider("Brush", { low: 0.5, high: most, step: 0.25, value: this.radius,
      unit: "radius in pixels", oninput: (value) => { this.radius = value; } });
    const controls = [size.element];
    const { low, high } = this.drawing;
    if (this.shape[0] === 3) {
      const picker = h("input", { type: "color", value: "#ffffff", oninput: () => {
        this.colour = [1, 3, 5].map((at) => low + (high - low) * parseInt(picker.value.slice(at, at + 2), 16) / 255);
      } });
      controls.push(field("Colour", picker));
    } else {
      controls.push(slider(this.ink ? "Ink" : "Brightness", { low, high, step: (high - low) / 100, value: high,
        oninput: (value) => { this.level = value; } }).element);
    }
    return h("div", { class: "lv-row" },
      h("div", { class: "lv-choice", role: "group", "aria-label": "Tool" }, ...this.toolButtons), ...controls);
  }

  actions() {
    this.undoButton = button("Undo", () => this.undo());
    this.redoButton = button("Redo", () => this.redo());
    this.cutButton = button("Cut", () => this.copy(true));
    this.copyButton = button("Copy", () => this.copy(false));
    return h("div", { class: "lv-row" }, this.undoButton, this.redoButton, this.copyButton, this.cutButton,
      button("Clear", () => this.load(new Float32Array(this.drawing.values.length).fill(this.drawing.low))));
  }

  use(tool) {
    this.tool = tool;
    for (const each of this.toolButtons) each.setAttribute("aria-pressed", String(each.dataset.tool === tool));
    this.mark();
  }

  /** Replace the drawing, which can be undone. */
  load(values) {
    this.drawing.set(values);
    this.changed(performance.now());
  }

  place(event) {
    const box = this.overlay.getBoundingClientRect();
    return {
      x: clamp((event.clientX - box.left) / box.width, 0, 1) * this.shape[2],
      y: clamp((event.clientY - box.top) / box.height, 0, 1) * this.shape[1],
    };
  }

  inkOf(tool) {
    const value = tool === "erase" ? this.drawing.low : this.level;
    if (tool !== "erase" && this.shape[0] === 3) return this.colour;
    return Array(this.shape[0]).fill(value);
  }

  down(event) {
    if (event.button > 0) return;
    this.overlay.setPointerCapture?.(event.pointerId);
    const { x, y } = this.place(event);
    this.cursor = { x, y };
    if (this.tool === "select") {
      this.selecting = { x, y };
      this.selection = null;
    } else if (this.tool === "paste") {
      this.paste(x, y, event.timeStamp);
    } else {
      this.drawing.begin(x, y, this.radius, this.inkOf(this.tool));
      this.changed(event.timeStamp);
    }
    this.mark();
  }

  moved(event) {
    const { x, y } = this.place(event);
    if (this.drawing.stroke) {
      for (const each of event.getCoalescedEvents?.() ?? []) {
        const place = this.place(each);
        this.drawing.to(place.x, place.y);
      }
      this.drawing.to(x, y);
      this.changed(event.timeStamp);
    } else if (this.selecting) {
      this.select(this.selecting, { x, y });
    }
  }

  up() {
    this.drawing.end();
    this.selecting = null;
  }

  select(from, to) {
    const span = (a, b, size) => [clamp(Math.floor(Math.min(a, b)), 0, size - 1), clamp(Math.ceil(Math.max(a, b)), 1, size)];
    const [left, right] = span(from.x, to.x, this.shape[2]), [top, bottom] = span(from.y, to.y, this.shape[1]);
    this.selection = { left, top, right, bottom };
    this.mark();
  }

  /** Copy what is selected, or with nothing selected all; then the tool is `paste`. */
  copy(cut) {
    const whole = { left: 0, top: 0, right: this.shape[2], bottom: this.shape[1] };
    this.drawing.copy(this.selection ?? whole, cut);
    this.selection = null;
    this.use("paste");
    this.say("Copied. Click, or press Enter, where it is to be pasted.");
    if (cut) this.changed(performance.now());
  }

  paste(x, y, time) {
    if (this.drawing.paste(x, y)) this.changed(time);
    else this.say("Nothing is copied yet: select a region, then Copy or Cut.");
  }

  undo() {
    if (this.drawing.undo()) this.changed(performance.now());
  }

  redo() {
    if (this.drawing.redo()) this.changed(performance.now());
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const command = event.ctrlKey || event.metaKey;
    const shortcuts = { z: () => (event.shiftKey ? this.redo() : this.undo()), y: () => this.redo(),
      c: () => this.copy(false), x: () => this.copy(true),
      v: () => this.paste(this.cursor.x, this.cursor.y, event.timeStamp) };
    if (command && event.key.toLowerCase() in shortcuts) shortcuts[event.key.toLowerCase()]();
    else if (event.key in moves) {
      const [x, y] = moves[event.key];
      const from = { ...this.cursor };
      this.cursor = { x: clamp(from.x + x, 0.5, this.shape[2] - 0.5), y: clamp(from.y + y, 0.5, this.shape[1] - 0.5) };
      if (event.shiftKey && this.tool === "select") this.select(this.anchor ?? (this.anchor = from), this.cursor);
      else this.anchor = null;
    } else if (event.key === " " || event.key === "Enter") {
      if (this.tool === "paste") this.paste(this.cursor.x, this.cursor.y, event.timeStamp);
      else if (this.tool !== "select") {
        this.drawing.begin(this.cursor.x, this.cursor.y, this.radius, this.inkOf(this.tool));
        this.drawing.end();
        this.changed(event.timeStamp);
      }
    } else return;
    event.preventDefault();
    this.mark();
  }

  changed(time) {
    this.shown = null;
    this.marks.heat = null;
    this.paint();
    this.onchange(time);
  }

  /** Show what sliders make of the drawing, and boxes; null: neither. */
  show(values, boxes) {
    const before = this.shown ?? this.marks.boxes;
    this.shown = values;
    this.marks.boxes = boxes;
    if (values ?? boxes ?? before) this.paint(); // a stroke is painted when it is drawn
  }

  /** Paint the drawing, or what sliders make of it. */
  paint() {
    const bytes = this.drawing.bytes(this.shown ?? this.drawing.values);
    paintBytes(this.picture, bytes, this.shape, this.ink);
    this.undoButton.disabled = !this.drawing.past.length;
    this.redoButton.disabled = !this.drawing.future.length;
    this.mark();
  }

  /** Mark on the drawing: an attribution, a receptive field, boxes, the selection, the cursor. */
  mark() {
    const context = this.overlay.getContext("2d"), s = this.scale;
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const { field, heat, boxes } = this.marks;
    if (heat) this.heat(context, heat);
    context.lineWidth = 2;
    context.strokeStyle = MARKS;
    if (field) {
      this.outline(context, field);
    }
    for (const [left, top, right, bottom, name] of boxes ?? []) {
      context.strokeStyle = "#d0342c";
      context.strokeRect(left * s, top * s, (right - left) * s, (bottom - top) * s);
      context.fillStyle = "#d0342c";
      context.font = "600 14px system-ui, sans-serif";
      context.fillText(name, left * s + 2, Math.max(12, top * s - 3));
    }
    if (this.selection) {
      const { left, top, right, bottom } = this.selection;
      context.setLineDash([5, 4]);
      context.strokeStyle = "#d0342c";
      context.strokeRect(left * s, top * s, (right - left) * s, (bottom - top) * s);
      context.setLineDash([]);
    }
    if (document.activeElement === this.overlay) {
      context.strokeStyle = "#d0342c";
      context.beginPath();
      context.arc(this.cursor.x * s, this.cursor.y * s, Math.max(3, this.radius * s), 0, 7);
      context.stroke();
    }
  }

  /** Draw the border of the pixels (rows × columns) that a unit sees. */
  outline(context, field) {
    const [, rows, columns] = this.shape, s = this.scale;
    const sees = (row, column) => row >= 0 && row < rows && column >= 0 && column < columns && field[row * columns + column];
    context.fillStyle = "rgb(10 132 255 / 10%)";
    context.lineWidth = 3;
    context.beginPath();
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        if (!sees(row, column)) continue;
        context.fillRect(column * s, row * s, s, s);
        const sides = [[-1, 0, 0, 0, 1, 0], [1, 0, 0, 1, 1, 1], [0, -1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 1]];
        for (const [down, right, x, y, toX, toY] of sides) {
          if (sees(row + down, column + right)) continue;
          context.moveTo((column + x) * s, (row + y) * s);
          context.lineTo((column + toX) * s, (row + toY) * s);
        }
      }
    }
    context.stroke();
  }

  heat(context, values) {
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
    values.forEach((value, place) => {
      const colour = value < 0 ? BLUE : ORANGE;
      context.fillStyle = `rgb(${colour.join(" ")} / ${Math.round(85 * Math.abs(value) / largest)}%)`;
      context.fillRect((place % this.shape[2]) * this.scale,
        Math.floor(place / this.shape[2]) * this.scale, this.scale, this.scale);
    });
  }
}
