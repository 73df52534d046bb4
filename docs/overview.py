"""The picture of a report's overview in docs/using.md: `python docs/overview.py`.

Trains a small classifier of digits, 300 steps, and looks into its layers. Two minutes; it needs
Chromium.
"""

import tempfile
from pathlib import Path

from make_pictures import photograph

import agents

VIEWS = [
    "summary", "learning_curves", "wrong_answers", "weights", "dead_units", "patches",
    "layer_probes", "fields", "dissection",
]  # fmt: skip


def main() -> None:
    """Train, look, and take the picture."""
    agent = agents.make("cnn_classifier", task="digits", steps=300, seed=0).learn()
    with tempfile.TemporaryDirectory() as folder:
        page = agent.inspect(VIEWS).save(Path(folder) / "report.html")
        photograph("overview", page.as_uri(), "960,760")


if __name__ == "__main__":
    main()
