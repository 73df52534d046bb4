// Cells: the units of a recurrent layer over the steps of a text, of which only rows in sight are asked for.

const ROW = matchMedia("(pointer: coarse)").matches ? 30 : 18; // pixels
const WIDE = 640; // pixels of all columns, as far as they are not too narrow or too wide
const ROWS_AROUND = 6; // rows beyond those in sight

/** Return a character as it is shown: newlines and spaces by symbols. */
const visible = (character) => ({ "\n": "⏎", " ": "␣", "\t": "⇥", "": "·" })[character] ?? character;

/** Return the colour of a share from -1 to 1: blue, the ground, orange. */
function diverging(share) {
  const [red, green, blue] = share < 0 ? BLUE : ORANGE;
  return `rgba(${red}, ${green}, ${blue}, ${Math.min(1, Math.abs(share)).toFixed(3)})`;
}

class CellGrid {
  /** `onpick(unit, step)` is called when a cell is chosen, `onsight()` when other rows come into sight. */
  constructor(onpick, onsight) {
    Object.assign(this, { onpick, onsight, cells: null, rows: [], cursor: { row: 0, step: 0 }, chosen: null });
    this.head = h("tr", {});
    this.body = h("tbody", {});
    this.table = h("table", { class: "lv-cells", role: "grid", tabindex: 0, "aria-readonly": "true",
      "aria-label": "Cells: a row for each unit, a column for each step. Arrow keys move, Enter chooses." },
      h("thead", {}, this.head), this.body);
    this.table.style.setProperty("--lv-row", `${ROW}px`);
    this.spacer = h("div", { class: "lv-spacer" }, this.table);
    this.scroller = h("div", { class: "lv-scroller", onscroll: () => this.scrolled() }, this.spacer);
    this.readout = h("p", { class: "lv-note lv-readout" }, "");
    this.element = h("div", {}, this.scroller, this.readout);
    const cellOf = ({ target }) => target.closest?.("td");
    this.table.addEventListener("keydown", (event) => this.key(event));
    this.table.addEventListener("focus", () => this.tell(this.cursor.row, this.cursor.step));
    this.body.addEventListener("pointerover", (event) => {
      const cell = cellOf(event);
      if (cell) this.tell(Number(cell.dataset.row), Number(cell.dataset.step));
    });
    this.body.addEventListener("click", (event) => {
      const cell = cellOf(event);
      if (cell) this.pick(Number(cell.dataset.row), Number(cell.dataset.step));
    });
  }

