// Edits of a layer: a list of what is changed, and the controls that change it.

class Edits {
  /** `key` tells which edits replace each other, `words` says one. */
  constructor(onchange, { label = "Changes of layers", key = layerKey, words = editInWords } = {}) {
    Object.assign(this, { onchange, key, words });
    this.list = [];
    this.items = h("ul", { class: "lv-edits", "aria-label": label });
    this.element = h("div", {}, this.items);
    this.show();
  }

  /** Put an edit in the place of one of the same kind at the same place, or add it. */
  put(edit) {
    const at = this.list.findIndex((other) => this.key(other) === this.key(edit));
    if (at < 0) this.list.push(edit);
    else this.list[at] = edit;
    this.show();
    this.onchange();
  }

  remove(edit) {
    this.list = this.list.filter((other) => other !== edit);
    this.show();
    this.onchange();
  }

  clear() {
    this.list = [];
    this.show();
    this.onchange();
  }

  /** The cells painted into a map so far. */
  painted(layer, channel) {
    const edit = this.list.find((e) => e.kind === "paint" && e.layer === layer && e.channel === channel);
    return edit ?? { layer, kind: "paint", channel, cells: [] };
  }

  show() {
    const rows = this.list.map((edit) => h("li", {}, this.words(edit),
      button("×", () => this.remove(edit), { class: "lv-small", "aria-label": `undo: ${this.words(edit)}` })));
    if (this.list.length > 1) rows.push(h("li", {}, button("undo all changes", () => this.clear())));
    this.items.replaceChildren(...rows);
    this.items.hidden = !rows.length;
  }
}

const layerKey = ({ layer, kind, channel, row, column }) => [layer, kind, channel, row, column].join();

function editInWords({ layer, kind, channel, row, column, value, cells }) {
  const what = channel === null || channel === undefined ? "all maps"
    : row === undefined ? `map ${channel}` : `unit ${channel}, ${row}, ${column}`;
  if (kind === "randomise") return `${layer}: random weights`;
  if (kind === "paint") return `${layer}: ${cells.length} units of ${what} painted`;
  if (kind === "hold") return `${layer}: ${what} held at ${shortNumber(value)}`;
  return value === 0 ? `${layer}: ${what} silenced` : `${layer}: ${what} × ${shortNumber(value)}`;
}
