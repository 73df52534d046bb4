// Panel for questions: type one, see the cells over its characters, change a unit or hide a place.

class QuestionPanel {
  constructor(client, description, say) {
    Object.assign(this, { client, say, about: description, question: null, change: false, cell: null });
    this.stream = new Stream(() => this.frame(), (error) => this.say(error.message, true));
    this.edits = new Edits(() => this.ask(), { label: "Changes of units", key: unitKey, words: (edit) => this.inWords(edit) });
    this.answer = h("div", {});
    this.target = h("p", { class: "lv-dim" });
    this.spoken = h("p", { class: "lv-hidden", role: "status", "aria-live": "polite" });
    this.grid = description.parts.length ? new CellGrid((unit, step) => this.pick(unit, step), () => this.ask()) : null;
    this.attention = description.heads.length ? new AttentionMap(description.heads, () => this.ask(), description.parts.length > 0) : null;
    this.element = h("div", { class: "lv-panel lv-asking" }, this.left(), this.right());
    this.ask();
  }

  left() {
    const { samples, longest } = this.about;
    this.input = h("input", { type: "text", maxlength: longest, value: samples[0], autocomplete: "off", spellcheck: "false",
      class: "lv-question", oninput: () => this.ask() });
    this.problem = h("p", { class: "lv-status lv-wrong", role: "alert" });
    const buttons = samples.map((text) => button(text.length > 24 ? `${text.slice(0, 23)}…` : text,
      () => { this.input.value = text; this.ask(); }, { title: text }));
    this.code = h("code", { class: "lv-code", tabindex: 0, role: "region", "aria-label": "The same in Python" });
    this.asCode = h("details", {}, h("summary", {}, "The same in Python"), this.code);
    const changes = this.grid ? [h("section", { "aria-label": "Changes" }, h("h2", {}, "Changes of units"),
      h("p", { class: "lv-note" }, "Choose a cell to set its unit's value at that step."), this.edits.element, this.asCode)] : [];
    return h("div", { class: "lv-left" },
      h("section", { class: "lv-asked", "aria-label": "Question" }, field("Question", this.input), this.problem,
        h("div", { class: "lv-row", role: "group", "aria-label": "Samples" }, ...buttons)),
      h("section", { class: "lv-answered", "aria-label": "Answer" }, h("h2", {}, "Answer"), this.answer, this.target, this.spoken), ...changes);
  }

  right() {
    const show = choice("Show", [["value", "values"], ["change", "change against the untouched run"]],
      (name) => { this.change = name === "change"; this.ask(); });
    if (!this.grid) this.attention.controls.append(show.element);
    return h("div", { class: "lv-right" }, this.grid ? this.cells(show) : null, this.attention?.element ?? null);
  }

  cells(show) {
    const { parts } = this.about;
    this.parts = choice("Part", parts.map(({ name }) => name), () => this.showPart());
    this.layers = choice("Layer", [], () => this.unpick());
    this.quantities = choice("Quantity", [], () => this.ask());
    this.order = choice("Units", [["number", "by number"], ["strongest", "strongest first"], ["change", "most changed first"]],
      () => { this.grid.scroller.scrollTop = 0; this.ask(); });
    this.unit = h("div", { class: "lv-unit" });
    this.showPart(false);
    return h("section", { class: "lv-cells-part", "aria-label": "Cells" }, h("h2", {}, "Cells"),
      h("div", { class: "lv-row" }, this.parts.element, this.layers.element, this.quantities.element, this.order.element, show.element),
      this.grid.element, this.unit);
  }

  get part() {
    return this.about.parts.find(({ name }) => name === this.parts.select.value);
  }

  showPart(ask = true) {
    const { layers, quantities } = this.part, before = this.quantities.select.value;
    this.layers.fill(layers.map((name, row) => [row, name]));
    this.layers.element.hidden = layers.length < 2;
    this.quantities.fill(quantities.map((name) => [name, QUANTITIES[name] ?? name]));
    if (quantities.includes(before)) this.quantities.select.value = before;
    this.grid.scroller.scrollTop = 0;
    if (ask) this.unpick();
  }

  unpick() {
    this.forget();
    this.ask();
  }

  forget() {
    this.cell = this.grid.chosen = null;
    this.unit.replaceChildren();
  }

  pick(unit, step) {
    const { part, layer } = this.grid.cells;
    this.cell = { unit, step, part, layer };
    this.unit.replaceChildren();
    this.ask();
  }

