"""Make the table and the pictures of docs/attribution.md: `python docs/attribution.py`.

A small classifier learns the scans of digits that come with scikit-learn (seconds), and all methods
explain its answers: faithfulness, what randomisation leaves, and time, on two cores some minutes.
"""

import time
from typing import Any

import numpy as np
import torch
from make_pictures import PICTURES

import agents
from visualization import conv, render
from visualization.attribution.figures import TITLES
from visualization.attribution.methods import METHODS
from visualization.attribution.relevance.composites import LrpComposite
from visualization.attribution.relevance.rules import Epsilon, Flat, z_plus

NUM = 40  # test scans that are explained
SHOWN = 4  # in pictures
SETTINGS = {"steps": 300, "eval_every": 300, "channels": 8, "num_stages": 2, "threads": 1}


def save(name: str, record: object, dpi: int = 80) -> None:
    """Draw a record into docs/pictures, and print what its text says."""
    (PICTURES / f"attribution_{name}.png").write_bytes(render.png(render.draw(record), dpi))
    print(f"docs/pictures/attribution_{name}.png")
    print("    " + render.text(record).replace("\n", "\n    "))


def explain(model: torch.nn.Module, images: Any) -> tuple[conv.Attributions, dict[str, float]]:
    """Return the maps of all methods, and the milliseconds that each took for an image."""
    begun: dict[str, float] = {}

    def note(words: str) -> None:
        begun[words.partition(",")[0]] = time.perf_counter()

    conv.attributions(model, images[:1])  # what is imported on a first call is not counted
    record = conv.attributions(model, images, progress=note)
    ends = [*list(begun.values())[1:], time.perf_counter()]
    return record, {
        name: 1000 * (end - start) / len(images)
        for (name, start), end in zip(begun.items(), ends, strict=True)
    }


def table(
    record: conv.Attributions, model: torch.nn.Module, images: Any, times: dict[str, float]
) -> None:
    """Print faithfulness, sanity and time of each method as a table of a page."""
    faithful = conv.faithfulness(model, images, record.maps)
    down, up = faithful.deletion_area(), faithful.insertion_area()
    slow = ("smooth_grad", "occlusion", "rise")  # a copy of the model for each layer takes long
    names = [name for name in METHODS if name not in slow]
    check = conv.randomisation_check(model, images[:8], methods=names)
    print("| method | deletion ↓ | insertion ↑ | last layer random | all random | ms an image |")
    print("|---|---|---|---|---|---|")
    for name in sorted(down, key=lambda each: (down[each] - up[each]).mean()):
        cells = [_mean(down[name]), _mean(up[name])]
        for stage in (1, -1):
            values = check.absolute.get(name)
            cells.append(
                "" if values is None else f"{np.nanmean(values[stage]):.2f}".replace("-", "−")
            )
        cells.append(f"{times[name]:.1f}" if name in times else "")
        title = TITLES.get(name, name).replace("\n", " ")
        print(f"| {title} | {' | '.join(cells)} |")


def _mean(values: Any) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def balances(model: torch.nn.Module, images: Any) -> None:
    """Print how much of the scores reaches the pixels, by composite, and draw one of them."""
    unbiased = LrpComposite(
        convolution=z_plus(bias=False), linear=Epsilon(bias=False), first=Flat()
    )
    for name in ("epsilon", "epsilon_plus", "epsilon_gamma_box", "epsilon_plus_flat", unbiased):
        balance = conv.relevance_balance(model, images, composite=name)
        share = balance.relevance.sum() / balance.scores.sum()
        words = name if isinstance(name, str) else "epsilon_plus_flat, biases without a share"
        print(f"{words}: {100 * share:.1f} % of the scores reach the pixels")
    save("balance", conv.relevance_balance(model, images), dpi=100)


def main() -> None:
    """Learn, explain, and draw."""
    begun = time.perf_counter()
    agent = agents.make("cnn_classifier", task="digits", seed=0, **SETTINGS).learn()
    print(f"learned in {time.perf_counter() - begun:.0f} s: {agent.evaluate()}")
    images = agent.task.samples("test", NUM).image
    layer = conv.feature_layers(agent.model, images[0], 4)[-1]
    record, times = explain(agent.model, images)
    table(record, agent.model, images, times)
    save("methods", conv.attributions(agent.model, images[:SHOWN]))
    save("channels", conv.channel_relevance(agent.model, images[:SHOWN], layer=layer))
    balances(agent.model, images)


if __name__ == "__main__":
    main()
