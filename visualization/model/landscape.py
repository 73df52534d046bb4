"""Loss landscape: on a line between two states of a model, and on a plane."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import (
    Images,
    as_images,
    as_logits,
    as_tensor,
    batches,
    check_tensor,
    inspection_mode,
)
from visualization.core.records import brief_repr
from visualization.model.budget import MOST_POINTS, count_inputs, points_per_axis, report_progress
from visualization.model.parameter_space import (
    State,
    check_shapes,
    coordinates,
    fill_missing,
    random_directions,
)

Loss = Callable[[nn.Module], float | Tensor | Mapping[str, float | Tensor]]
_BATCH = 256  # images of a pass that takes statistics
_MARGIN = 0.1  # beyond a trajectory that leaves the span, as a share of the plane's width


@attrs.frozen(eq=False, field_transformer=brief_repr)
class LandscapeLine:
    """Loss along the line through two states, a at 0 and b at 1, at P points.

    Attributes:
        alphas: positions (P,), rising; 0 and 1 are among them.
        values: by name (P,), the loss first.
        names: of the two states.
        statistics: where BatchNorm's came from at each point, "" for a model that has none.
    """

    alphas: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    names: tuple[str, str]
    statistics: str

    @property
    def loss(self) -> NDArray[np.float64]:
        """The loss at each point (P,)."""
        return next(iter(self.values.values()))

    @property
    def barrier(self) -> float:
        """How far the loss rises between a and b above the straight line from a's to b's, ≥ 0.

        The error barrier of Frankle et al. (1912.05671), for the loss: near 0, the two lie in one
        valley.
        """
        between = (self.alphas >= 0) & (self.alphas <= 1)
        chord = np.interp(self.alphas, [0, 1], self.loss[np.isin(self.alphas, (0, 1))])
        return float((self.loss - chord)[between].max())


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class LandscapePlane:
    """Loss on a plane through a model, at θ + x·d₁ + y·d₂.

    Attributes:
        x: places along the first direction (P,), as multiples of it.
        y: along the second (P,).
        values: by name (P, P), rows along y; the loss first.
        center: by name, those of the model itself, at (0, 0).
        directions: what the two directions are, in words.
        trajectory: where checkpoints fall on the plane (T, 2), as x and y; None: none were given.
        residual: of each checkpoint's distance from the model, the share that is at a right angle
            to the plane, in [0, 1] (T,).
        statistics: where BatchNorm's came from at each point, "" for a model that has none.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    center: Mapping[str, float]
    directions: str
    trajectory: NDArray[np.float64] | None
    residual: NDArray[np.float64] | None
    statistics: str

    @property
    def loss(self) -> NDArray[np.float64]:
        """The loss at each point (P, P)."""
        return next(iter(self.values.values()))

    @property
    def minimum(self) -> tuple[float, float]:
        """The x and y of the point with the least loss."""
        row, column = np.unravel_index(np.nanargmin(self.loss), self.loss.shape)
        return float(self.x[column]), float(self.y[row])


def classification_loss(images: Images, labels: ArrayLike | Tensor, batch_size: int = 500) -> Loss:
    """Classification loss: the mean cross entropy, and the accuracy, over images.

    The classifier outputs logits (B, K), or a softmax, which is noticed by its sum.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> loss = classification_loss(torch.zeros(3, 1, 2, 2), [0, 1, 1])
    >>> sorted(loss(model))
    ['accuracy', 'loss']

    Args:
        images: (B, C, H, W).
        labels: the right classes (B,).
        batch_size: images in one pass.

    Raises:
        ValueError: another number of labels than of images.
    """
    classes = as_tensor(labels, "labels").long()
    if classes.shape != images.shape[:1]:
        problem = f"shape {tuple(classes.shape)} does not go with {len(images)} images"
        raise argument_error("labels", problem, "one class for each")

    def loss(model: nn.Module) -> Mapping[str, float]:
        total, right = 0.0, 0
        with torch.no_grad():
            for first in range(0, len(classes), batch_size):
                batch = as_images(images[first : first + batch_size], model)
                answers = as_logits(check_tensor(model(batch), "the model"))
                truth = classes[first : first + batch_size].to(answers.device)
                total += float(F.cross_entropy(answers, truth, reduction="sum"))
                right += int((answers.argmax(dim=1) == truth).sum())
        return {"loss": total / len(classes), "accuracy": right / len(classes)}

    return loss


