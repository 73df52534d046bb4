// The answer of a network, beside that of the untouched run.

const MOST_CLASSES = 12;

/** Show an answer in an element: what is there is filled again, if it has the same form. */
function showAnswer(place, answer, untouched) {
  if (place.firstChild?.again?.(answer, untouched)) return;
  place.replaceChildren(answerElement(answer, untouched));
}

/** Return an element that shows an answer; `untouched` is the answer without edits, or null. */
function answerElement(answer, untouched) {
  const shows = { classes: classesElement, text: textElement, boxes: boxesElement };
  if (!(answer.kind in shows)) return h("p", { class: "lv-note" }, "The output has no classes.");
  return shows[answer.kind](answer, untouched);
}

/** A table of classes, whose rows are filled again by the next answer in the same form. */
function classesElement(answer, untouched) {
  const { names, probabilities } = answer;
  const order = probabilities.map((_, number) => number);
  if (names.length > MOST_CLASSES) order.sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.slice(0, MOST_CLASSES).map((number) => {
    const filled = h("span", { class: "lv-filled" }), before = h("span", { class: "lv-before" });
    const now = h("td", { class: "lv-number" }), then = h("td", { class: "lv-number lv-dim" });
    const bar = h("span", { class: "lv-bar" }, filled, untouched ? before : null);
    const row = h("tr", {}, h("th", { scope: "row" }, names[number]), h("td", {}, bar), now, untouched ? then : null);
    return { number, row, filled, before, now, then };
  });
  const head = h("tr", {}, h("th", { scope: "col" }, "class"), h("th", { scope: "col" }, "probability"),
    h("th", { scope: "col", class: "lv-number" }, "now"),
    untouched ? h("th", { scope: "col", class: "lv-number" }, "untouched") : null);
  const table = h("table", { class: "lv-answer" }, h("thead", {}, head), h("tbody", {}, ...rows.map(({ row }) => row)));
  const fill = (next, nextUntouched) => {
    const best = next.probabilities.indexOf(Math.max(...next.probabilities));
    for (const { number, row, filled, before, now, then } of rows) {
      row.classList.toggle("lv-best", number === best);
      filled.style.transform = `scaleX(${next.probabilities[number].toFixed(4)})`;
      write(now, percent(next.probabilities[number]));
      if (!nextUntouched) continue;
      before.style.left = `${100 * nextUntouched.probabilities[number]}%`;
      write(then, percent(nextUntouched.probabilities[number]));
    }
  };
  fill(answer, untouched);
  table.again = (next, nextUntouched) => { // of many classes others may be the likeliest now
    if (next.kind !== "classes" || Boolean(untouched) !== Boolean(nextUntouched)) return false;
    if (names.length > MOST_CLASSES) return false;
    fill(next, nextUntouched);
    return true;
  };
  return table;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
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
