"""The pictures and figures of docs/sequence_lab.md: `python docs/sequence_lab.py [SECTION …]`.

Sections are adding (three quarters of an hour), parity, digits, rates and doctor (minutes each);
without one all of them. Runs that are done are not run again. docs/text_cells.py and
docs/attention_table.py have the sections on text and attention.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from make_pictures import ROOT, save

import agents
from agents.core.analysis.diagnosis import diagnose_agent
from agents.core.analysis.trials import range_test
from agents.core.config import AgentConfig
from agents.core.runs.history import History
from agents.core.training.optimizer import lr_factor_at
from visualization import render
from visualization.records import Curves

RUNS = "runs/lab"
SEEDS = 5
DPI = 75
LENGTHS = (150, 200, 250, 300, 500, 700, 1000)
DEEP = (  # the notes' network, at the length at which a smaller one of theirs learned
    "--set num_layers=5 --set hidden_size=512 --set task.train_length=10 --set task.length=10 "
    "--set steps=240 --set eval_every=40 --set log_every=10"
)
SOLVED = 0.01  # MSE; always answering 1 has 1/6
ADAM = "--set optimizer=adam --set learning_rate=1e-3 --set schedule=constant"
WAYS = {  # of learning the adding problem: what it is called, and the settings beside the defaults
    "in stages": "",
    "at full length": "--set curriculum_loss_threshold=null",
    "at full length, chrono": "--set curriculum_loss_threshold=null --set init=chrono "
    "--set chrono_length={t}",
    "the notes' recipe": f"--set curriculum_loss_threshold=null --set forget_bias=1.0 {ADAM} "
    "--set clip_norm=null --set batch_size=32",
    "IRNN": f"--set curriculum_loss_threshold=null --set cell=relu_rnn --set init=identity {ADAM}",
    "tanh RNN": f"--set curriculum_loss_threshold=null --set cell=rnn --set init=default {ADAM}",
}


RECIPE = {  # the default recipe at T = 1000, with one part of it changed
    "as it is": "",
    "torch's own start": "--set init=default",
    "forget gates' bias 1": "--set forget_bias=1.0",
    "gradients cut at 1": "--set clip_norm=1.0",
    "Adam alone, 5e-3": "--set optimizer=adam",
    "batches of 50": "--set batch_size=50",
    "bfloat16": "--set precision=auto",  # where the CPU multiplies it natively
    "gradients through the last 200 steps": "--set bptt_steps=200",
}


def command(arguments: str, folder: str) -> None:
    """Run one command of the command line in a folder."""
    print(f"python main.py {arguments}")
    words = f"main.py {arguments} --run-dir {folder}".split()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)


def run(name: str, arguments: str) -> dict[str, float]:
    """Train one agent; return its scores on the test, and the seconds of learning."""
    command(arguments, f"{RUNS}/{name}")
    folder = ROOT / RUNS / name
    scores: dict[str, float] = json.loads((folder / "test.json").read_text())
    scores["seconds"] = history(folder).series("time/seconds")[1][-1]
    print("   ", scores)
    return scores


def history(folder: Path) -> History:
    """Return the records of a run."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return History([json.loads(line) for line in lines])


def adding() -> None:
    """Every way of learning the adding problem, at every length of the notes."""
    agent = f"--agent adding_lstm --task adding_problem --set target_score={SOLVED}"
    over = f"task.length={','.join(map(str, LENGTHS))}"
    lowest: dict[str, tuple[list[int], list[float]]] = {}
    print(f"| learned | {' | '.join(f'T = {t}' for t in LENGTHS)} |\n|---|{'---|' * len(LENGTHS)}")
    for way, settings in WAYS.items():
        name = f"adding-{re.sub('[^a-zA-Z]+', '-', way)}"
        folders = {t: ROOT / RUNS / name / f"task.length={t}" for t in LENGTHS}
        if not all(_is_over(folder) for folder in folders.values()):
            parts = [f"task.length={t}" for t in LENGTHS] if "{t}" in settings else [over]
            for t, part in zip(LENGTHS, parts, strict=False):
                chosen = f"{agent} {settings.format(t=t)} --mode sweep --grid {part}"
                command(chosen, f"{RUNS}/{name}")
        found = {t: history(folder) for t, folder in folders.items()}
        print(f"| {way} | {' | '.join(_word(held) for held in found.values())} |")
        learned = {t: _lowest(held) for t, held in found.items() if len(held)}
        lowest[way] = ([*learned], [*learned.values()])
        if way == "in stages":
            save("adding_losses", Curves({
                f"T = {t}": {
                    "training": found[t].series("train/loss"),
                    "validation": found[t].series("eval/loss"),
                }
                for t in (150, 1000)
            }, frozenset({"T = 150", "T = 1000"})), DPI)  # fmt: skip
            seconds = ([*found], [_seconds(held) for held in found.values()])
    adding_recipe(agent)
    save("adding_ways", Curves({
        "lowest validation MSE": lowest,
        "in stages: seconds until it is solved": {"in stages": seconds},
    }, frozenset({"lowest validation MSE"}), "length T, steps"), DPI)  # fmt: skip


