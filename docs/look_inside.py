"""The pictures and figures of docs/recurrent.md and docs/reversed.md: `python docs/look_inside.py`.

Looks into the trained agents of docs/experiments.py (which trains them, if they are not there yet).
Figures that the pages quote are printed. Five minutes; pages need Chromium.
"""

import functools
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
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
from agents.core.analysis.comparison import compare
from visualization.records import Bars, Curves, Scatter
from visualization.recurrent import (
    ActivationPatching,
    Edit,
    correlate_units,
    intervene_on,
    rank_units,
    single_units_and_pairs,
    state_from,
)

RUNS = ROOT / "runs" / "notes"
FRESH, FRESH_1 = "3x3, fresh sums", "3x3, fresh sums, seed 1"
PLAIN = "3x3, fresh sums, not reversed"
NOTES, NOTES_1 = "reversed, notes' recipe", "reversed, notes' recipe, seed 1"
NOTES_PLAIN, NOTES_PLAIN_1 = "not reversed, notes' recipe", "not reversed, notes' recipe, seed 1"
PAIRS = [
    (NOTES, NOTES_PLAIN), (NOTES_1, NOTES_PLAIN_1), (NOTES, NOTES_1), (NOTES_PLAIN, NOTES_PLAIN_1),
    (FRESH, PLAIN), (FRESH, FRESH_1),
]  # fmt: skip
DPI = 75