  /** The rows to ask for: those in sight, and some around them. */
  window() {
    const inSight = Math.ceil((this.scroller.clientHeight || 400) / ROW);
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - ROWS_AROUND);
    return { first, num: Math.min(inSight + 2 * ROWS_AROUND, 256) };
  }

  scrolled() {
    if (!this.cells) return;
    const { first, num } = this.window(), last = Math.min(first + num, this.cells.order.length);
    const shown = this.cells.first + this.rows.length;
    if (first < this.cells.first || last > shown) this.onsight();
  }

  /** Paint the cells of a reply; `now` and `before` are of the rows from `cells.first` on. */
  paint(cells, now, before, change, isEdited) {
    Object.assign(this, { cells, now, before, change, isEdited });
    const num = now.length / cells.steps.length;
    this.spacer.style.height = `${(cells.order.length + 1.5) * ROW}px`;
    this.table.style.top = `${cells.first * ROW}px`;
    this.table.setAttribute("aria-rowcount", cells.order.length + 1);
    this.shape(num, cells.steps.length);
    cells.steps.forEach((character, step) => {
      const cell = this.head.children[step + 1];
      cell.textContent = visible(character);
      cell.title = `step ${step}`;
    });
    this.rows.forEach(({ row, label, tds }, index) => {
      const at = cells.first + index, unit = cells.order[at];
      row.setAttribute("aria-rowindex", at + 2);
      label.textContent = unit;
      tds.forEach((cell, step) => this.dress(cell, index * tds.length + step, at, unit, step));
    });
    this.leave();
    this.point();
    if (this.told) this.tell(cells.order.indexOf(this.told.unit), this.told.step);
  }

  /** Leave cells that are no more: the keyboard goes to the nearest, and nothing is said of the others. */
  leave() {
    const { order, steps } = this.cells, { row, step } = this.cursor;
    this.cursor = { row: clamp(row, 0, order.length - 1), step: clamp(step, 0, steps.length - 1) };
    if (!this.told || (order.includes(this.told.unit) && this.told.step < steps.length)) return;
    this.told = null;
    this.readout.textContent = "";
  }

  /** Have as many rows and columns as are shown. */
  shape(num, numSteps) {
    if (this.head.children.length !== numSteps + 1) {
      this.rows = [];
      this.table.style.setProperty("--lv-column", `${clamp(Math.floor(WIDE / numSteps), 20, 44)}px`);
      this.body.replaceChildren();
      this.head.replaceChildren(h("th", { scope: "col" }, "unit"),
        ...Array.from({ length: numSteps }, () => h("th", { scope: "col" }, "")));
    }
    while (this.rows.length > num) this.rows.pop().row.remove();
    while (this.rows.length < num) {
      const label = h("th", { scope: "row" }, ""), tds = Array.from({ length: numSteps }, () => h("td", {}));
      const row = h("tr", {}, label, ...tds);
      this.rows.push({ row, label, tds });
      this.body.append(row);
    }
  }

  /** Give a cell its colour and marks; what stays is left alone, since there are thousands. */
  dress(cell, place, at, unit, step) {
    cell.value = this.now[place];
    const colour = diverging((this.change ? cell.value - this.before[place] : cell.value) / this.cells.limit);
    if (cell.colour !== colour) cell.style.backgroundColor = cell.colour = colour;
    if (cell.dataset.unit !== String(unit)) Object.assign(cell.dataset, { unit, step });
    cell.dataset.row = at;
    const isChosen = this.chosen?.unit === unit && this.chosen.step === step;
    const marks = `${isChosen ? "lv-chosen " : ""}${this.isEdited(unit, step) ? "lv-edited" : ""}`;
    if (cell.className !== marks) cell.className = marks;
    if (isChosen) cell.setAttribute("aria-selected", "true");
    else if (cell.ariaSelected) cell.removeAttribute("aria-selected");
  }

  cellAt(row, step) {
    return this.rows[row - this.cells.first]?.tds[step] ?? null;
  }

  /** Say the value of a cell. */
  tell(row, step) {
    if (!this.cells || !this.cellAt(row, step)) return;
    this.told = { unit: this.cells.order[row], step };
    this.readout.textContent = this.inWords(row, step);
  }

  inWords(row, step) {
    const place = (row - this.cells.first) * this.cells.steps.length + step;
    const [now, before] = [this.now, this.before].map((values) => shortNumber(values[place]));
    return `unit ${this.cells.order[row]} after step ${step}, ‘${visible(this.cells.steps[step])}’: ` +
      `${this.cells.quantity} = ${now}${now === before ? "" : `, untouched ${before}`}`;
  }

  /** Mark the cell on which the keyboard is. */
  point() {
    const { row, step } = this.cursor;
    for (const cell of this.body.querySelectorAll(".lv-cursor")) cell.classList.remove("lv-cursor");
    const cell = this.cellAt(row, step);
    this.table.removeAttribute("aria-activedescendant");
    if (!cell) return;
    cell.classList.add("lv-cursor");
    cell.setAttribute("aria-label", this.inWords(row, step));
    cell.id = cell.id || `lv-${(labelled += 1)}`;
    this.table.setAttribute("aria-activedescendant", cell.id);
  }

  pick(row, step) {
    this.cursor = { row, step };
    this.chosen = { unit: this.cells.order[row], step };
    this.tell(row, step);
    this.onpick(this.chosen.unit, step);
  }

  key(event) {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (!this.cells) return;
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      this.cursor = {
        row: clamp(this.cursor.row + down, 0, this.cells.order.length - 1),
        step: clamp(this.cursor.step + right, 0, this.cells.steps.length - 1),
      };
      const top = this.cursor.row * ROW, height = this.scroller.clientHeight - 2 * ROW;
      this.scroller.scrollTop = clamp(this.scroller.scrollTop, top - height, top);
      this.cellAt(this.cursor.row, this.cursor.step)?.scrollIntoView({ block: "nearest", inline: "nearest" });
      this.point();
      this.tell(this.cursor.row, this.cursor.step);
    } else if (event.key === "Enter" || event.key === " ") {
      this.pick(this.cursor.row, this.cursor.step);
    } else {
      return;
    }
    event.preventDefault();
  }
}