def adding_recipe(agent: str) -> None:
    """What each part of the recipe does at T = 1000, and the whole of it with three seeds."""
    print("| T = 1000, changed | MSE below 0.01 |\n|---|---|")
    for what, settings in RECIPE.items():
        name = f"adding-1000-{re.sub('[^a-zA-Z0-9]+', '-', what)}"
        if not _is_over(ROOT / RUNS / name):
            command(f"{agent} --set task.length=1000 {settings}", f"{RUNS}/{name}")
        found = history(ROOT / RUNS / name)
        last = int(found.series("eval/loss")[0][-1])
        print(f"| {what} | {_word(found)}, {last:,} steps |")
    for seed in range(3):
        name = f"adding-1000-s{seed}"
        scores = run(name, f"--agent adding_lstm --task adding_problem --set task.length=1000 "
                           f"--seed {seed}")  # fmt: skip
        steps, losses = history(ROOT / RUNS / name).series("eval/loss")
        solved = next(s for s, loss in zip(steps, losses, strict=True) if loss < SOLVED)
        print(f"seed {seed}: below {SOLVED} after {solved} steps; test {scores}")


def _is_over(folder: Path) -> bool:
    status = folder / "status.json"
    return status.exists() and json.loads(status.read_text())["state"] in ("done", "diverged")


def _lowest(found: History) -> float:
    return min(found.series("eval/loss")[1], default=float("inf"))


def _seconds(found: History) -> float:
    return found.series("time/seconds")[1][-1]


def _word(found: History) -> str:
    if _lowest(found) < SOLVED:
        return f"**{_seconds(found):.0f} s**"
    return f"{_lowest(found):.3f} ({_seconds(found):.0f} s)" if len(found) else "diverged"


def parity() -> None:
    """Train with and without stages, draw the losses and the automaton."""
    agent = "--agent parity_lstm --task parity"
    for seed in range(SEEDS):
        run(f"parity-s{seed}", f"{agent} --seed {seed}")
    run("parity-at-once", f"{agent} --set curriculum_loss_threshold=null")
    run("mod3", "--agent parity_lstm --task mod3")
    run("xor2", "--agent parity_lstm --task xor2")
    staged, plain = (history(ROOT / RUNS / name) for name in ("parity-s0", "parity-at-once"))
    save("parity_loss", Curves({
        "training loss, nats": {
            "in stages": staged.series("train/loss"),
            "at full length from the start": plain.series("train/loss"),
        },
        "stage (sequences of at most 2 to this power bits)": {
            "stage": staged.series("train/stage"),
        },
    }), DPI)  # fmt: skip
    for name in ("parity-s0", "mod3"):
        agent = agents.load(ROOT / RUNS / name / "best.safetensors", "cpu")
        machine = agent.inspect(["automaton"])["automaton"]["reader"]
        print(f"{name}: {machine.num_states} states, agreement {machine.agreement:.4f}")
        save(f"automaton_{name.split('-')[0]}", machine, DPI)


def digits() -> None:
    """Bundled scans; with MNIST=folder of the t10k idx files, those too."""
    for seed in range(3):
        run(f"digits-s{seed}", f"--agent digits_lstm --task digits --seed {seed}")
    agent = agents.load(ROOT / RUNS / "digits-s0" / "best.safetensors", "cpu")
    save("digits_probes", agent.inspect(["probes"])["probes"]["reader"], DPI)
    folder = os.environ.get("MNIST")
    for seed in range(3 if folder else 0):
        files = " ".join(
            f"--set task.{kind}={folder}/t10k-{kind}-idx{rank}-ubyte.gz"
            for kind, rank in (("images", 3), ("labels", 1))
        )
        mnist = f"--config configs/mnist_rows.yaml {files} --seed {seed}"
        run(f"mnist-s{seed}", mnist)
        if seed == 0:
            run("mnist-unmoved", f"{mnist} --set task.shift=0")


def doctor() -> None:
    """Examine a run that learns nothing, and a network that is too deep; the notes had both."""
    deep = f"--agent parity_lstm --task parity {DEEP}"
    for name, arguments in (
        (
            "parity-at-once",
            "--agent parity_lstm --task parity --set curriculum_loss_threshold=null",
        ),
        ("deep", deep),
        ("deep-slower", f"{deep} --set learning_rate=0.002"),
    ):
        run(name, arguments)
        print(f"python main.py --mode diagnose --run-dir {RUNS}/{name}")
        newest = max((ROOT / RUNS / name / "checkpoints").iterdir())
        report = diagnose_agent(agents.load(newest, "cpu"))
        print(render.text(report["summary"]))
        if name != "deep":
            (problem,) = report["summary"].problems
            save(f"doctor_{name}", problem, DPI)
        if name == "parity-at-once":
            save("doctor_summary", report["summary"], DPI)
    cured = deep.replace("num_layers=5", "num_layers=1")
    run("deep-cured", f"{cured} --set learning_rate=0.002")


def rates() -> None:
    """Draw the schedules, and a range test."""
    adder = agents.make("seq2seq_adder", task="add3x3", device="cpu")
    save("find_lr", range_test(adder), DPI)
    steps = list(range(1, 1001))

    def shape(schedule: str, factor: float) -> tuple[list[int], list[float]]:
        config = AgentConfig(schedule=schedule, lr_decay=factor)
        return steps, [lr_factor_at(config, step, len(steps)) for step in steps]

    save("schedules", Curves({
        "share of the highest learning rate": {
            "one_cycle": shape("one_cycle", 0.1),
            "cosine": shape("cosine", 0.1),
            "constant": shape("constant", 0.1),
        },
        "with lr_cycles=4": {
            "warm_restarts": shape("warm_restarts", 0.1),
            "step, lr_decay=0.5": shape("step", 0.5),
            "cyclical, lr_decay=0.1": shape("cyclical", 0.1),
        },
    }), DPI)  # fmt: skip


SECTIONS: Mapping[str, Callable[[], Any]] = {
    "adding": adding,
    "parity": parity,
    "digits": digits,
    "doctor": doctor,
    "rates": rates,
}


if __name__ == "__main__":
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()
