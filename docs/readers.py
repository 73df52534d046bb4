"""The figures of docs/handwriting.md: `python docs/readers.py [SECTION …]`.

Sections are knobs (15 minutes: each setting of a reader changed alone), curves and inside, which
read what `make read-benchmark` trained on the pages of 1878; without one all of them. Runs that are
done are not run again.
"""

import json
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from make_pictures import PICTURES, ROOT, save
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sequence_lab import command, history

import agents
from agents.core.decoding.alignment import align
from agents.core.decoding.ctc import greedy
from agents.core.line_encoder import COLUMN, columns_of
from tasks.handwriting.lines import LineImages, error_rates
from visualization import render
from visualization.core.style import COLORS, INK, axis_labels, despine, printable
from visualization.records import Curves
from visualization.representation.probes import correlation

KNOBS_RUNS = "runs/knobs"
BASE = "--agent ctc_reader --task handwriting --set steps=500 --set eval_every=100 --set threads=1"
KNOBS: Mapping[str, Mapping[str, str]] = {  # panel → what it is called → what is set
    "chance": {"as it is": "", "another seed": "--seed 1"},
    "size": {"medium": "--set size=medium"},
    "optimiser": {"Adam": "--set optimizer=adam"},
    "height of a line": {"48 pixels": "--set task.height=48", "24 pixels": "--set task.height=24"},
    "distortions": {"no distortions": "--set augmentation=0"},
    "read-out of maps": {"no shortcut": "--set shortcut_weight=0"},
}
BENCHMARK = ROOT / "runs" / "read-benchmark"
CURVES = {  # run → what it is called
    "1878-ctc": "2,300 steps",
    "1878-ctc-longer": "4,000 more",
}
READER, NUM_LINES = "1878-ctc", 60
DRAWN = ("a character is written here", "a gap between words", "characters to the end")
WIDTH = 400  # pixels, about, of the line that is drawn
FARTHEST = 200  # pixels
DPI = 75


def knobs() -> None:
    """Print the table of knobs: what each setting, changed alone, does to a reader of words."""
    print(f"python main.py {BASE} …\n")
    print("| changed | unseen words: CER | WER | s of training |\n|---|---:|---:|---:|")
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for panel, changes in KNOBS.items():
        panels[panel] = {} if panel == "chance" else {"as it is": _curve("as it is")}
        for what, settings in changes.items():
            folder = f"{KNOBS_RUNS}/{_slug(what)}"
            if not (ROOT / folder / "test.json").exists():
                command(f"{BASE} {settings}", folder)
            scores = json.loads((ROOT / folder / "test.json").read_text())
            seconds = history(ROOT / folder).series("time/seconds")[1][-1]
            chosen = re.sub("--set ", "", settings) or "–"
            rates = f"{100 * scores['cer']:.1f} % | {100 * scores['wer']:.1f} %"
            print(f"| {what}: `{chosen}` | {rates} | {seconds:.0f} |", flush=True)
            panels[panel][what] = _curve(what)
    save("reader_knobs", Curves({f"{p}: validation CER, %": v for p, v in panels.items()}), DPI)


def _slug(what: str) -> str:
    return re.sub(r"\W+", "-", what)


def _curve(what: str) -> tuple[list[float], list[float]]:
    """Return steps, and character error rates of validation in percent, of a run of `knobs`."""
    steps, rates = history(ROOT / KNOBS_RUNS / _slug(what)).series("eval/cer")
    return [*steps], [100 * rate for rate in rates]


def curves() -> None:
    """Draw the learning curves of a reader of the register, and of what goes on from its best."""
    rates, first = {}, 0.0
    for name, what in CURVES.items():
        steps, values = history(BENCHMARK / name).series("eval/cer")
        rates[what] = ([first + step for step in steps], [100 * value for value in values])
        print(f"{what}: {len(steps)} evaluations, lowest {min(values):.4f}")
        first += steps[-1]
    save("reader_curves", Curves({"character error rate of validation, %": rates}), DPI)


def inside() -> None:
    """Say what the units of a trained reader do, how far it looks, and draw both."""
    agent = agents.load(BENCHMARK / READER / "best.safetensors", device="cpu")
    batch = agent.task.samples("test", NUM_LINES)
    observation = agent.observe(batch)
    part = observation.recurrent[0]
    trace = observation.traces[part.name]
    states = {"h": trace.h.numpy(), "tanh c": np.tanh(trace.c.numpy())}
    _draw_units(states, batch, part.output_text, _roles(states, part.probe_targets))
    _how_much(agent, batch)
    _how_far(agent, batch)


class Unit(NamedTuple):
    """A unit of the BiLSTM: its direction, its number, and which state of it is meant."""

    direction: int
    number: int
    state: str

    def __str__(self) -> str:
        return f"{self.state} of unit {self.number}, {('forwards', 'backwards')[self.direction]}"


def _roles(
    states: Mapping[str, NDArray[Any]], known: Mapping[str, NDArray[Any]]
) -> dict[str, Unit]:
    """Print and return which unit is most correlated with each property of a column."""
    place, is_own = known["place in line"], known["character"] >= 0
    wanted = {
        "a character is written here": known["is written here"] == 1,
        "a gap between words": known["kind of character"] == 0,
        "a capital letter": known["kind of character"] == 1,
        "ink in the column": known["ink"],
        "characters from the beginning": place,
        "characters to the end": place.max(axis=1, keepdims=True) - place,
    }
    print("| property of a column | the unit that tells it best | r |\n|---|---|---:|")
    found = {}
    for name, values in wanted.items():
        y = values[is_own].astype(float)
        rates = {
            Unit(direction, unit, state): r
            for state, both in states.items() for direction, own in enumerate(both)
            for unit, r in enumerate(correlation(own[is_own], y))
        }  # fmt: skip
        found[name] = max(rates, key=lambda unit: abs(rates[unit]))
        print(f"| {name} | {found[name]} | {rates[found[name]]:+.2f} |")
    return found


