// Panel that follows a run: its curves, the doctor's verdicts, and its snapshots.

const POLL_PAUSE = 1000; // milliseconds between two looks at the folder
const QUIET = 10; // seconds without a record that are worth a word
const VERDICTS = { fine: ["✓", "fine"], problem: ["✗", "problem"], symptom: ["↑", "follows from another"], unknown: ["?", "not known"] };
const STATES = { running: "learning", done: "done", diverged: "diverged", interrupted: "interrupted", failed: "failed",
  killed: "stopped without a word" };

/** Say a time in the unit that one would. */
function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

class RunPanel {
  constructor(client, description, say) {
    Object.assign(this, { client, say, about: description, revision: 0 });
    this.plots = new Map(description.plots.map((plot) => [plot.name, new Plot(plot)]));
    this.snapshots = new SnapshotsView(client, description, say);
    this.facts = h("dl", { class: "lv-facts" });
    this.problem = h("p", { class: "lv-status lv-wrong", role: "alert" });
    this.waiting = h("p", { class: "lv-note" }, "Nothing is recorded yet: the page follows the run as soon as there is something.");
    this.body = h("tbody", {});
    this.judged = h("p", { class: "lv-note" });
    this.changes = h("ol", { class: "lv-changes", tabindex: "0", "aria-label": "Changes of verdicts, the latest first" });
    this.element = h("div", { class: "lv-run" },
      h("section", { "aria-label": "Status" }, h("h2", {}, "Run"), this.facts, this.problem),
      h("section", { "aria-label": "Curves" }, h("h2", {}, "Curves"), this.waiting,
        h("div", { class: "lv-plots" }, ...[...this.plots.values()].map(({ element }) => element))),
      this.snapshots.element, this.doctor());
    this.stream = new Stream(() => this.poll(), (error) => this.say(error.message, true));
    this.stream.next();
    this.timer = setInterval(() => this.tick(), POLL_PAUSE);
    document.addEventListener("visibilitychange", () => this.tick());
  }

  doctor() {
    const head = ["question", "verdict", "why", "since step"].map((text) => h("th", { scope: "col" }, text));
    const table = h("table", { class: "lv-verdicts" }, h("caption", { class: "lv-hidden" }, "Verdicts on the run so far"),
      h("thead", {}, h("tr", {}, ...head)), this.body);
    return h("section", { "aria-label": "Verdicts" }, h("h2", {}, "The doctor's verdicts so far"), this.judged,
      h("div", { class: "lv-scroll", tabindex: "0", role: "region", "aria-label": "Table of verdicts" }, table),
      h("h3", {}, "Changes"), this.changes);
  }

  /** Look again, while the panel is seen. */
  tick() {
    if (this.element.isConnected) this.wasConnected = true;
    else if (this.wasConnected) clearInterval(this.timer);
    if (this.element.isConnected && !document.hidden && !this.element.hidden) this.stream.next();
  }

  async poll() {
    const reply = await this.client.ask("run", "poll", { revision: this.revision });
    this.revision = reply.revision;
    for (const plot of this.plots.values()) {
      plot.end = reply.status.step; // of all, so that they have one axis
      if (reply.reset) plot.reset();
      else if (reply.curves.length) plot.changed();
    }
    reply.curves.forEach((about, index) => this.plots.get(about.plot).take(about, doubles(reply.buffers[index])));
    this.status(reply.status);
    if (reply.verdicts) this.verdicts(reply.verdicts);
    if (reply.snapshots) this.snapshots.take(reply.snapshots);
    this.element.dataset.revision = reply.revision;
    if (reply.behind) this.stream.next();
  }

  status(status) {
    const { state, reason, step, steps, steps_per_s: speed, left, age, records, problem } = status;
    const whole = (number) => number.toLocaleString("en");
    const learns = state === "running";
    const words = [(STATES[state] ?? state) || "unknown", reason && !learns ? `: ${reason}` : ""].join("");
    const facts = [["state", words], ["step", steps ? `${whole(step)} of ${whole(steps)}` : whole(step)]];
    if (learns && left !== null) facts.push(["steps left", whole(left) + (speed && left ? `, about ${duration(left / speed)}` : "")]);
    if (speed) facts.push(["speed", `${shortNumber(speed)} steps/s`]);
    facts.push(["records", whole(records)]);
    if (age !== null) facts.push(["last record", learns && age > QUIET ? `no new record since ${duration(age)}` : `${duration(age)} ago`]);
    facts.push(["folder", this.about.folder]);
    const text = JSON.stringify(facts);
    if (this.told !== text) {
      this.told = text;
      this.facts.replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, name),
        h("dd", { "data-fact": name, class: name === "last record" && value.startsWith("no") ? "lv-wrong" : null }, value))));
    }
    if (this.problem.textContent !== problem) this.problem.textContent = problem;
    this.waiting.hidden = records > 0;
  }

  verdicts({ step, findings, changes, thinned }) {
    const problems = findings.filter(({ verdict }) => verdict === "problem").map(({ name }) => name);
    const until = step < 0 ? "Nothing is judged yet." : `Until step ${step.toLocaleString("en")}: ${problems.join(", ") || "no problem found"}.`;
    this.judged.textContent = `${until} Only what the records answer is asked; --mode diagnose also makes trials.${
      thinned ? " Of so many records, only some are judged." : ""}`;
    this.body.replaceChildren(...findings.map(({ name, question, verdict, measurement, explanation, advice, since }) => {
      const why = h("td", {}, measurement);
      why.title = [explanation, ...advice].join("\n");
      if (verdict === "problem" && advice.length) why.append(h("p", { class: "lv-note" }, `Try: ${advice.join("; ")}`));
      return h("tr", { "data-name": name }, h("th", { scope: "row" }, question), this.mark(verdict), why,
        h("td", { class: "lv-number" }, since.toLocaleString("en")));
    }));
    this.changes.replaceChildren(...[...changes].reverse().map(({ step: at, name, before, after }) => h("li", {},
      `step ${at.toLocaleString("en")}: ${name}: ${VERDICTS[before][1]} → ${VERDICTS[after][1]}`)));
    if (!changes.length) this.changes.append(h("li", { class: "lv-note" }, "none yet"));
  }

  mark(verdict) {
    const [sign, words] = VERDICTS[verdict];
    return h("td", { class: `lv-verdict lv-is-${verdict}` }, h("span", { "aria-hidden": "true" }, sign), ` ${words}`);
  }

  /** The connection is there again, with a session that has sent nothing yet. */
  async resume() {
    this.revision = 0;
    this.stream.next();
  }
}

/** Numbers of float64 in a buffer, which may begin anywhere. */
function doubles(bytes) {
  return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

PANELS.run = RunPanel;
