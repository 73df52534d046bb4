"""Make the pictures of docs/ again: `make docs`.

Trains the demo (or takes its finished run), and draws what it printed, its report, its page in
TensorBoard, the experiments of docs/experiments.json and the figures of benchmarks/results.json.
Pages need Chromium (Debian: `apt-get install chromium`); without it they are left as they are.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import agents
from visualization import render
from visualization.records import AnswerTable, Bars, Curves, Transcript

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
RUN = Path("runs") / "demo"
DEMO = ["main.py", "--agent", "seq2seq_adder", "--task", "add3x3"]


def save(name: str, record: object, dpi: int = 100) -> None:
    """Draw a record into docs/pictures."""
    (PICTURES / f"{name}.png").write_bytes(render.png(render.draw(record), dpi))
    print(f"docs/pictures/{name}.png")


def demo() -> None:
    """Run the demo, if it was not yet run from here, and draw what it showed."""
    folder = ROOT / RUN
    shown = folder / "terminal.txt"
    if not shown.exists():
        command = [sys.executable, *DEMO, "--run-dir", str(RUN)]
        done = subprocess.run(
            command, cwd=ROOT, check=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        shown.write_text(done.stdout)
    lines = shown.read_text().splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    rest = lines[lines.index(steps[-1]) + 1 :]
    kept = ["$ python " + " ".join(DEMO), *steps[:2], "…", *steps[-3:], *rest]
    save("terminal", Transcript("\n".join(kept)))
    agent = agents.load(folder / "best.safetensors")
    answers, batch = agent.predict_split("test", 10)
    rows = agent.task.rows(answers, batch)
    save("answers", AnswerTable("worked answers", rows))
    panels = agent.history.curves().panels
    save("curves", Curves({k: v for k, v in panels.items() if k != "learning rate"
                           and k != "gradient norm"}, frozenset({"loss"})))  # fmt: skip
    agent.inspect().save(folder / "report.html")
    photograph("report", (folder / "report.html").as_uri(), "940,1250")


def photograph(name: str, address: str, size: str) -> None:
    """Take a picture of a page in headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print(f"docs/pictures/{name}.png is left as it is: there is no Chromium here")
        return
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                "--no-first-run", "--disable-background-networking", "--disable-component-update",
                "--disable-sync", f"--user-data-dir={profile}", f"--window-size={size}",
                "--virtual-time-budget=30000", f"--screenshot={PICTURES / name}.png", address,
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    print(f"docs/pictures/{name}.png")


def tensorboard() -> None:
    """Serve the demo's run folder and take a picture of its scalars."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs = tempfile.mkdtemp()  # the training's events only, without those of later inspections
    for file in (ROOT / RUN).glob("events.*"):
        shutil.copy(file, logs)
    command = ["-m", "tensorboard.main", "--logdir", logs, "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(120):
            time.sleep(0.5)
            try:
                tags = urllib.request.urlopen(f"{address}data/plugin/scalars/tags").read()
            except OSError:
                continue
            if b"train/loss" in tags:
                break
        photograph("tensorboard", f"{address}?darkMode=false#timeseries", "1200,900")
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(logs)


def measured(name: str, command: str) -> dict[str, Any]:
    """Return a file of measurements; if there is none, say which command makes it."""
    path = ROOT / name
    if not path.exists():
        sys.exit(f"{name} is missing: {command} makes it")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def experiments() -> None:
    """Draw the scores of the notes' experiments."""
    found = measured("docs/experiments.json", "python docs/experiments.py")
    panels = {
        "exact match, % of whole answers": "exact_match",
        "token accuracy, % of characters": "token_accuracy",
    }
    save("experiments", Bars({
        title: {name: 100 * float(result[key]) for name, result in found.items()}
        for title, key in panels.items()
    }, digits=1))  # fmt: skip


def performance() -> None:
    """Draw the measured speeds."""
    results = measured("benchmarks/results.json", "make bench")
    panels = {}
    for cpu, entry in sorted(results["accuracy"].items()):
        seconds = entry["figures"]["median_seconds"]
        reached = {name: value for name, value in seconds.items() if value is not None}
        panels[f"seconds of training to 99 % exact, add3x2, {cpu}"] = reached
    save("time_to_99", Bars(panels, {"Terrarium"}, 1))
    batches = results["peers"]["AVX512-BF16"]["figures"]["batches"]
    speeds = {name: figures["samples_per_s"] for name, figures in batches["128"].items()}
    ours = [name for name in speeds if name.startswith("Terrarium")]
    save("throughput", Bars({"samples a second, batch 128": speeds}, ours))


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    demo()
    tensorboard()
    experiments()
    performance()


if __name__ == "__main__":
    main()
