"""Make figures and pictures of the page: `MNIST=FOLDER python docs/convolutional.py`.

Classifiers of scans are trained and looked into.

FOLDER has `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz`: 9,000 scans to learn from,
and 1,000 withheld. Without it nothing is made. Runs lie in runs/conv/, and one that is there is
not learned again. A part is named to make it alone.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from make_pictures import photograph

import agents
from agents.core.agent import Agent
from visualization import conv, render
from visualization.feature_maps.figures.progression import animation
from visualization.report import Report

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
RUNS = "runs/conv"
SEEDS = (0, 1, 2)
MNIST = os.environ.get("MNIST")
TASK = (
    f"--task mnist --set task.images={MNIST}/t10k-images-idx3-ubyte.gz "
    f"--set task.labels={MNIST}/t10k-labels-idx1-ubyte.gz --set task.shift=2"
)


def command(arguments: str) -> str:
    """Run a command of the command line; print it, and return what it printed."""
    print(f"$ python main.py {arguments}", flush=True)
    words = [sys.executable, "main.py", *arguments.split()]
    done = subprocess.run(words, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    return done.stdout


def folder(seed: int) -> Path:
    """Return the folder of a run, from the repository's root."""
    return Path(RUNS) / f"mnist-s{seed}"


def train() -> None:
    """Learn with three seeds, and print the scores on the withheld scans."""
    for seed in SEEDS:
        command(f"--agent cnn_classifier {TASK} --seed {seed} --run-dir {folder(seed)}")
        scores = json.loads((folder(seed) / "test.json").read_text())
        history = agents.load(folder(seed) / "best.safetensors").history
        seconds = history.series("time/seconds")[1][-1]
        print(f"seed {seed}: {scores}, {seconds:.0f} s of learning")


def agent() -> Agent:
    """Return the first trained agent."""
    return agents.load(folder(0) / "best.safetensors", device="cpu")


def save(name: str, record: object, dpi: int = 80) -> None:
    """Draw a record into docs/pictures, and print what its text says."""
    (PICTURES / f"conv_{name}.png").write_bytes(render.png(render.draw(record), dpi))
    print(f"docs/pictures/conv_{name}.png")
    words = render.text(record)
    if words:
        print("    " + words.replace("\n", "\n    "))


def views(*names: str) -> Report:
    """Inspect the agent, and print how long it took."""
    begun = time.perf_counter()
    report = agent().inspect(names)
    print(f"{', '.join(names)}: {time.perf_counter() - begun:.1f} s")
    return report


def flat(*names: str) -> Iterator[tuple[str, Any]]:
    """Yield the records of views."""
    yield from views(*names).flat()


def layer(place: int) -> str:
    """Return the name of one of the layers that views look at."""
    held = agent()
    image = held.task.samples("test", 1).image[0]
    return conv.feature_layers(held.model, image, 4)[place]


def simple(*names: str) -> Callable[[], None]:
    """Return what makes the pictures of views that have one record each."""

    def make() -> None:
        for name, record in flat(*names):
            save(name.replace("/", "_").replace(" ", "_").replace(",", ""), record)

    return make


def of_layer(view: str, place: int) -> Callable[[], None]:
    """Return what makes the picture of one layer of a view."""

    def make() -> None:
        save(view, views(view)[view][layer(place)])

    return make


def layers() -> None:
    """Draw the values of four layers, the weights of the first ones, and what is dead."""
    held = agent()
    batch = held.task.samples("test", 1000)
    names = conv.feature_layers(held.model, batch.image[0], 4)
    save("layers", conv.layer_activations(held.model, batch.image, names))
    report = views("weights", "dead_units")
    save("weights", report["weights"]["page 1"], dpi=60)
    save("dead_units", report["dead_units"])


def progression() -> None:
    """Draw how the maps of a layer came about, as a strip and as an animation."""
    record = views("progression")["progression"][layer(1)]
    save("progression", record, dpi=70)
    (PICTURES / "conv_progression.gif").write_bytes(animation(record, dpi=70))
    print("docs/pictures/conv_progression.gif")


