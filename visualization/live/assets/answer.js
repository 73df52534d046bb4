// The answer of a network, beside that of the untouched run.

const MOST_CLASSES = 12;

/** Return an element that shows an answer; `untouched` is the answer without edits, or null. */
function answerElement(answer, untouched) {
  const shows = { classes: classesElement, text: textElement, boxes: boxesElement };
  if (!(answer.kind in shows)) return h("p", { class: "lv-note" }, "The output has no classes.");
  return shows[answer.kind](answer, untouched);
}

function classesElement({ names, probabilities }, untouched) {
  const order = probabilities.map((_, number) => number);
  if (names.length > MOST_CLASSES) order.sort((a, b) => probabilities[b] - probabilities[a]);
  const best = probabilities.indexOf(Math.max(...probabilities));
  const rows = order.slice(0, MOST_CLASSES).map((number) => {
    const share = probabilities[number], before = untouched?.probabilities[number];
    const bar = h("span", { class: "lv-bar" });
    bar.append(h("span", { class: "lv-filled" }));
    bar.firstChild.style.width = `${100 * share}%`;
    if (before !== undefined) {
      const mark = h("span", { class: "lv-before", title: `untouched: ${percent(before)}` });
      mark.style.left = `${100 * before}%`;
      bar.append(mark);
    }
    return h("tr", { class: number === best ? "lv-best" : null },
      h("th", { scope: "row" }, names[number]), h("td", {}, bar),
      h("td", { class: "lv-number" }, percent(share)),
      untouched ? h("td", { class: "lv-number lv-dim" }, percent(before)) : null);
  });
  const head = h("tr", {}, h("th", { scope: "col" }, "class"), h("th", { scope: "col" }, "probability"),
    h("th", { scope: "col", class: "lv-number" }, "now"),
    untouched ? h("th", { scope: "col", class: "lv-number" }, "untouched") : null);
  return h("table", { class: "lv-answer" }, h("thead", {}, head), h("tbody", {}, ...rows));
}

function textElement({ text, characters }, untouched) {
  const marks = characters.map(({ text: own, confidence }) => {
    const mark = h("span", { title: `${own}: ${percent(confidence)}` }, own);
    mark.style.opacity = 0.45 + 0.55 * confidence;
    mark.style.borderBottomWidth = `${1 + 3 * (1 - confidence)}px`;
    return mark;
  });
  const now = h("p", { class: "lv-read" }, ...(marks.length ? marks : [text || "(nothing is read)"]));
  if (!untouched) return now;
  return h("div", {}, now, h("p", { class: "lv-dim" }, `untouched: ${untouched.text || "(nothing)"}`));
}

function boxesElement({ names, scores }, untouched) {
  const say = (answer) => answer.names.length
    ? answer.names.map((name, index) => `${name} ${percent(answer.scores[index])}`).join(", ") : "no boxes";
  const now = h("p", {}, say({ names, scores }));
  return untouched ? h("div", {}, now, h("p", { class: "lv-dim" }, `untouched: ${say(untouched)}`)) : now;
}

const percent = (share) => share === undefined ? "" : `${(100 * share).toFixed(1)} %`;

/** Say an answer in a few words, for a screen reader. */
function answerInWords(answer) {
  if (answer.kind === "classes") {
    const best = Math.max(...answer.probabilities);
    return `${answer.names[answer.probabilities.indexOf(best)]}, ${percent(best)}`;
  }
  if (answer.kind === "text") return `reads ${answer.text || "nothing"}`;
  if (answer.kind === "boxes") return `${answer.names.length} boxes`;
  return "";
}
