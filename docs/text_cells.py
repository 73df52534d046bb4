"""What the cells of a language model follow in Python's own library: `python docs/text_cells.py`.

Trains the default char_lm (two minutes), or takes its finished run, and prints what
docs/sequence_lab.md says of it. With CORPUS=file it learns that text too.
"""

import os
from typing import Any

import numpy as np
import torch
from make_pictures import ROOT, photograph, save
from sequence_lab import DPI, RUNS, run

import agents
from agents.char_lm import CharLM
from tasks.core.task import TextChunks
from visualization.recurrent import Edit, correlate_units, intervene_on, probe_states, trace_cells

COMMAND = "--agent char_lm --task text"
NUM = 500  # samples of 256 characters
OTHERS = 20  # units that are held in the same way, for comparison
PLOTTED = ("inside quotes", "inside comment", "bracket depth", "line position", "indentation")


def bits(agent: CharLM) -> None:
    """Print and draw bits per character beside counting."""
    counted = agent.task.ngram_bits()
    print(f"bits per character: {agent.bits_per_character():.3f}; n-grams with contexts of")
    print("   ", ", ".join(f"{n}: {value:.3f}" for n, value in enumerate(counted)))
    save("text_bits", agent.baseline(agent.task), DPI)


def chances(agent: CharLM, text: torch.Tensor, edits: Any = ()) -> torch.Tensor:
    """Return the probability of each next character (N, T, V), with units held."""
    with torch.inference_mode(), intervene_on(agent.model.recurrent, edits):
        return agent.model(text)[0].softmax(-1)


def bracket_cell(agent: CharLM, batch: TextChunks) -> int:
    """Find the unit that goes with the bracket depth, and hold it where it is inside and outside.

    What should follow: held as if inside, a closing bracket becomes likelier outside, and the
    other way round; other units that are held between their own values do less.
    """
    text = torch.as_tensor(batch.text).long()
    with torch.inference_mode():
        trace = trace_cells(agent.model.recurrent, agent.model.characters(text))
    cells = trace.c[0].numpy()
    depth = agent.task.probe_targets(batch).encoder["bracket depth"].astype(float)
    depth[depth < 0] = np.nan
    correlations = correlate_units(cells, {"bracket depth": depth})[0, -1]
    unit = int(np.nanargmax(np.abs(correlations)))
    print(f"bracket depth: unit {unit}, correlation {correlations[unit]:.2f}")
    inside, outside = depth >= 1, depth == 0
    close = agent.task.characters.index(")")
    plain = chances(agent, text)[..., close].numpy()
    shares = [float(plain[where].mean()) for where in (inside, outside)]
    print(f"    P(')') untouched: inside {shares[0]:.4f}, outside {shares[1]:.4f}")
    others = np.argsort(-np.abs(correlations))[1 : OTHERS + 1]
    for where, other, name in ((outside, inside, "outside"), (inside, outside, "inside")):
        moved = {}
        for held in (unit, *others):
            value = float(cells[..., held][other].mean())
            found = chances(agent, text, Edit(units=[held], c=value))[..., close].numpy()
            moved[int(held)] = found[where].mean() / plain[where].mean()
        rest = [moved[int(other)] for other in others]
        print(
            f"    {name}, held as the other: P(')') times {moved[unit]:.2f}; the next {OTHERS} "
            f"units, each so held: {min(rest):.2f} to {max(rest):.2f}, median {np.median(rest):.2f}"
        )
    return unit


def probes(agent: CharLM, batch: TextChunks) -> None:
    """Print how well a linear read-out tells each quantity from the state, and its control."""
    text = torch.as_tensor(batch.text).long()
    with torch.inference_mode():
        trace = trace_cells(agent.model.recurrent, agent.model.characters(text))
    known = agent.task.probe_targets(batch).encoder
    names = [f"{kind}{unit}" for kind in "hc" for unit in range(trace.h.shape[-1])]
    table = probe_states(trace.state(0), {n: known[n] for n in PLOTTED}, units=names)
    for row, name in enumerate(table.quantities):
        print(f"    {name}: {table.scores[row, -1]:.3f}, control {table.controls[row, -1]:.3f}")


def main() -> None:
    """Train, count, probe, hold a cell, and photograph it."""
    run("text", COMMAND)
    agent = agents.load(ROOT / RUNS / "text" / "best.safetensors", "cpu")
    assert isinstance(agent, CharLM)
    torch.set_num_threads(1)
    bits(agent)
    batch = agent.task.samples("test", NUM)
    unit = bracket_cell(agent, batch)
    probes(agent, batch)
    page = agent.inspect(["cells"]).save(ROOT / RUNS / "text" / "cells.html")
    address = f"{page.as_uri()}#part=reader&quantity=tanh(c)&unit={unit}"
    photograph("text_cell", address, "1180,760")
    print(agent.sample("def ", 300, temperature=0.5))
    corpus = os.environ.get("CORPUS")
    if corpus:
        for name, steps in (("corpus", 1200), ("corpus-longer", 4000)):
            run(name, f"{COMMAND} --set task.path={corpus} --set steps={steps}")
            other = agents.load(ROOT / RUNS / name / "best.safetensors", "cpu")
            assert isinstance(other, CharLM)
            print(f"{corpus}, {steps} steps: {other.bits_per_character():.3f} bits per character")
        print(f"n-grams with {np.round(other.task.ngram_bits(), 3)}")


if __name__ == "__main__":
    main()
