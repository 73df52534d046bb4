"""The pictures and figures of docs/recurrent.md and docs/reversed.md: `python docs/look_inside.py`.

Looks into the trained agents of docs/experiments.py (which trains them, if they are not there yet).
Figures that the pages quote are printed. Two minutes; pages need Chromium.
"""

import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_pictures import PICTURES, ROOT, save
from numpy.typing import NDArray
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

import agents
from agents.core.agent import Agent
from agents.core.comparing import compare
from agents.core.recurrent import Study
from visualization.bars import Bars
from visualization.curves import Curves
from visualization.recurrent import Edit, correlate_units, pairs, rank_units, steered

RUNS = ROOT / "runs" / "notes"
FRESH, PLAIN = "3x3, fresh sums", "3x3, fresh sums, not reversed"
NOTES, NOTES_PLAIN = "reversed, notes' recipe", "not reversed, notes' recipe"
FOLDERS = {
    FRESH: "3x3-fresh-sums", PLAIN: "3x3-fresh-sums-not-reversed",
    NOTES: "reversed-notes-recipe", NOTES_PLAIN: "not-reversed-notes-recipe",
}  # fmt: skip
DPI = 75


def trained(name: str) -> Agent:
    """Return the best agent of an experiment; run it first if it has not ended yet."""
    path = RUNS / FOLDERS[name] / "best.safetensors"
    if not (path.parent / "test.json").exists():
        subprocess.run([sys.executable, "docs/experiments.py", name], cwd=ROOT, check=True)
    return agents.load(path, device="cpu")


def views(agent: Agent) -> None:
    """Draw the views of the trained adder."""
    report = agent.inspect()
    for name in ("roles", "probes", "gates", "paths", "matches"):
        save(f"recurrent_{name}", report[name]["encoder"], DPI)
    save("recurrent_probes_decoder", report["probes"]["decoder"], DPI)
    save("recurrent_ablation", report["ablation"]["encoder"], DPI)
    save("recurrent_patching", report["patching"]["encoder"], DPI)
    for part in ("encoder", "decoder"):
        roles, ranking = report["roles"][part], report["ablation"][part]
        counts = {kind: roles.count(kind) for kind in ("counter", "detector", "mixed", "constant")}
        print(f"{part}: {counts}; no effect: {(ranking.change['exact match'] == 0).sum()} units")
    page = agent.inspect(["ablation", "cells"])
    del page.records["ablation"]  # only its ranking is wanted, in the table of the cells
    path = page.save(RUNS / FOLDERS[FRESH] / "cells.html")
    unit = ruler(agent)
    in_use("recurrent_cells", f"{path.as_uri()}#part=encoder&quantity=c&unit={unit}")


def in_use(name: str, address: str) -> None:
    """Take a picture of the cells' page with a span selected and a character pointed at."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        print(f"docs/pictures/{name}.png is left as it is: there is no Chromium here")
        return
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,1150"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get(address)
        first, last, other = (
            driver.find_element(By.CSS_SELECTOR, f".ov-char[data-sample='{s}'][data-step='{t}']")
            for s, t in ((1, 9), (1, 11), (6, 11))
        )
        hand = ActionChains(driver, duration=0)
        hand.click_and_hold(first).move_to_element(last).release().move_to_element(other).perform()
        page = Image.open(io.BytesIO(driver.get_screenshot_as_png()))
        page.quantize(96).save(PICTURES / f"{name}.png", optimize=True)  # a third of the bytes
    finally:
        driver.quit()
    print(f"docs/pictures/{name}.png")


def ruler(agent: Agent) -> int:
    """Draw the cell that holds the units' sum, and what it does; return its number."""
    batch = agent.task.samples("test", 2000)
    trace = agent.study(batch).traces["encoder"]
    known = agent.task.quantities(batch).reading
    sums = known["sum of column 0"]
    found = correlate_units(trace.c[0], {"sum": sums})[0, -2]
    unit = int(np.abs(found).argmax())
    c = trace.c[0, :, -1, unit].numpy()
    values = np.unique(sums[:, -1])
    means = [float(c[sums[:, -1] == value].mean()) for value in values]
    within = np.sqrt(np.mean([c[sums[:, -1] == value].var() for value in values]))
    slope = np.polyfit(values, means, 1)[0]
    print(f"unit {unit}: r = {found[unit]:.4f} with the units' sum; {slope:+.3f} for each 1, "
          f"standard deviation within a sum {within:.3f}")  # fmt: skip
    save("recurrent_ruler", Curves(
        {f"mean of c, unit {unit} of the encoder, at the end": {"c": (values.tolist(), means)}},
        x_name="sum of the units' digits",
    ), DPI)  # fmt: skip
    for value in (-0.4, 0.0, 0.4):
        edit = Edit(units=[unit], time=11, c=value)
        record = agent.intervene("12+345+678", {"encoder": edit})
        print(f"12+345+678 = {record.before}; c of unit {unit} = {value}: {record.after}")
    save("recurrent_intervention", record, DPI)
    return unit


