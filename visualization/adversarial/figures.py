"""Adversarial images, how much a model withstands, and what deceives several models."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from torch import Tensor

from visualization.adversarial.attacks import Attack
from visualization.adversarial.fooling import FoolingImages
from visualization.adversarial.norms import NORMS
from visualization.adversarial.problem import AdversarialImages
from visualization.adversarial.robustness import MinimalPerturbation, RobustnessCurve
from visualization.adversarial.transfer import TransferTable
from visualization.core.pictures import draw_image, draw_signed
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, GOOD, INK, MUTED, SEQUENTIAL, axis_labels, despine
from visualization.core.words import display_width, share_of, shorten

_IMAGES_SHOWN = 8
_FOOLING_SHOWN = 10  # a column for each digit
_LONGEST, _SHORT = 14, 5  # characters of a class; of one that leaves room for a probability
_MODELS_SHOWN = 12
_ROWS = ("image", "change", "changed image")


def _class_name(number: Tensor, classes: Sequence[str]) -> str:
    return shorten(classes[int(number)] if classes else str(int(number)), _LONGEST)


def _number(value: float) -> str:
    return "none found" if np.isinf(value) else f"{value:.2g}"


_STARTS = {"noise": "noise", "blank": "a blank page", "images": "images of other things"}


def _strip(
    figure: Figure | SubFigure,
    record: AdversarialImages,
    numbers: NDArray[np.int64],
    below: Sequence[str],
) -> None:
    """Draw a column for each image: as it was, what was added, and as it is now."""
    images, results = (part[numbers].numpy() for part in (record.images, record.adversarial))
    change = results - images
    size = float(np.abs(change).max()) or 1.0
    limits = float(record.low.min()), float(record.high.max())
    if not np.isfinite(limits).all():
        limits = float(images.min()), float(images.max())
    grid = figure.subplots(3, len(numbers), squeeze=False)
    for column, image in enumerate(numbers):
        draw_image(grid[0, column], images[column], _answer_title(record, image, "before"), limits)
        _draw_change(grid[1, column], change[column], size)
        draw_image(grid[2, column], results[column], _answer_title(record, image, "after"), limits)
        grid[2, column].title.set_color(_verdict(record, image))
        grid[2, column].set_xlabel(below[column], fontsize=7, color=MUTED)
    for axes, name in zip(grid[:, 0], _ROWS, strict=True):
        axes.set_ylabel(name, fontsize=8, color=INK)
    full = f"full colour\n± {size:.2g}" if change.shape[1] == 1 else f"× {_gain(limits, size):.3g}"
    grid[1, 0].set_ylabel(f"change\n({full})", fontsize=8, color=INK)


def _answer_title(record: AdversarialImages, image: int, when: str) -> str:
    answer, confidence = {
        "before": (record.prediction, record.confidence),
        "after": (record.adversarial_prediction, record.adversarial_confidence),
    }[when]
    name = _class_name(answer[image], record.classes)
    percent = f"({100 * float(confidence[image]):.0f} %)"
    is_long = max(map(len, record.classes), default=0) > _SHORT
    return f"{name}\n{percent}" if is_long else f"{name} {percent}"


def _verdict(record: AdversarialImages, image: int) -> str:
    """Return red for an answer that was changed as wanted, green for one that was not."""
    goal = record.labels if record.target is None else record.target
    is_it = bool(record.adversarial_prediction[image] == goal[image])
    return BAD if is_it == (record.target is not None) else GOOD


def _gain(limits: tuple[float, float], size: float) -> float:
    return (limits[1] - limits[0]) / (2 * size)


def _draw_change(axes: Axes, change: NDArray[np.float32], size: float) -> None:
    """Draw what was added: of one channel red where it is brighter, of three around grey."""
    if len(change) == 3:
        draw_image(axes, change, "", (-size, size))
    else:
        draw_signed(axes, change.mean(axis=0), "", size)


@draw.register
def _(record: Attack) -> Figure:
    numbers = np.flatnonzero(record.attackable.numpy())[:_IMAGES_SHOWN]
    numbers = numbers if len(numbers) else np.arange(len(record.images))[:_IMAGES_SHOWN]
    figure = Figure(figsize=(1.0 + 1.05 * len(numbers), 4.5), layout="constrained")
    target = record.target
    below = ["" if target is None else f"wanted: {_class_name(target[image], record.classes)}"
             for image in numbers]  # fmt: skip
    _strip(figure, record, numbers, below)
    figure.suptitle("\n".join(_summary(record)), fontsize=9, color=MUTED)
    return figure


def _summary(record: Attack) -> list[str]:
    num_attackable, success = int(record.attackable.sum()), int(record.success.sum())
    aim = "changed" if record.target is None else "made the wanted one"
    norm = NORMS[record.norm].title
    attack = f"{record.method}, {norm} ≤ {record.epsilon:.3g}"
    lines = [f"{attack}: {success} of {num_attackable} answers {aim}"]
    if num_excluded := len(record.images) - num_attackable:
        was = "was" if num_excluded == 1 else "were"
        lines.append(f"{num_excluded} of {len(record.images)} images {was} {_exclusion(record)}")
    return lines


def _exclusion(record: AdversarialImages) -> str:
    return "wrong before" if record.target is None else "wrong, or the wanted one, before"


@text.register
def _(record: Attack) -> str:
    accuracy = (
        f"accuracy {record.clean_accuracy:.1%} before, {record.adversarial_accuracy:.1%} after"
    )
    flat = int(record.zero_gradient.sum())
    vanished = [f"{flat} images have a gradient of exactly 0"] if flat else []
    return "\n".join([*_summary(record), accuracy, *vanished])


@caption.register
def _(record: Attack) -> str:
    return (
        "Each column is an image, what was added to it (red: brighter, blue: darker; in colour: "
        "around grey), and the sum; above: the answer, with its probability, red where the attack "
        "got what it wanted."
    )


@draw.register
def _(record: MinimalPerturbation) -> Figure:
    attackable = np.flatnonzero((record.attackable & record.radius.isfinite()).numpy())
    order = attackable[np.argsort(record.radius[attackable].numpy(), kind="stable")]
    ranks = np.linspace(0, len(order) - 1, min(_IMAGES_SHOWN, len(order))).astype(int)
    figure = Figure(figsize=(1.0 + 1.05 * max(5, len(ranks)), 6.9), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.7, 1))[:, 0]
    if len(order):
        numbers = order[ranks]
        _strip(above, record, numbers, [_number(float(record.radius[image])) for image in numbers])
    _draw_survival(below.subplots(), record)
    figure.suptitle(
        f"the smallest change found, {NORMS[record.norm].title}, from the easiest image to the "
        "hardest; below each: its size", fontsize=9, color=MUTED,
    )  # fmt: skip
    return figure


def _draw_survival(axes: Axes, record: MinimalPerturbation) -> None:
    radius = np.sort(record.radius[record.attackable].double().numpy())
    shares = 100 * (1 - np.arange(len(radius) + 1) / max(len(radius), 1))
    ends = np.concatenate([[0.0], radius])
    finite = np.isfinite(ends)
    axes.step(ends[finite], shares[finite], where="post", color=COLORS[0])
    if np.isfinite(record.median):
        axes.plot([record.median], [50], "o", color=COLORS[1], markersize=5)
        axes.annotate(f"median {record.median:.3g}", (record.median, 50), (6, 4),
                      textcoords="offset points", fontsize=8, color=COLORS[1])  # fmt: skip
    despine(axes, "")
    num_excluded = len(record.radius) - len(radius)
    others = (
        f"; {num_excluded} more {'was' if num_excluded == 1 else 'were'} {_exclusion(record)}"
        if num_excluded
        else ""
    )
    axis_labels(axes, f"size of the change, {NORMS[record.norm].title}", "not yet changed, %")
    despine(axes, f"{len(radius)} images{others}")
    axes.set(ylim=(0, 103), xlim=(0, None))
    axes.grid(color="#eeeeee")


@text.register
def _(record: MinimalPerturbation) -> str:
    radius = record.radius[record.attackable].double()
    norm = NORMS[record.norm].title
    if not len(radius):
        return "no image had an answer that was to be changed"
    summary = {
        "smallest": float(radius.min()),
        "median": record.median,
        "largest": float(radius.max()),
    }
    rows = [f"{name:>9}: {_number(value)}" for name, value in summary.items()]
    return "\n".join([f"{norm} size of the change, of {len(radius)} images", *rows])


@caption.register
def _(record: MinimalPerturbation) -> str:
    return (
        "The least that has to be added before the answer changes, as far as was found; the curve "
        "says how many images withstand a change of that size."
    )


@draw.register
def _(record: RobustnessCurve) -> Figure:
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    ends = np.concatenate([[0.0], record.epsilons])
    for values, name, color in (
        (record.noise, "noise of that size", MUTED),
        (record.accuracy, "PGD attack", BAD),
    ):
        line = 100 * np.concatenate([[record.clean], values])
        axes.plot(ends, line, "o-", color=color, linewidth=1.5, markersize=3.5, label=name)
    chance = 100 / record.num_classes
    name = f"chance, 1 in {record.num_classes}"
    axes.axhline(chance, color=MUTED, linewidth=0.8, linestyle=":")
    axes.annotate(name, (1, chance), (-2, 3), textcoords="offset points",
                  xycoords=axes.get_yaxis_transform(), ha="right", fontsize=7,
                  color=MUTED)  # fmt: skip
    despine(axes, f"{record.num_images:,} images, {100 * record.clean:.1f} % right as they are")
    axis_labels(
        axes, f"size of the change, {NORMS[record.norm].title}, in units of a pixel", "right, %"
    )
    axes.set(ylim=(-2, 103), xlim=(0, None))
    axes.grid(axis="y", color="#eeeeee")
    axes.legend(fontsize=8, frameon=False)
    return figure


@text.register
def _(record: RobustnessCurve) -> str:
    rows = zip(record.epsilons, record.accuracy, record.noise, strict=True)
    lines = (f"{size:>10.4g}{right:>10.1%}{noise:>10.1%}" for size, right, noise in rows)
    return "\n".join([f"{'size':>10}{'attacked':>10}{'noise':>10}", *lines])


@caption.register
def _(record: RobustnessCurve) -> str:
    return (
        "How many answers stay right as the change grows, if it is chosen against the model (red) "
        "and if it is noise of the same size (grey)."
    )


@draw.register
def _(record: TransferTable) -> Figure:
    num = min(len(record.names), _MODELS_SHOWN)
    names = [shorten(name, _LONGEST) for name in record.names[:num]]
    size = (2.6 + 0.95 * num, 1.9 + 0.62 * num)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    values = 100 * np.concatenate([record.clean[None, :num], record.accuracy[:num, :num]])
    image = axes.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(values.shape):
        color = "white" if values[row, column] > 60 else INK
        is_own = row == column + 1
        axes.text(column, row if row == 0 else row - 0.12, f"{values[row, column]:.0f}",
                  ha="center", va="center", fontsize=10, color=color,
                  weight="bold" if is_own else "normal", in_layout=False)  # fmt: skip
        if row:
            noise = f"noise {100 * record.noise[row - 1, column]:.0f}"
            axes.text(column, row + 0.27, noise, ha="center", va="center", fontsize=7, color=color,
                      in_layout=False)  # fmt: skip
    axes.axhline(0.5, color="white", linewidth=4)
    is_long = max(map(display_width, names)) > _LONGEST - 2
    axes.set_xticks(range(num), names, rotation=90 if is_long else 0)
    axes.set_yticks(range(num + 1), ["images as they are", *(f"against {n}" for n in names)])
    more = share_of(len(record.names), num, "models")
    despine(axes, f"{record.method}, {NORMS[record.norm].title} ≤ {record.epsilon:.3g}, "
          f"{record.num_images:,} images{more and f'; {more}'}")  # fmt: skip
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("answered by", fontsize=9)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("right, %", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


@text.register
def _(record: TransferTable) -> str:
    width = max(map(len, record.names)) + 2
    head = " " * (width + 8) + "".join(f"{name:>{max(width, 8)}}" for name in record.names)
    rows = zip(("as they are", *record.names), (record.clean, *record.accuracy), strict=True)
    lines = [
        f"{name:<{width + 8}}" + "".join(f"{100 * value:>{max(width, 8)}.1f}" for value in values)
        for name, values in rows
    ]
    return "\n".join(["% right; rows: made against; columns: answered by", head, *lines])


@caption.register
def _(record: TransferTable) -> str:
    return (
        "Rows: the model that the images were made against; columns: the model that answers; bold: "
        "its own. Small: the same changes with random signs, which is what their size alone does."
    )


@draw.register
def _(record: FoolingImages) -> Figure:
    numbers = np.arange(min(len(record.images), _FOOLING_SHOWN), dtype=np.int64)
    figure = Figure(figsize=(1.0 + 1.05 * max(5, len(numbers)), 4.6), layout="constrained")
    _strip(figure, record, numbers, [_fooled(record, int(image)) for image in numbers])
    lines = [_fooling_summary(record)]
    if more := share_of(len(record.images), len(numbers), "images"):
        lines.append(more)
    figure.suptitle("\n".join(lines), fontsize=9, color=MUTED)
    return figure


def _fooled(record: FoolingImages, image: int) -> str:
    """Return what is written under a fooling image."""
    if record.reached[image]:
        return f"{float(record.distance[image]):.2g}"
    assert record.target is not None
    percent = 100 * float(record.target_confidence[image])
    return f"{_class_name(record.target[image], record.classes)}: {percent:.0f} %"


def _fooling_summary(record: FoolingImages) -> str:
    least = f"{100 * record.least_confidence:.6g} %"
    counts = f"{int(record.reached.sum())} of {len(record.images)}"
    return (
        f"from {_STARTS[record.start]}: {counts} are called what was asked with {least} or more; "
        f"below: {NORMS[record.norm].title} of the change"
    )


@text.register
def _(record: FoolingImages) -> str:
    assert record.target is not None
    lines = [_fooling_summary(record), f"{'asked':>14}{'%':>10}{'change':>9}{'steps':>7}"]
    rows = zip(record.target, record.target_confidence, record.distance, record.steps, strict=True)
    for target, confidence, distance, steps in rows:
        name, percent = _class_name(target, record.classes), 100 * float(confidence)
        lines.append(f"{name:>14}{percent:>10.4g}{float(distance):>9.3g}{int(steps):>7}")
    return "\n".join(lines)


@caption.register
def _(_: FoolingImages) -> str:
    return (
        "Each column is an image, what was added to it (red: brighter, blue: darker; in colour: "
        "around grey), and the sum, which the network calls what was asked for (red) as surely as "
        "was asked for; else under it: the probability that was reached."
    )
