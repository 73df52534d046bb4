// What the model makes of a few fixed samples with the weights of each snapshot.

const PLAY_PAUSE = 600; // milliseconds at one snapshot, at least

/** Pane with the maps of one sample at one snapshot: tiles, or the cells of a recurrent layer. */
class MapsPane {
  constructor(title, onsight, onpick) {
    this.title = h("h3", {}, title);
    this.tiles = new Tiles(onpick, onsight);
    this.cells = h("div", { class: "lv-cells" });
    this.num = -1;
    this.element = h("div", { class: "lv-pane" }, this.title, this.tiles.element, this.cells);
  }

  channels() {
    return this.num > 0 ? this.tiles.channels().filter((channel) => channel < this.num) : [0];
  }

  /** Show a reply, or that there is none; true: there are maps that it has not. */
  show(reply, kind, name) {
    this.tiles.element.hidden = kind !== "maps" || !reply;
    this.cells.hidden = kind !== "cells" || !reply;
    if (!reply) return false;
    if (kind === "cells") {
      this.cells.replaceChildren(...cellsFigure(reply, name));
      return false;
    }
    const isNew = this.num !== reply.num;
    if (isNew) {
      this.num = reply.num;
      this.tiles.reset(reply.num);
      this.tiles.element.setAttribute("aria-label", name);
      this.element.style.setProperty("--lv-tile", `${clamp(reply.size[1] * 2, 44, 84)}px`);
    }
    this.tiles.paint(reply.channels, reply.limits, reply.size, reply.buffers[0]);
    return isNew && reply.num > reply.channels.length;
  }
}

/** Cells of a recurrent layer as a heat map: units down, steps across, with the text at each step. */
function cellsFigure(reply, name) {
  const [units, steps] = reply.size, [low, high] = reply.limits[0];
  const canvas = h("canvas", { class: "lv-heat", role: "img",
    "aria-label": `${name}: ${units} units over ${steps} steps, from ${shortNumber(low)} to ${shortNumber(high)}` });
  paintLevels(canvas, reply.buffers[0], units, steps, reply.limits[0]);
  canvas.style.height = `${clamp(units * 10, 60, 400)}px`;
  const legible = steps <= 40;
  const texts = legible ? reply.steps.map((text) => h("span", {}, text === "\n" ? "↵" : text === " " ? "␣" : text)) : [];
  const line = h("div", { class: "lv-steps", "aria-hidden": "true" }, ...texts);
  line.style.gridTemplateColumns = `repeat(${steps}, minmax(0, 1fr))`;
  const note = `${units} units (down) × ${steps} steps (across); blue ${shortNumber(low)}, white 0, orange ${shortNumber(high)}`;
  return [canvas, line, h("p", { class: "lv-note" }, note)];
}

class SnapshotsView {
  constructor(client, about, say) {
    Object.assign(this, { client, about, say, steps: [], stamps: new Map(), step: null, sample: 0, follows: true });
    this.view = about.views[0] ?? null;
    this.stream = new Stream(() => this.refresh(), (error) => { this.problem.textContent = error.message; });
    this.playing = null;
    this.element = h("section", { "aria-label": "Snapshots", class: "lv-snapshots" }, h("h2", {}, "Through training"), ...this.build());
    this.show();
  }

  build() {
    this.output = h("output", {}, "");
    this.input = h("input", { type: "range", min: 0, max: 0, step: 1, value: 0, oninput: () => {
      this.pause();
      this.go(Number(this.input.value));
    } });
    const control = field("Snapshot", this.input, this.output);
    control.classList.add("lv-wide");
    this.playButton = button("Play", () => (this.playing ? this.pause() : this.play()), { "aria-pressed": "false" });
    this.layers = choice("Layer", this.about.views.map(({ name }) => name), (name) => {
      this.view = this.about.views.find((view) => view.name === name);
      this.latest = null;
      this.stream.next();
    });
    this.body = h("tbody", {});
    const head = ["sample", "right answer", "at this snapshot", "latest"].map((text) => h("th", { scope: "col" }, text));
    this.table = h("table", { class: "lv-answers" }, h("caption", { class: "lv-hidden" }, "Answers to the fixed samples"),
      h("thead", {}, h("tr", {}, ...head)), this.body);
    this.problem = h("p", { class: "lv-status lv-wrong", role: "alert" });
    this.empty = h("p", { class: "lv-note" }, "There is no snapshot of the weights yet (setting num_weight_snapshots).");
    const sight = () => this.stream.next();
    this.now = new MapsPane("at this snapshot", sight, (channel) => this.mirror(this.now, this.last, channel));
    this.last = new MapsPane("latest", () => { this.latest = null; sight(); }, (channel) => this.mirror(this.last, this.now, channel));
    const panes = h("div", { class: "lv-panes" }, this.now.element, this.last.element);
    this.maps = h("div", { hidden: !this.about.views.length }, h("div", { class: "lv-row" }, this.layers.element), panes);
    this.inner = h("div", {}, h("div", { class: "lv-row" }, this.playButton, control), this.table, this.maps);
    return [this.problem, this.empty, this.inner];
  }