  /** Put a state of the chosen cell; what else was changed there stays. */
  set(state, value) {
    const { part, layer, unit, step } = this.cell;
    const edit = { part, layer, unit, time: step };
    const former = this.edits.list.find((other) => unitKey(other) === unitKey(edit));
    this.edits.put({ ...former, ...edit, [state]: value });
  }

  silence() {
    const { part, layer, unit } = this.cell;
    const zeros = Object.fromEntries(this.part.states.map((state) => [state, 0]));
    const isOfUnit = (edit) => edit.part === part && edit.layer === layer && edit.unit === unit;
    this.edits.list = this.edits.list.filter((edit) => !isOfUnit(edit));
    this.edits.put({ part, layer, unit, time: null, ...zeros });
  }

  ask() {
    this.stream.next();
  }

  call(name, values) {
    return this.client.ask("question", name, values);
  }

  /** Take what is typed as the question, if it is one, with the changes that it has room for. */
  async read() {
    const text = this.input.value;
    if (this.question?.text === text) {
      this.problem.textContent = "";
      return;
    }
    try {
      const { steps, num_read: numRead } = await this.call("read", { question: text });
      this.question = { text, steps, numRead };
      const kept = this.edits.list.filter(({ part, time }) => time === null || time < steps[part]);
      if (kept.length < this.edits.list.length) this.say("Changes at steps that this question has not were removed.");
      this.edits.list = kept;
      this.edits.show();
      this.problem.textContent = "";
    } catch (error) {
      this.problem.textContent = error.message;
    }
  }

  /** Tell whether a cell is among those that are asked for. */
  has({ part, layer, step }) {
    return part === this.part.name && layer === Number(this.layers.select.value) && step < this.question.steps[part];
  }

  /** What is asked of Python, without what was chosen in cells or places that the question has not. */
  message() {
    this.attention?.keep(this.question.numRead);
    if (this.cell && !this.has(this.cell)) this.forget();
    const message = { question: this.question.text, edits: this.edits.list };
    if (this.grid) {
      Object.assign(message, this.grid.window(), { part: this.part.name, layer: Number(this.layers.select.value),
        quantity: this.quantities.select.value, order: this.order.select.value });
      if (this.cell) Object.assign(message, { unit: this.cell.unit, step: this.cell.step });
    }
    return Object.assign(message, this.attention?.message());
  }

  async frame() {
    await this.read();
    if (!this.question) return;
    const reply = await this.call("frame", this.message());
    const numbers = reply.buffers.map(floats);
    if (reply.cells) {
      const { part, layer, quantity } = reply.cells;
      const shown = part === this.part.name && layer === Number(this.layers.select.value) && quantity === this.quantities.select.value;
      if (shown) this.grid.paint(reply.cells, ...numbers.splice(0, 2), this.change, this.edited());
      else numbers.splice(0, 2);
    }
    if (reply.unit && this.cell?.unit === reply.unit.unit && this.cell.step === reply.unit.step) this.showUnit(reply.unit);
    if (reply.attention) this.attention.paint(reply.attention, ...numbers, this.change);
    this.tell(reply);
    this.element.dispatchEvent(new CustomEvent("lv-painted", { bubbles: true, detail: { reply } }));
  }

  /** Return a function that tells whether a cell that is shown was changed. */
  edited() {
    const layer = Number(this.layers.select.value), part = this.part.name;
    const own = this.edits.list.filter((edit) => edit.part === part && edit.layer === layer);
    return (unit, step) => own.some((edit) => edit.unit === unit && (edit.time === null || edit.time === step));
  }

  /** Show answer, right answer, and the code that does the same. */
  tell({ answer, untouched, target }) {
    for (const each of [answer, untouched]) if (each?.names) each.names = each.names.map(visible);
    this.answer.replaceChildren(answer.kind === "written" ? writtenElement(answer, untouched) : answerElement(answer, untouched));
    this.target.textContent = target ? `right answer: ${target}` : "";
    const words = answer.kind === "written" ? `answers ${answer.text}` : answerInWords(answer);
    if (this.spoken.textContent !== words) this.spoken.textContent = words;
    this.asCode.hidden = !this.edits.list.length;
    const hides = this.attention?.hidden?.size ? "# without the hidden places, which the page hides too\n" : "";
    this.code.textContent = hides + interventionCode(this.question.text, this.edits.list, this.about.parts);
  }

