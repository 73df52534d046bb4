// Panel for images: draw, and see answer and feature maps at once.

class ImagePanel {
  constructor(client, description, say) {
    Object.assign(this, { client, say, about: description, knobs: {}, step: null, compared: "activation" });
    this.canvas = new DrawingCanvas(description, (time) => this.ask(time), say);
    this.edits = new Edits(() => this.ask());
    this.inspector = new Inspector(this.edits, (row, column) => this.askUnit(row, column));
    this.tiles = new Tiles((channel) => this.pick(channel), () => this.ask());
    this.stream = new Stream(() => this.frame(), (error) => this.say(error.message, true));
    this.units = new Stream(() => this.tellUnit(), (error) => this.say(error.message, true));
    this.layer = description.layers[Math.floor((description.layers.length - 1) / 2)]?.name ?? null;
    this.since = null;
    this.answer = h("div", {});
    this.spoken = h("p", { class: "lv-hidden", role: "status", "aria-live": "polite" });
    this.element = h("div", { class: `lv-panel${this.canvas.isWide ? " lv-wide" : ""}` }, this.left(), this.right());
    this.showLayer();
    this.take(0);
  }

  left() {
    const sliders = this.about.knobs.map(({ name, unit, low, high, neutral }) => {
      const control = slider(name, { low, high, step: (high - low) / 200, value: neutral, unit,
        oninput: (value) => { this.knobs[name] = value; this.ask(); } });
      this.resets = [...(this.resets ?? []), () => control.set(neutral)];
      return control.element;
    });
    const reset = button("Reset", () => { this.knobs = {}; this.resets.forEach((each) => each()); this.ask(); });
    return h("div", { class: "lv-left" },
      h("section", { "aria-label": "Drawing" }, this.canvas.element, this.fileRow()),
      h("section", { "aria-label": "Changes of the whole image" }, h("h2", {}, "Change the whole image"), ...sliders, reset),
      h("section", { "aria-label": "Samples" }, h("h2", {}, "Start from"), this.samples()),
      h("section", { "aria-label": "Attribution" }, h("h2", {}, "Which pixels count?"), this.attribution()));
  }

  right() {
    this.layers = choice("Layer", this.about.layers.map(({ name, shape }) => [name, `${name} (${shape[0]} maps)`]),
      (name) => { this.layer = name; this.showLayer(); });
    if (this.layer) this.layers.select.value = this.layer;
    const compared = choice("Show", [["activation", "activation"], ["change", "change against the original"],
      ["effect", "effect of the layer changes"]], (name) => { this.compared = name; this.ask(); });
    const order = h("input", { type: "checkbox", onchange: () => { this.byStrength = order.checked; this.ask(); } });
    const random = button("Randomise this layer", () => this.edits.put(
      { layer: this.layer, kind: "randomise", channel: null, value: 0 }));
    const head = h("div", { class: "lv-row" }, this.layers.element, compared.element,
      h("div", { class: "lv-field" }, h("label", {}, order, " strongest first")), random);
    this.steps = this.about.steps.length ? this.training() : null;
    const inner = this.about.layers.length ? [head, this.edits.element, this.tiles.element]
      : [h("p", { class: "lv-note" }, "This network has no layer with feature maps.")];
    return h("div", { class: "lv-right" }, this.steps,
      h("section", { "aria-label": "Answer" }, h("h2", {}, "Answer"), this.answer, this.spoken),
      h("section", { class: "lv-maps", "aria-label": "Feature maps" }, h("h2", {}, "Feature maps"), ...inner),
      this.inspector.element);
  }

  /** A slider through the snapshots of training; at its end are the weights as they are. */
  training() {
    const { steps } = this.about;
    const output = h("output", {}, "as loaded");
    const input = h("input", { type: "range", min: 0, max: steps.length, step: 1, value: steps.length,
      oninput: () => {
        this.step = steps[Number(input.value)] ?? null;
        output.textContent = this.step === null ? "as loaded" : `step ${this.step.toLocaleString("en")}`;
        this.ask();
      } });
    return h("section", { "aria-label": "Training" }, field("Through training", input, output));
  }