  show() {
    this.empty.hidden = this.steps.length > 0;
    this.inner.hidden = !this.steps.length;
  }

  /** Choose the same map in the other pane. */
  mirror(from, to, channel) {
    if (to.tiles.chosen !== channel && channel < to.tiles.tiles.length) to.tiles.pick(channel);
  }

  /** Take up which snapshots there are; the latest is followed while it is chosen. */
  take(snapshots) {
    const before = this.steps.at(-1), old = this.stamps;
    this.stamps = new Map(snapshots);
    this.steps = snapshots.map(([step]) => step);
    const place = this.follows || !this.stamps.has(this.step) ? this.steps.length - 1 : this.steps.indexOf(this.step);
    this.input.max = Math.max(0, this.steps.length - 1);
    this.show();
    const last = this.steps.at(-1);
    if (last !== before || old.get(last) !== this.stamps.get(last)) this.latest = null;
    if (this.steps.length) this.go(place);
  }

  go(place) {
    this.step = this.steps[place];
    this.follows = place === this.steps.length - 1 && !this.playing;
    this.input.value = place;
    this.output.textContent = `step ${this.step.toLocaleString("en")} (${place + 1} of ${this.steps.length})`;
    this.input.setAttribute("aria-valuetext", this.output.textContent);
    this.stream.next();
  }

  play() {
    this.playing = {};
    this.playButton.textContent = "Pause";
    this.playButton.setAttribute("aria-pressed", "true");
    const at = this.steps.indexOf(this.step);
    this.go(at === this.steps.length - 1 ? 0 : at);
    this.turn(this.playing);
  }

  /** Go on to the next snapshot when this one is shown, and has been for a while. */
  async turn(playing) {
    await new Promise((resolve) => { setTimeout(resolve, PLAY_PAUSE); });
    if (this.playing !== playing) return;
    const place = this.steps.indexOf(this.step) + 1;
    if (!this.stream.busy && place < this.steps.length) this.go(place);
    if (!this.stream.busy && place >= this.steps.length) this.pause();
    else this.turn(playing);
  }

  pause() {
    if (!this.playing) return;
    this.playing = null;
    this.playButton.textContent = "Play";
    this.playButton.setAttribute("aria-pressed", "false");
    this.follows = this.step === this.steps.at(-1);
  }

  ask(step, pane) {
    return this.client.ask("run", "maps", { step, view: this.view.name, sample: this.sample, channels: pane.channels() });
  }

  /** Ask for answers and maps of the chosen snapshot and of the latest; one that fails hides no other. */
  async refresh() {
    const { step } = this, last = this.steps.at(-1), problems = new Set();
    if (step === null) return;
    const attempt = async (work) => {
      try {
        return await work();
      } catch (error) {
        problems.add(error.message);
        return null;
      }
    };
    const now = await attempt(() => this.client.ask("run", "answers", { step }));
    const latest = step === last ? now : await attempt(() => this.client.ask("run", "answers", { step: last }));
    this.answers(now?.answers, latest?.answers);
    const more = this.view !== null && await this.showMaps(step, last, attempt);
    this.problem.textContent = [...problems].join(" ");
    this.element.dispatchEvent(new CustomEvent("lv-snapshot", { bubbles: true, detail: { step, last } }));
    this.element.dataset.step = step;
    if (more) this.stream.next();
  }

  /** Show the maps of both panes; true: there are some that were not asked for. */
  async showMaps(step, last, attempt) {
    const { view } = this, name = (at) => `${view.name} of ${this.about.samples[this.sample][0]} at step ${at}`;
    const reply = await attempt(() => this.ask(step, this.now));
    const more = this.now.show(reply, view.kind, name(step));
    this.now.title.textContent = `step ${step.toLocaleString("en")}`;
    this.last.title.textContent = `latest: step ${last.toLocaleString("en")}`;
    if (this.latest === last) return more;
    const other = await attempt(() => this.ask(last, this.last));
    const others = this.last.show(other, view.kind, name(last));
    this.latest = others ? null : last;
    return more || others;
  }

  answers(now, latest) {
    const mark = (answer) => (answer ? shown(answer) : h("td", { class: "lv-dim" }, "not known"));
    const shown = ([text, right]) => h("td", { class: right ? "lv-right-answer" : "lv-wrong-answer" },
      h("span", { "aria-label": right ? "right:" : "wrong:", role: "img" }, right ? "✓" : "✗"), ` ${text === "" ? "(nothing)" : text}`);
    const focused = this.body.contains(document.activeElement);
    this.body.replaceChildren(...this.about.samples.map(([question, target], number) => {
      const picture = this.about.images[number] ? h("img", { src: this.about.images[number], alt: "" }) : null;
      const pick = h("button", { type: "button", "aria-pressed": String(number === this.sample), onclick: () => {
        this.sample = number;
        this.latest = null;
        this.answers(now, latest);
        this.stream.next();
      } }, picture, h("span", {}, question));
      return h("tr", {}, h("th", { scope: "row" }, pick), h("td", {}, target), mark(now?.[number]), mark(latest?.[number]));
    }));
    if (focused) this.body.rows[this.sample].querySelector("button").focus();
  }
}
