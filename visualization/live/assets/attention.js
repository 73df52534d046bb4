// Attention: a map from the characters written to those read, whose places can be hidden.

class AttentionMap {
  /** `onchange()` is called when another head or other hidden places are chosen; `isReadElsewhere`: also by cells. */
  constructor(heads, onchange, isReadElsewhere) {
    Object.assign(this, { heads, onchange, hidden: new Set(), head: heads[0] });
    this.table = h("table", { class: "lv-map" });
    this.from = choice("Hidden from", [["all", "all heads of all layers"], ["head", "this head alone"]],
      () => { if (this.hidden.size) onchange(); });
    const head = choice("Head", heads, (name) => { this.head = name; onchange(); });
    this.reset = button("Hide nothing", () => { this.hidden.clear(); onchange(); });
    this.controls = h("div", { class: "lv-row" }, ...(heads.length > 1 ? [head.element, this.from.element] : []), this.reset);
    this.readout = h("p", { class: "lv-note lv-readout" }, "");
    this.element = h("section", { "aria-label": "Attention" }, h("h2", {}, "Attention"),
      h("p", { class: "lv-note" }, "Rows: characters written; columns: characters read. Press a character read to hide it " +
        (isReadElsewhere ? "from the attention; the cells still read it." : "from the attention.")),
      this.controls,
      h("div", { class: "lv-scroller", tabindex: 0, role: "group", "aria-label": "Attention map" }, this.table), this.readout);
  }

  /** What is asked of Python. */
  message() {
    const onlyHead = this.heads.length > 1 && this.from.select.value === "head";
    return { head: this.head, hidden: [...this.hidden].sort((a, b) => a - b), hidden_from: onlyHead ? this.head : null };
  }

  /** Forget hidden places that a question does not have. */
  keep(numRead) {
    this.hidden = new Set([...this.hidden].filter((place) => place < numRead));
  }

  toggle(place) {
    if (!this.hidden.delete(place)) this.hidden.add(place);
    this.onchange();
  }

  paint({ written, read }, now, before, change) {
    this.reset.disabled = !this.hidden.size;
    this.shape(written.length, read);
    const isRead = (place) => !this.hidden.has(place);
    this.buttons.forEach((each, place) => {
      each.textContent = visible(read[place]);
      each.setAttribute("aria-pressed", String(!isRead(place)));
      each.setAttribute("aria-label", `hide place ${place}, ‘${visible(read[place])}’`);
    });
    this.rows.forEach(({ label, cells }, row) => {
      label.textContent = visible(written[row]);
      cells.forEach((cell, place) => {
        const weight = now[row * read.length + place], untouched = before[row * read.length + place];
        cell.style.backgroundColor = change ? diverging(weight - untouched) : diverging(weight);
        cell.classList.toggle("lv-out", !isRead(place));
        cell.dataset.value = weight;
        cell.title = `‘${visible(written[row])}’ attends to ‘${visible(read[place])}’ (place ${place}): ` +
          `${percent(weight)}${percent(weight) === percent(untouched) ? "" : `, untouched ${percent(untouched)}`}`;
      });
    });
  }

  shape(numWritten, read) {
    if (this.rows?.length === numWritten && this.buttons.length === read.length) return;
    this.buttons = read.map((_, place) => button("", () => this.toggle(place), { class: "lv-place" }));
    this.rows = Array.from({ length: numWritten }, () => {
      const label = h("th", { scope: "row" }, "");
      const cells = read.map((_, place) => {
        const cell = h("td", { onclick: () => this.toggle(place) });
        cell.addEventListener("pointerenter", () => { this.readout.textContent = cell.title; });
        return cell;
      });
      return { label, cells };
    });
    this.table.replaceChildren(
      h("thead", {}, h("tr", {}, h("td", {}), ...this.buttons.map((each) => h("th", { scope: "col" }, each)))),
      h("tbody", {}, ...this.rows.map(({ label, cells }) => h("tr", {}, label, ...cells))));
  }
}