def landscape_line(
    model: nn.Module,
    loss: Loss,
    state_a: State,
    state_b: State,
    num: int = 25,
    extend: float = 0.25,
    *,
    statistics: Images | None = None,
    names: tuple[str, str] = ("a", "b"),
) -> LandscapeLine:
    """Linear interpolation of the loss between two states of a model (Goodfellow et al. 2015).

    The parameters at α are (1 − α)·a + α·b (Goodfellow et al. 1412.6544). Running statistics of
    BatchNorm, and other buffers, are interpolated likewise; beyond the ends they are those of the
    nearer end, since a variance must not fall below 0. Statistics of a mixture of two networks are
    not a mixture of theirs, so that two good networks may seem further apart than they are: pass
    `statistics` to recompute them at each point.

    Args:
        model: any module; its own state does not matter, and is the same afterwards.
        loss: is called with the model, in evaluation mode without gradients, at each point; returns
            a number, or numbers by name, the loss first. See `classification_loss`. For an agent:
            `lambda model: agent.mean_loss(batch)`.
        state_a: a state dict of the model, at α = 0.
        state_b: another, at α = 1.
        num: points, evenly spread; 0 and 1 are added where they are not among them.
        extend: how far the line continues at each end, ≥ 0, as a multiple of the way from a to b.
        statistics: images (B, C, H, W), from which those of BatchNorm are taken at each point.
        names: of the two states, for the picture.

    Raises:
        ValueError: a state that does not fit the model, a number out of range, or a loss that
            returns something else.
    """
    if num < 2 or extend < 0:
        accepted = "num of 2 or more, extend of 0 or more"
        raise value_error("num, extend", f"{num}, {extend}", accepted)
    for name, state in (("state_a", state_a), ("state_b", state_b)):
        _check_state(model, state, name)
    alphas = np.linspace(-extend, 1 + extend, num).round(12)
    alphas = np.union1d(alphas, (0.0, 1.0))
    values = []
    with _restore_tensors(model):
        for alpha in alphas:
            _mix(model, state_a, state_b, float(alpha))
            values.append(_evaluate(model, loss, statistics))
    return LandscapeLine(
        alphas, _by_name(values), names, _statistics_source(model, statistics, "interpolated")
    )


def landscape_plane(
    model: nn.Module,
    loss: Loss,
    span: float = 1.0,
    num: int | None = None,
    seed: int = 0,
    directions: tuple[State, State] | None = None,
    *,
    trajectory: Sequence[State] = (),
    statistics: Images | None = None,
    progress: Callable[[str], None] | None = None,
) -> LandscapePlane:
    """Loss landscape on a plane through a model (Li et al. 1712.09913).

    By default the plane is spanned by two random directions of which each filter has the norm of
    the model's filter, so that pictures of different networks can be compared; see
    `random_directions`. Buffers, such as running statistics of BatchNorm, stay the model's own
    unless `statistics` are given. The loss is taken `num`² times.

    Args:
        model: any module.
        loss: is called with the model at each point; see `landscape_line`.
        span: x and y go from −span to span. Where the trajectory leaves that square, the plane is
            a larger square around it.
        num: points along each axis; of an odd number, without a trajectory, (0, 0) is one. None:
            from 11 to 21, so that the model gets no more than 2²⁶ numbers if that can be: 13 for a
            loss over 400 images (1, 28, 28).
        seed: of the random directions.
        directions: two of one's own, changes of parameters by name, such as the difference of a
            state from the model; those not named stay.
        trajectory: state dicts, such as checkpoints in order, projected on the plane.
        statistics: images (B, C, H, W), from which those of BatchNorm are taken at each point.
        progress: is called with the point that begins, in words, such as `print`.

    Raises:
        ValueError: directions or checkpoints that do not fit the model or each other, a number out
            of range, or a loss that returns something else.
    """
    most = MOST_POINTS if num is None else num
    if most < 2 or span <= 0:
        raise value_error("num, span", f"{most}, {span}", "num of 2 or more, span above 0")
    axes = random_directions(model, seed) if directions is None else directions
    plane = fill_missing(model, axes)
    trajectory_xy, outside = coordinates(model, plane, trajectory)
    with _restore_tensors(model):
        with count_inputs(model) as input_counts:
            center = _evaluate(model, loss, statistics)
        side = num or points_per_axis(sum(input_counts))
        x, y = _axes(span, side, trajectory_xy)
        points = report_progress(_places(model, plane, x, y), side**2, progress)
        values = [_evaluate(model, loss, statistics) for _ in points]
    description = f"random directions, filter by filter as long as the model (seed {seed})"
    on_plane, off_plane = (trajectory_xy, outside) if len(trajectory) else (None, None)
    return LandscapePlane(
        x=x, y=y, center=center, trajectory=on_plane, residual=off_plane,
        values={name: rows.reshape(side, side) for name, rows in _by_name(values).items()},
        directions=description if directions is None else "given directions",
        statistics=_statistics_source(model, statistics, "the model's own"),
    )  # fmt: skip