  fileRow() {
    const file = h("input", { type: "file", accept: "image/*", onchange: () => this.upload(file) });
    const save = button("Save", () => this.save(), { title: "keep the drawing as a file" });
    return h("div", { class: "lv-row" }, field("Upload", file), save);
  }

  samples() {
    const strip = this.about.thumbnails.map((text, number) => {
      const canvas = h("canvas", { "aria-hidden": "true" });
      paintBytes(canvas, Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), this.about.shape, this.about.ink);
      return h("button", { type: "button", class: "lv-sample", title: this.about.names[number],
        "aria-label": `start from ${this.about.names[number]}`, onclick: () => this.take(number) }, canvas);
    });
    const last = this.about.names.length - 1;
    const number = h("input", { type: "number", min: 0, max: last, value: 0, step: 1 });
    const copy = button("Copy", () => this.copySample(Number(number.value)), { title: "to paste a region of it" });
    const blank = button("Blank", () => this.restart(
      new Float32Array(this.canvas.drawing.values.length).fill(this.about.low), "blank"));
    return h("div", {}, h("div", { class: "lv-samples" }, ...strip), h("div", { class: "lv-row" }, blank,
      field(`Number (to ${last})`, number), button("Open", () => this.take(Number(number.value))), copy));
  }

  attribution() {
    this.target = choice("Of", [], () => {});
    this.method = choice("Method", this.about.methods, () => {});
    this.target.select.addEventListener("focus", () => this.fillTargets());
    const clear = button("Hide", () => { this.canvas.marks.heat = null; this.canvas.mark(); });
    const legend = h("p", { class: "lv-note" }, "Orange speaks for it, blue against it.");
    return h("div", {}, h("div", { class: "lv-row" }, this.target.element, this.method.element,
      button("Show", () => this.explain()), clear), legend);
  }

  message(more = {}) {
    return { layer: this.layer, step: this.step === null ? null : String(this.step), ...this.knobs, ...more };
  }

  call(name, values, buffers = [this.canvas.drawing.values]) {
    return this.client.ask("image", name, values, buffers);
  }

  async attempt(work) {
    try {
      return await work();
    } catch (error) {
      this.say(error.message, true);
      return null;
    }
  }

  ask(time = null) {
    this.canvas.marks.heat = null; // it was of another image, or of other weights
    if (time !== null && this.since === null) this.since = time;
    this.turn = (this.turn ?? 0) + 1;
    this.stream.next();
  }

  /** Ask for answer and maps of the drawing as it is now, and show them. */
  async frame() {
    const since = this.since;
    this.since = null;
    const reply = await this.call("frame", this.message({
      compared: this.compared, channels: this.tiles.channels(), edits: this.edits.list,
    }));
    if (reply.layer === this.layer) {
      this.tiles.paint(reply.channels, reply.limits, reply.size, reply.buffers[0]);
      this.tiles.order(this.byStrength ? reply.strengths : null);
      if (this.inspector.channel !== null) this.inspector.paint(this.tiles.tiles[this.inspector.channel]);
    }
    this.canvas.show(reply.changed ? floats(reply.buffers[1]) : null, this.boxes(reply.answer));
    showAnswer(this.answer, reply.answer, reply.untouched);
    if (this.inspector.at) this.units.next();
    const words = answerInWords(reply.answer);
    if (this.spoken.textContent !== words) this.spoken.textContent = words;
    this.element.dispatchEvent(new CustomEvent("lv-painted", { bubbles: true, detail: { since, reply } }));
  }

  boxes(answer) {
    if (answer.kind === "boxes") return answer.boxes.map((box, index) => [...box, answer.names[index]]);
    if (answer.kind !== "text") return null;
    return answer.characters.map(({ text, left, right }) => [left, 0, right, this.about.shape[1], text]);
  }

  showLayer() {
    const layer = this.about.layers.find(({ name }) => name === this.layer);
    if (!layer) return;
    this.tiles.reset(layer.shape[0]);
    this.element?.style.setProperty("--lv-tile", `${clamp(layer.shape[2] * 2, 44, this.canvas.isWide ? 240 : 84)}px`);
    this.inspector.reset();
    this.canvas.marks.field = null;
    this.ask();
  }

  pick(channel) {
    const { shape } = this.about.layers.find(({ name }) => name === this.layer);
    this.inspector.choose(this.layer, channel, shape);
    this.inspector.paint(this.tiles.tiles[channel]);
    this.ask();
  }

  askUnit() {
    this.units.next();
  }

  async tellUnit() {
    const { layer, channel, at } = this.inspector;
    if (!at) return;
    const [row, column] = at;
    const reply = await this.call("unit", this.message({ channel, row, column, edits: this.edits.list }));
    const { layer: now, channel: chosen, at: place } = this.inspector;
    if (now !== layer || chosen !== channel || place !== at) return; // another one was chosen
    this.inspector.tell(reply, this.about.ink, (number) => this.take(number));
    this.inspector.paint(this.tiles.tiles[channel]);
    this.canvas.marks.field = reply.buffers[0];
    this.canvas.mark();
  }

  async take(number) {
    await this.attempt(async () => {
      const reply = await this.call("sample", { number }, []);
      await this.restart(floats(reply.buffers[0]), reply.name);
    });
  }

  async restart(values, name) {
    await this.attempt(() => this.call("original", {}, [values]));
    this.original = values;
    this.canvas.load(values);
    this.say(`started from ${name}`);
    this.fillTargets();
  }

  async copySample(number) {
    const reply = await this.attempt(() => this.call("sample", { number }, []));
    if (!reply) return;
    const [, rows, columns] = this.about.shape, region = this.canvas.selection;
    const other = new Drawing(this.about.shape, this.about.low, this.about.high);
    other.values.set(floats(reply.buffers[0]));
    other.copy(region ?? { left: 0, top: 0, right: columns, bottom: rows }, false);
    this.canvas.drawing.clip = other.clip;
    this.canvas.selection = null;
    this.canvas.use("paste");
    this.say(`copied ${region ? "the selected region" : "all"} of ${reply.name}; click where it is to be pasted`);
  }

  async fillTargets() {
    const reply = await this.attempt(() => this.call("targets", {}));
    if (!reply) return;
    const before = this.target.select.value;
    this.target.fill(reply.targets);
    if (reply.targets.includes(before)) this.target.select.value = before;
  }

  async explain() {
    if (!this.target.select.value) await this.fillTargets();
    this.say("working …");
    const { turn } = this;
    const reply = await this.attempt(() => this.call("explain", this.message(
      { method: this.method.select.value, target: this.target.select.value, edits: this.edits.list })));
    if (!reply || turn !== this.turn) return; // the drawing has changed meanwhile
    this.canvas.marks.heat = floats(reply.buffers[0]);
    this.canvas.mark();
    this.say(`${reply.method} of ${reply.target}`);
  }

  async upload(input) {
    const [file] = input.files;
    if (!file) return;
    if (file.size > this.about.max_upload) {
      const size = (number) => `${(number / 2 ** 20).toFixed(1)} MiB`;
      this.say(`${file.name} has ${size(file.size)}; accepted: at most ${size(this.about.max_upload)}`, true);
    } else {
      const content = await file.arrayBuffer();
      const reply = await this.attempt(() => this.call("upload", {}, [new Uint8Array(content)]));
      if (reply) await this.restart(floats(reply.buffers[0]), file.name);
    }
    input.value = "";
  }

  async save() {
    if (this.about.saves) {
      const reply = await this.attempt(() => this.call("save", this.message()));
      if (reply) this.say(`saved as ${reply.path}`);
      return;
    }
    const link = h("a", { href: this.canvas.picture.toDataURL("image/png"), download: "drawing.png" });
    link.click();
    this.say("saved by the browser as drawing.png");
  }

  /** The connection is there again: Python has to know the original image. */
  async resume() {
    if (this.original) await this.attempt(() => this.call("original", {}, [this.original]));
    this.ask();
  }
}

PANELS.image = ImagePanel;