def _draw_units(
    states: Mapping[str, NDArray[Any]], batch: LineImages, written: Any, found: Mapping[str, Unit]
) -> None:
    """Draw the states of some units under a line, and what is written where."""
    line = int(np.argmin(np.abs(np.asarray(batch.width) - WIDTH)))
    width = int(batch.width[line])
    shown = 1 - batch.image[line, 0, :, :width]
    figure = Figure(figsize=(9.0, 1.2 + 1.05 * (len(DRAWN) + 1)), layout="constrained")
    image, *panels = figure.subplots(len(DRAWN) + 1, 1, sharex=True)
    image.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect="auto",
                 extent=(0, width, 0, shown.shape[0]))  # fmt: skip
    image.set_axis_off()
    middles = COLUMN * (np.arange(width // COLUMN) + 0.5)
    for middle, character in zip(middles, written[line], strict=False):
        if character:
            image.text(middle, shown.shape[0] + 3, printable(character), ha="center", fontsize=9,
                       color=INK, family="DejaVu Sans Mono")  # fmt: skip
    for axes, name in zip(panels, DRAWN, strict=True):
        unit = found[name]
        values = states[unit.state][unit.direction, line, : len(middles), unit.number]
        axes.axhline(0, color="#dddddd", linewidth=0.8)
        axes.plot(middles, values, color=COLORS[0], linewidth=1.2)
        axes.set_ylim(-1.05, 1.05)
        despine(axes, f"{unit}: {name}")
        axis_labels(axes, "", unit.state)
    axis_labels(panels[-1], "pixels of the line", found[DRAWN[-1]].state)
    (PICTURES / "reader_units.png").write_bytes(render.png(figure, DPI))
    print("docs/pictures/reader_units.png")


def _how_much(agent: Any, batch: LineImages) -> None:
    """Print the error rates without parts of the network."""
    num_columns = columns_of(torch.as_tensor(batch.width))
    right = agent.task.decode(agent.task.targets(batch))

    def rate(logits: torch.Tensor) -> float:
        read = [codes.numpy() for codes in greedy(logits, num_columns)]
        return 100 * error_rates(agent.task.decode(read), right)["cer"]

    model = agent.model.eval()
    with torch.no_grad():
        image, width = torch.as_tensor(batch.image), torch.as_tensor(batch.width)
        whole, maps = model(image, width, True)
        states = model.encoder.contexts(model.encoder.features(image, width), num_columns)
        units = states.shape[-1] // 2
        found = {"the whole reader": rate(whole), "the read-out of the feature maps": rate(maps)}
        for name, of in (("forwards", slice(0, units)), ("backwards", slice(units, None))):
            held = states.clone()
            held[..., of] = states[..., of].mean(dim=(0, 1))
            found[f"without the LSTM that reads {name}"] = rate(model.head(held))
    print("| what reads | CER |\n|---|---:|")
    for name, value in found.items():
        print(f"| {name} | {value:.1f} % |")


def _how_far(agent: Any, batch: LineImages) -> None:
    """Draw the share of the gradient of ln p of a character within a distance of its column."""
    reach = {
        "with the BiLSTM": _reach(agent, batch, 0), "feature maps alone": _reach(agent, batch, 1)
    }  # fmt: skip
    for name, shares in reach.items():
        words = ", ".join(f"{q:.0%} within {int(np.searchsorted(shares, q))} pixels"
                          for q in (0.5, 0.9))  # fmt: skip
        print(f"{name}: {words}")
    texts = agent.task.decode(agent.task.targets(batch))
    print(f"a character is {sum(batch.width) / sum(map(len, texts)):.1f} pixels wide on average")
    save("reader_reach", Curves({
        "share of the gradient of ln p of a character, %": {
            name: ([*range(len(shares))], [*(100 * shares)]) for name, shares in reach.items()
        }
    }, x_name="pixels to either side of the column where it is written"), DPI)  # fmt: skip


def _reach(agent: Any, batch: LineImages, which: int) -> NDArray[np.float64]:
    """Return the share of |∂ ln p / ∂ image| within 0, 1, … pixels of the middle character."""
    image = torch.as_tensor(batch.image).clone().requires_grad_()
    rows = agent.model.eval()(image, torch.as_tensor(batch.width), True)[which].log_softmax(-1)
    columns, total = [], rows.new_zeros(())
    for line, codes in enumerate(agent.task.targets(batch)):
        own = rows[line, : int(batch.width[line]) // COLUMN].detach().double().numpy()
        begin, end = align(own, codes)[0][len(codes) // 2]
        code = int(codes[len(codes) // 2])
        columns.append(begin + int(own[begin:end, code].argmax()))
        total = total + rows[line, columns[-1], code]
    (gradient,) = torch.autograd.grad(total, image)
    strength = gradient.abs().sum(dim=(1, 2)).double().numpy()
    shares = np.zeros(FARTHEST + 1)
    for own, column in zip(strength, columns, strict=True):
        apart = np.abs(np.arange(len(own)) - COLUMN * (column + 0.5) + 0.5).astype(int)
        near = np.bincount(np.minimum(apart, FARTHEST), own, FARTHEST + 1)
        shares += np.cumsum(near) / near.sum() / len(columns)
    return shares


SECTIONS = {"knobs": knobs, "curves": curves, "inside": inside}


if __name__ == "__main__":
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()