def embedding() -> None:
    """Draw the images as points, by the last layer: neighbours, and principal components."""
    records = views("embedding")["embedding"]
    save("embedding", records["last layer"])
    save("components", records["components"])


def activated() -> None:
    """Draw the places at which a channel is excited, in a thousand scans."""
    held = agent()
    images = held.task.samples("test", 1000).image
    name = layer(2)
    half = float(conv.top_patches(held.model, name, images, [10], k=1).value[0, 0]) / 2
    save("activated", conv.activating_positions(held.model, name, 10, images, threshold=half))


def objectives() -> None:
    """Draw the way from one objective to another, and an image made to satisfy a demand."""
    held = agent()
    images, name = held.task.samples("test", 1000).image, layer(2)
    shape = images.shape[1:]
    between = conv.interpolation(conv.channel(name, 17), conv.channel(name, 20), 6)
    save("interpolation", conv.maximise(held.model, between, shape))
    half = conv.class_distribution([0, 0, 0, 0.5, 0, 0, 0, 0, 0.5, 0])
    save("satisfied", conv.solve(held.model, half, start=images[:1]))


def attacks() -> None:
    """Draw one step and many steps of the same size, and an attack that wants a certain answer."""
    held = agent()
    batch = held.task.samples("test", 8)
    labels = batch.label[:, 0]
    save("fgsm", conv.fgsm(held.model, batch.image, labels, 0.1))
    target = (labels + 1) % 10
    save("targeted", conv.pgd(held.model, batch.image, labels, 2.0, norm="l2", target=target))


def transfer() -> None:
    """Attack each of the three networks, and ask the others."""
    models = {f"seed {seed}": agents.load(folder(seed) / "best.safetensors", device="cpu").model
              for seed in SEEDS}  # fmt: skip
    batch = agent().task.samples("test", 200)

    def attack(model: Any, images: Any, labels: Any) -> conv.Attack:
        return conv.pgd(model, images, labels, 0.15, steps=20)

    save("transfer", conv.transfer_table(models, batch.image, batch.label[:, 0], attack))


def inspect() -> None:
    """Write the whole report, as a reader would."""
    begun = time.perf_counter()
    print(command(f"--mode inspect --run-dir {folder(0)}"), end="")
    pages = len(list((folder(0) / "units").rglob("*.html")))
    size = (folder(0) / "report.html").stat().st_size / 1e6
    print(f"{time.perf_counter() - begun:.0f} s, {size:.1f} MB, {pages} pages of units")


def unit() -> None:
    """Photograph the page of a unit, which `inspect` wrote."""
    page = (folder(0) / "units" / layer(1) / "13.html").resolve()
    photograph("conv_unit", page.as_uri(), "960,1280")


PARTS: dict[str, Callable[[], None]] = {
    "train": train,
    "inspect": inspect,
    "unit": unit,
    "fields": of_layer("fields", 2),
    "patches": of_layer("patches", 1),
    "activated": activated,
    "patterns": of_layer("patterns", 2),
    "perturbations": simple("perturbations"),
    "paste": simple("paste"),
    "response": simple("response", "map_edit"),
    "layers": layers,
    "progression": progression,
    "maximised": of_layer("maximised", 2),
    "labels": lambda: save("labels", views("maximised")["maximised"]["labels"]),
    "objectives": objectives,
    "dreams": simple("dream", "inversion"),
    "attribution": simple("attribution", "faithfulness", "sanity"),
    "attack": simple("attack", "robustness"),
    "attacks": attacks,
    "transfer": transfer,
    "concepts": simple("neighbours", "layer_probes"),
    "embedding": embedding,
    "dissection": of_layer("dissection", 1),
    "landscape": simple("landscape"),
}


def main(parts: list[str]) -> None:
    """Make the parts that are named, or all."""
    if MNIST is None:
        print("MNIST=FOLDER names no scans: the figures and pictures are left as they are")
        return
    os.chdir(ROOT)
    np.set_printoptions(precision=3, suppress=True)
    for name in parts or PARTS:
        print(f"## {name}", flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