  /** Show the sliders of the chosen cell, or move them to where its states are now. */
  showUnit({ unit, step, states }) {
    if (!this.unit.children.length) {
      const name = h("h3", {}, `Unit ${unit} after step ${step}`);
      this.sliders = Object.fromEntries(Object.entries(states).map(([state, { low, high, now }]) => {
        const room = high - low < 1e-9 ? 1 : 0, [from, to] = [low - room, high + room];
        return [state, slider(`${state} of unit ${unit}`, { low: from, high: to, step: "any", value: now,
          unit: "range: that of the sample questions", oninput: (value) => this.set(state, value) })];
      }));
      this.before = h("p", { class: "lv-dim" });
      this.unit.replaceChildren(name, ...Object.values(this.sliders).map(({ element }) => element), this.before,
        button(`Silence unit ${unit} at all steps`, () => this.silence()));
    }
    for (const [state, { now }] of Object.entries(states)) {
      const { input, set } = this.sliders[state];
      if (input !== document.activeElement) set(now);
    }
    this.before.textContent = `untouched: ${Object.entries(states).map(
      ([state, { untouched }]) => `${state} = ${shortNumber(untouched)}`).join(", ")}`;
  }

  inWords({ part, layer, unit, time, h: hidden, c }) {
    const { layers } = this.about.parts.find(({ name }) => name === part);
    const which = `${part}${layers.length > 1 ? `, ${layers[layer]}` : ""}: unit ${unit}`;
    if (time === null) return `${which} silenced at all steps`;
    const values = [["c", c], ["h", hidden]].filter(([, value]) => value !== undefined);
    return `${which} after step ${time}: ${values.map(([name, value]) => `${name} = ${shortNumber(value)}`).join(", ")}`;
  }

  async resume() {
    this.ask();
  }
}

const QUANTITIES = {
  h: "h, hidden state", c: "c, cell state", i: "i, input gate", f: "f, forget gate", g: "g, candidate",
  o: "o, output gate", r: "r, reset gate", z: "z, update gate", n: "n, candidate",
};

const unitKey = ({ part, layer, unit, time }) => [part, layer, unit, time].join();

/** An answer of several characters, with the probability of each, beside that of the untouched run. */
function writtenElement({ text, characters }, untouched) {
  const row = (name, own, other) => h("tr", {}, h("th", { scope: "row" }, name),
    ...own.map((each, place) => {
      const likeliest = each.likeliest.map(([character, share]) => `‘${visible(character)}’ ${percent(share)}`).join(", ");
      const differs = other && other[place].text !== each.text;
      return h("td", { class: differs ? "lv-differs" : null, title: likeliest },
        h("span", { class: "lv-character" }, visible(each.text)), h("span", { class: "lv-share" }, percent(each.probability)));
    }));
  const rows = [row("now", characters, untouched?.characters)];
  if (untouched) rows.push(row("untouched", untouched.characters));
  const said = h("p", { class: "lv-read" }, text || "(nothing)");
  if (untouched) said.append(h("span", { class: "lv-dim lv-former" }, `  untouched: ${untouched.text || "(nothing)"}`));
  return h("div", {}, said, h("div", { class: "lv-scroller", tabindex: 0, role: "group", "aria-label": "Probabilities" },
    h("table", { class: "lv-written", "aria-label": "Characters written, with their probabilities" }, h("tbody", {}, ...rows))));
}

/** Return the call of Python that answers with the same changes of units. */
function interventionCode(question, edits, parts) {
  const own = parts.map(({ name, directions }) => {
    const items = edits.filter(({ part }) => part === name).map(({ layer, unit, time, h: hidden, c }) => {
      const row = { layer: Math.floor(layer / directions), direction: layer % directions };
      const fields = [`units=[${unit}]`, ...(time === null ? [] : [`time=${time}`]),
        ...(hidden === undefined ? [] : [`h=${hidden}`]), ...(c === undefined ? [] : [`c=${c}`]),
        ...Object.entries(row).filter(([, number]) => number).map(([key, number]) => `${key}=${number}`)];
      return `Edit(${fields.join(", ")})`;
    });
    return items.length ? `${JSON.stringify(name)}: [${items.join(", ")}]` : null;
  }).filter((item) => item);
  return `agent.intervene(${JSON.stringify(question)}, {${own.join(", ")}})`;
}

PANELS.question = QuestionPanel;