def _axes(
    span: float, num: int, trajectory_xy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places along both axes, of equal length, around (0, 0) and a trajectory (T, 2)."""
    corners = np.array([[-span, -span], [span, span]])
    around = np.concatenate([corners, trajectory_xy])
    low, high = around.min(axis=0), around.max(axis=0)
    if np.array_equal(np.stack([low, high]), corners):
        axis = np.linspace(-span, span, num)
        axis[np.abs(axis) < 1e-9 * span] = 0.0  # the model itself, to the last bit
        return axis, axis
    middle, half = (low + high) / 2, float((high - low).max()) * (0.5 + _MARGIN)
    x, y = (np.linspace(centre - half, centre + half, num) for centre in middle)
    return x, y


@contextlib.contextmanager
def _restore_tensors(model: nn.Module) -> Iterator[None]:
    """Restore a model's parameters and buffers after a block, bit by bit.

    Values are written into the tensors that there are, so that a loss which holds the model itself,
    or a view of its parameters, sees them too.
    """
    tensors = [*model.parameters(), *model.buffers()]
    values = [tensor.detach().clone() for tensor in tensors]
    with inspection_mode(model), torch.no_grad():
        try:
            yield
        finally:
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)


def _mix(model: nn.Module, a: State, b: State, alpha: float) -> None:
    """Set a model to (1 − α)·a + α·b; its buffers to those of the nearer end beyond the ends."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, tensor in _tensors(model.state_dict()).items():
        weight = alpha if name in parameters else min(max(alpha, 0.0), 1.0)
        ends = a[name].to(tensor.device), b[name].to(tensor.device)
        if tensor.is_floating_point():
            tensor.copy_(torch.lerp(ends[0].to(tensor), ends[1].to(tensor), weight))
        else:  # such as the number of batches
            tensor.copy_(ends[weight >= 0.5])


def _places(
    model: nn.Module,
    plane: Sequence[State],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> Iterator[None]:
    """Set a model to one point of the plane after the other, row by row.

    A plain loop: all points at once, by `torch.func.vmap` over stacked parameters, took 2 to 6
    times as long on a CPU with convolutions of 16 to 32 channels, since each point's convolution
    becomes a group of its own.
    """
    own = {name: (p, p.detach().clone()) for name, p in model.named_parameters()}
    for up in y:
        rows = {n: torch.add(value, plane[1][n], alpha=float(up)) for n, (_, value) in own.items()}
        for right in x:
            for name, (parameter, _) in own.items():
                parameter.copy_(torch.add(rows[name], plane[0][name], alpha=float(right)))
            yield


def _evaluate(model: nn.Module, loss: Loss, statistics: Images | None) -> dict[str, float]:
    """Return what the loss gives for a model as it is, by name.

    Raises:
        ValueError: it returns no numbers.
    """
    if statistics is not None:
        _take_statistics(model, statistics)
    result: Any = loss(model)
    numbers = dict(result) if isinstance(result, Mapping) else {"loss": result}
    if not numbers or not all(map(_is_number, numbers.values())):
        accepted = "a number, or numbers by name, the loss first"
        raise argument_error("loss", f"returns {result!r}", accepted)
    return {name: float(value) for name, value in numbers.items()}


def _is_number(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return bool(np.prod(value.shape) == 1)
    return isinstance(value, (int, float, np.number))


def _by_name(points: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array([values[name] for values in points]) for name in points[0]}


def _take_statistics(model: nn.Module, images: Images) -> None:
    """Recompute BatchNorm's running statistics, as the mean over batches of images."""
    norms = _normalisations(model)
    momenta = [module.momentum for module in norms]
    try:
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # a mean that weighs all batches the same
            module.training = True
        for batch in batches(images, model, _BATCH):
            model(batch)
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
            module.training = False


def _normalisations(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the layers that hold running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]


def _statistics_source(model: nn.Module, statistics: Images | None, otherwise: str) -> str:
    if not _normalisations(model):
        return ""
    return otherwise if statistics is None else "recomputed"


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _check_state(model: nn.Module, state: State, name: str) -> None:
    """Raise a ValueError unless a state dict is one of the model."""
    own, tensors = _tensors(model.state_dict()), _tensors(state)
    for problem, names in (
        ("is missing", [each for each in own if each not in tensors]),
        ("is not in the model", [each for each in tensors if each not in own]),
    ):
        if names:
            more = f", as {'is' if len(names) == 2 else 'are'} {len(names) - 1} more"
            message = f"{names[0]!r} {problem}{more if len(names) > 1 else ''}"
            raise argument_error(name, message, "a state dict of the model")
    check_shapes(own, tensors, name)
