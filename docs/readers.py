"""The figures of docs/handwriting.md: `python docs/readers.py [SECTION …]`.

Sections are knobs (15 minutes: each setting of a reader changed alone), curves and inside, which
read what `make read-benchmark` trained (`runs/read-benchmark`); without one all of them. Runs that
are done are not run again.
"""

import json
import re
import sys
from collections.abc import Mapping

from make_pictures import ROOT, save
from sequence_lab import command, history

from visualization.records import Curves

KNOBS_RUNS = "runs/knobs"
BASE = "--agent ctc_reader --task handwriting --set steps=500 --set eval_every=100 --set threads=1"
KNOBS: Mapping[str, Mapping[str, str]] = {  # panel → what it is called → what is set
    "chance": {"as it is": "", "another seed": "--seed 1"},
    "size": {"medium": "--set size=medium"},
    "optimiser": {"Adam": "--set optimizer=adam"},
    "height of a line": {"48 pixels": "--set task.height=48", "24 pixels": "--set task.height=24"},
    "distortions": {"no distortions": "--set augmentation=0"},
    "read-out of the feature maps": {"no shortcut": "--set shortcut_weight=0"},
}
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
    save("reader_knobs", Curves(panels, frozenset(panels), "step"), DPI)


def _slug(what: str) -> str:
    return re.sub(r"\W+", "-", what)


def _curve(what: str) -> tuple[list[float], list[float]]:
    """Return steps, and character error rates of validation in percent, of a run of `knobs`."""
    steps, rates = history(ROOT / KNOBS_RUNS / _slug(what)).series("eval/cer")
    return [*steps], [100 * rate for rate in rates]


SECTIONS = {"knobs": knobs}


if __name__ == "__main__":
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()