def trained(name: str) -> Agent:
    """Return the best agent of an experiment; run it first if it has not ended yet."""
    path = RUNS / re.sub(r"\W+", "-", name) / "best.safetensors"
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
        for gate, shut in report["gates"][part].left.items():
            most = [(shares > 0.5).sum() for shares in (shut, report["gates"][part].right[gate])]
            print(f"{part} {gate}: shut most of the time {most[0]}, open {most[1]}; "
                  f"always shut {(shut == 1).sum()}")  # fmt: skip
        print(f"{part}: {counts}; no effect: {(ranking.change['exact match'] == 0).sum()} units")
    probes = report["probes"]["encoder"]
    for column in (1, 2, 3):
        row = probes.quantities.index(f"carry into column {column}")
        print(f"carry into column {column}, last step: {probes.scores[row, -2]:.2f}, labels "
              f"shuffled {probes.controls[row, -2]:.2f}")  # fmt: skip
    row = probes.quantities.index("carry into column 1")
    cells = probes.correlations[row, -2, len(probes.units) // 2 :]
    print(f"cells that go with the carry at 0.83 or more: {np.flatnonzero(cells >= 0.83)}")
    path = agent.inspect(["cells"]).save(RUNS / "3x3-fresh-sums" / "cells.html")
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


class Watched:
    """Sums of the test split, what the encoder holds of them at the end, and what they answer."""

    def __init__(self, agent: Agent, num: int) -> None:
        self.agent, self.batch = agent, agent.task.samples("test", num)
        self.study = agent.observe(self.batch)
        self.layer, self.trace = self.study.recurrent[0].layer, self.study.traces["encoder"]
        self.last = self.trace.h.shape[2] - 1
        known = agent.task.probe_targets(self.batch).encoder
        self.sums = [known[f"sum of column {column}"][:, -1] for column in range(3)]
        self.before = self.answers([])

    def answers(self, edits: Sequence[Edit]) -> NDArray[np.int64]:
        """Return the answers as numbers, -1 for what is none."""
        with torch.inference_mode(), intervene_on(self.layer, edits):
            texts = self.agent.task.decode(self.study.answer()[0].numpy())
        return np.array([int(text) if text.isdigit() else -1 for text in texts])

    def given(self, units: Sequence[int], donors: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the answers when units have the state that they have in other sums."""
        edit = state_from(self.trace, torch.from_numpy(donors), self.last, 0, list(units))
        return self.answers([edit])


def ruler(agent: Agent) -> int:
    """Draw the cell that holds the units' sum; return its number."""
    watched = Watched(agent, 2000)
    sums = watched.sums[0]
    found = correlate_units(watched.trace.c[0, :, -1:], {"sum": sums[:, None]})[0, 0]
    unit = int(np.abs(found).argmax())
    c = watched.trace.c[0, :, -1, unit].double().numpy()
    values = np.unique(sums)
    within = np.sqrt(np.mean([c[sums == value].var() for value in values]))
    ends = [(c[sums == v].min(), c[sums == v].max()) for v in values]
    apart = [int(v) for v, (low, _), (_, high) in zip(values, ends, ends[1:], strict=False)
             if low <= high]  # fmt: skip
    slope = np.polyfit(sums, c, 1)[0]
    print(f"unit {unit}: r = {found[unit]:.4f}; {slope:+.3f} for each 1, deviation within a "
          f"sum {within:.3f}; sums that overlap with the next: {apart}")  # fmt: skip
    names = ("sum of the units' digits", f"c of unit {unit}, after the last character")
    for value in (-0.4, 0.0, 0.4):
        edit = Edit(units=[unit], time=watched.last, c=value)
        record = agent.intervene("12+345+678", {"encoder": edit})
        print(f"12+345+678 = {record.before}; c of unit {unit} = {value}: {record.after}")
    save("recurrent_intervention", record, DPI)
    save("recurrent_ruler", Scatter(f"{len(c):,} sums", sums, c, names), DPI)
    return unit


def labour(agent: Agent) -> None:
    """Draw which units change the answer by exactly 1, 10 and 100, given another sum's state."""
    watched = Watched(agent, 2000)
    donors = np.random.default_rng(0).permutation(len(watched.before))
    moved = [
        np.abs(watched.given([unit], donors) - watched.before)
        for unit in range(watched.trace.h.shape[-1])
    ]
    shares = {step: [float((m == step).mean()) for m in moved] for step in (1, 10, 100)}
    chosen = [int(u) for s in shares.values() for u in np.argsort(-np.array(s))[:6]]
    save("recurrent_labour", Bars({
        f"by exactly {step}, % of the sums": {f"unit {u}": 100 * share[u] for u in chosen}
        for step, share in shares.items()
    }, (), 1), DPI)  # fmt: skip
    for unit in chosen:
        parts = {step: round(share[unit], 3) for step, share in shares.items()}
        print(f"unit {unit}: changes {(moved[unit] > 0).mean():.3f}, by exactly {parts}")


def transplants(agent: Agent, most: int = 10) -> None:
    """Draw how many units it takes to move a column's sum, or a carry alone, to another answer.

    Units are added one by one, always the one that helps most on one half of the sums; what is
    drawn is measured on the other half.
    """
    watched = Watched(agent, 2000)
    rng, half = np.random.default_rng(0), np.arange(2000) < 1000
    anyone = rng.permutation(2000)
    tens_alone = np.array([
        rng.choice(np.flatnonzero(((watched.sums[0] - s) % 10 == 0) & (watched.sums[0] != s)))
        for s in watched.sums[0]
    ])  # fmt: skip
    cases = {f"sum of column {k}": (anyone, watched.sums[k], 10**k) for k in range(3)}
    cases["carry into column 1 alone"] = (tens_alone, watched.sums[0], 1)
    curves = {}
    for name, (donors, sums, worth) in cases.items():
        wanted = watched.before + (sums[donors] - sums) * worth
        counts = wanted != watched.before

        def follows(units: Sequence[int], donors: NDArray[np.int64] = donors,
                    wanted: NDArray[np.int64] = wanted) -> NDArray[np.bool_]:  # fmt: skip
            return np.asarray(watched.given(units, donors) == wanted)

        alone = [follows([unit])[counts & half].mean() for unit in range(128)]
        changed = agent_patching(agent).changed.sum(axis=1)
        candidates = {*np.argsort(-np.array(alone))[:12], *np.argsort(-changed)[:20]}
        group: list[int] = []
        found = []
        for _ in range(most):
            rates = {u: follows([*group, int(u)])[counts & half].mean() for u in candidates}
            group.append(int(max(rates, key=lambda unit: rates[unit])))
            candidates.discard(group[-1])
            found.append(100 * float(follows(group)[counts & ~half].mean()))
        curves[name] = (list(range(1, most + 1)), found)
        print(name, group, [round(value, 1) for value in found])
    save("recurrent_transplant", Curves({"answers that follow exactly, %": curves},
                                        x_name="units taken from another sum"), DPI)  # fmt: skip


@functools.cache
def agent_patching(agent: Agent) -> ActivationPatching:
    """Return the patching of the encoder's units."""
    found: ActivationPatching = agent.inspect(["patching"])["patching"]["encoder"]
    return found


def together(agent: Agent, num: int = 8) -> None:
    """Print which pairs of units stand in for each other in the encoder."""
    study = agent.observe(agent.task.samples("test", 1000))
    first = study.recurrent[0]
    alone = rank_units(first.layer, first.score)
    chosen = [alone.groups[at][0] for at in alone.order[3 : 3 + num]]
    ranking = rank_units(first.layer, first.score, single_units_and_pairs(chosen))
    extra = ranking.interaction("exact match")
    order = np.argsort(np.where(np.isnan(extra), np.inf, extra))
    for at in order[:3]:
        group = ranking.groups[at]
        single = [round(float(ranking.change["exact match"][chosen.index(u)]), 3) for u in group]
        both = round(float(ranking.change["exact match"][at]), 3)
        print(f"pair {group}: alone {single}, together {both}, interaction {extra[at]:.3f}")


def comparisons() -> None:
    """Draw reversed against plain; print every comparison that the page quotes."""
    shown = ("carries", "question length", "answer length", "column")
    for name, other in PAIRS:
        a, b = trained(name), trained(other)
        report = compare(a, b)
        overlap = report["answers"]
        print(f"{name} / {other}: {overlap.counts}, p = {overlap.p_value:.2g}")
        for part, match in report["units"].items():
            print(f"  {part}: median |r| of matched units {np.median(match.matched):.2f}, "
                  f"samples shuffled {np.median(match.chance):.2f}")  # fmt: skip
        if (name, other) == PAIRS[0]:
            groups = {title: overlap.groups[title] for title in shown}
            save("reversed_answers", attrs.evolve(overlap, groups=groups), DPI)
            for title in shown:
                print(f"  {title}: {overlap.groups[title]}")
            for order, agent in (("reversed", a), ("plain", b)):
                probes = agent.inspect(["probes"])["probes"]["encoder"]
                save(f"reversed_probes_{order}", probes, DPI)
        if (name, other) == (FRESH, PLAIN):
            save("reversed_units", report["units"]["decoder"], DPI)


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    agent = trained(FRESH)
    views(agent)
    labour(agent)
    transplants(agent)
    together(agent)
    comparisons()
    example = Path(__file__).with_name("automaton_example.py")
    subprocess.run([sys.executable, str(example)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