def carrying(agent: Agent, column: int, num: int = 2000) -> dict[int, tuple[float, float]]:
    """Give each encoder unit its mean under the other carry into a column, and answer again.

    Returns for each unit how often the column's digit then goes up by one (carry 0 → 1), and down
    by one (1 → 0), of the sums that were right and have the column.
    """
    batch = agent.task.samples("test", num)
    study: Study = agent.study(batch)
    trace = study.traces["encoder"]
    known = agent.task.quantities(batch).writing
    carry, at = known[f"carry into column {column}"], known["column"] == column

    def digit(answers: NDArray[Any]) -> NDArray[np.int64]:
        return np.where(at, answers.astype(int), 0).sum(axis=1)

    before = study.write()[0].numpy()
    usable = at.any(axis=1) & (before == batch.answer).all(axis=1)
    found = {}
    for unit in range(trace.h.shape[-1]):
        moved = []
        for old, new in ((0, 1), (1, 0)):
            like = torch.from_numpy(carry == new)
            c, h = (float(values[0, like, -1, unit].mean()) for values in (trace.c, trace.h))
            edit = Edit(units=[unit], time=trace.h.shape[2] - 1, c=c, h=h)
            with torch.inference_mode(), steered(study.parts[0].layer, [edit]):
                after = study.write()[0].numpy()
            shift = (digit(after) - digit(before)) % 10 == (new - old) % 10
            moved.append(float(shift[usable & (carry == old)].mean()))
        found[unit] = (moved[0], moved[1])
    return found


def carries(agent: Agent) -> None:
    """Draw which units carry into the tens."""
    found = carrying(agent, 1)
    top = sorted(found, key=lambda unit: -sum(found[unit]))[:8]
    save("recurrent_carry", Bars({
        "0 → 1: one more, % of the sums": {f"unit {u}": 100 * found[u][0] for u in top},
        "1 → 0: one less, % of the sums": {f"unit {u}": 100 * found[u][1] for u in top},
    }, (f"unit {top[0]}",), 1), DPI)  # fmt: skip
    print(f"carry into the tens: {[(u, found[u]) for u in top[:3]]}")
    hundreds = carrying(agent, 2)
    best = max(hundreds, key=lambda unit: sum(hundreds[unit]))
    print(f"carry into the hundreds: at best unit {best}: {hundreds[best]}")


def together(agent: Agent, num: int = 6) -> None:
    """Print which pairs of units stand in for each other in the encoder."""
    study = agent.study(agent.task.samples("test", 1000))
    first = study.parts[0]
    alone = rank_units(first.layer, first.score)
    chosen = [alone.groups[at][0] for at in alone.order[10 : 10 + num]]
    ranking = rank_units(first.layer, first.score, pairs(chosen))
    extra = ranking.interaction("exact match")
    order = np.argsort(np.where(np.isnan(extra), np.inf, extra))
    print("pairs that lose more together than one by one:",
          [(ranking.groups[at], round(float(extra[at]), 3)) for at in order[:3]])  # fmt: skip


def comparisons() -> None:
    """Draw reversed against plain, with the notes' recipe and with ours."""
    for name, pair in (("notes", (NOTES, NOTES_PLAIN)), ("default", (FRESH, PLAIN))):
        a, b = map(trained, pair)
        report = compare(a, b)
        print(name, report["answers"].counts, f"p = {report['answers'].p_value:.2g}")
        if name == "notes":
            shown = ("carries", "question length", "answer length", "column")
            overlap = report["answers"]
            groups = {title: overlap.groups[title] for title in shown}
            save("reversed_answers", type(overlap)(overlap.names, overlap.corner, overlap.p_value,
                                                   groups, overlap.labels), DPI)  # fmt: skip
            for order, agent in (("reversed", a), ("plain", b)):
                probes = agent.inspect(["probes"])["probes"]["encoder"]
                save(f"reversed_probes_{order}", probes, DPI)
        matched: Sequence[float] = report["units"]["decoder"].matched
        by_chance = report["units"]["decoder"].chance
        print(f"decoder units matched: median |r| {np.median(matched):.2f}, "
              f"shuffled {np.median(by_chance):.2f}")  # fmt: skip
        save(f"reversed_units_{name}", report["units"]["decoder"], DPI)


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    agent = trained(FRESH)
    views(agent)
    carries(agent)
    together(agent)
    comparisons()
    example = Path(__file__).with_name("automaton_example.py")
    subprocess.run([sys.executable, str(example)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
