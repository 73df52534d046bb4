"""Layer activations: feature maps, histograms and dead units of every layer.

N images, U units, P places of a unit's map.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, check_share, not_called_error
from visualization.core.inputs import Images, batches, check_tensor, inspection_mode
from visualization.core.layout import UnitAxis, unit_axes
from visualization.core.tracing import NamedLayer, find_layer, intercept_outputs, layer_names
from visualization.model.histogram import Histogram
from visualization.model.values import DeadUnits, LayerActivations, LayerValues, UnitStates

_VECTOR = 256  # units of a vector that are kept of an image


def layer_activations(
    model: nn.Module,
    images: Images | Iterable[Any],
    layers: NamedLayer | Sequence[NamedLayer] | None = None,
    *,
    num_shown: int = 2,
    num_channels: int = 12,
    batch_size: int = 64,
) -> LayerActivations:
    """Layer activations: maps of a few images, and statistics over all.

    One pass over the data; memory does not grow with it. Units are along the first axis after
    the batch, or along the last where a layer works on that one (`nn.Linear`, `nn.LayerNorm`) and
    in element-wise layers after it.

    Args:
        model: any module.
        images: (B, C, H, W), or batches of them, such as a loader gives.
        layers: dotted names; None: every module without children whose output is a tensor. Each
            call of a layer that runs several times is an entry, `relu@0`, `relu@1`.
        num_shown: of how many images, the first, maps are kept.
        num_channels: of how many channels, those that vary most over these images.
        batch_size: images in one pass.

    Raises:
        ValueError: no image; no such layer; or one that was named and was not called,
            or outputs no tensor of floating-point numbers.
    """
    collector = _Collector(model, layers, num_shown, num_channels)
    first_images: list[NDArray[np.float32]] = []
    num_images = 0
    with inspection_mode(model), collector.watching(), torch.no_grad():
        for batch in batches(images, model, batch_size):
            collector.begin(len(batch))
            model(batch)
            first_images += list(batch[: max(num_shown - num_images, 0)].float().cpu().numpy())
            num_images += len(batch)
    if not num_images:
        raise argument_error("images", "there are none", "one or more")
    rows = collector.rows()
    pictures = (
        np.stack(first_images) if first_images else np.zeros((0, *batch.shape[1:]), np.float32)
    )
    return LayerActivations(
        layers=rows, images=pictures, num_images=num_images, skipped=tuple(collector.skipped),
        first=0, num_all=len(rows),
    )  # fmt: skip


def dead_units(
    model: nn.Module,
    images: Images | Iterable[Any],
    layers: NamedLayer | Sequence[NamedLayer] | None = None,
    *,
    share: float = 0.01,
    batch_size: int = 64,
) -> DeadUnits:
    """Dead units of each layer, and those that are constant, rarely or always active.

    "On" is above 0, which is meant for layers that output a rectified linear unit's values, or
    what one follows upon: a dead unit there has neither an effect nor a gradient.

    Args:
        model: any module.
        images: (B, C, H, W), or batches of them.
        layers: dotted names; None: every module without children whose output is a tensor.
        share: of the images, below which a unit is rarely on, in (0, 1].
        batch_size: images in one pass.

    Raises:
        ValueError: as `layer_activations`, or a share out of range.
    """
    check_share(share, "share", whole=True)
    layer_record = layer_activations(model, images, layers, num_shown=0, batch_size=batch_size)
    return _dead_units(layer_record.layers, layer_record.num_images, share)


def dead_units_while(
    model: nn.Module, run: Callable[[], Any], num_samples: int, *, share: float = 0.01
) -> DeadUnits:
    """Dead units of any model, whatever it reads: those of `dead_units`, while a function runs it.

    Args:
        model: any module; recurrent layers, which put out tuples, are left out.
        run: runs the model on all samples at once.
        num_samples: that it runs on.
        share: of the samples, below which a unit is rarely on, in (0, 1].
    """
    collector = _Collector(model, None, 0, 0)
    with inspection_mode(model), collector.watching(), torch.no_grad():
        collector.begin(num_samples)
        run()
    return _dead_units(collector.rows(), num_samples, share)


def _dead_units(rows: Sequence[LayerValues], num_samples: int, share: float) -> DeadUnits:
    states = [
        UnitStates(
            name=row.name,
            kind=row.kind,
            num_units=len(row.low),
            dead=row.dead,
            constant=row.constant,
            rarely_active=row.rarely_active(share),
            always_active=row.always_active,
        )
        for row in rows
    ]
    return DeadUnits(tuple(states), num_samples, share)


class _Collector:
    """Collects layer outputs, pass after pass."""

    def __init__(
        self,
        model: nn.Module,
        layers: NamedLayer | Sequence[NamedLayer] | None,
        num_shown: int,
        num_channels: int,
    ) -> None:
        self._model, self._is_selection = model, layers is not None
        self._names = _names(model, layers)
        self._sizes = num_shown, num_channels
        self._statistics: dict[tuple[str, int], _Running] = {}
        self._calls: dict[str, int] = {}
        self._num_images = 0
        self.skipped: dict[str, None] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Record the outputs of each pass within the block."""
        with (
            unit_axes(self._model) as axis,
            intercept_outputs(self._model, {name: self._tap(name, axis) for name in self._names}),
        ):
            yield

    def begin(self, num_images: int) -> None:
        """Begin a pass."""
        self._calls.clear()
        self._num_images = num_images

    def _tap(self, name: str, axis: UnitAxis) -> Callable[[Any], None]:
        module = find_layer(self._model, name).module

        def take(output: Any) -> None:
            number = self._calls[name] = self._calls.get(name, -1) + 1
            if self._is_selection:
                check_tensor(output, repr(name))
            if not isinstance(output, Tensor) or not output.is_floating_point() or not output.ndim:
                self.skipped[name] = None
                return
            statistics = self._statistics.setdefault((name, number), _Running(*self._sizes))
            statistics.add(output.detach(), axis(module, output), self._num_images)

        return take

    def rows(self) -> tuple[LayerValues, ...]:
        """Return what was taken in, in the order of the first calls.

        Raises:
            ValueError: a layer that was named gave nothing.
        """
        counts: dict[str, int] = {}
        for name, _ in self._statistics:
            counts[name] = counts.get(name, 0) + 1
        for name in self._names if self._is_selection else ():
            if name not in counts:
                if name in self.skipped:
                    problem = f"{name!r} outputs no numbers while the model runs"
                    raise argument_error("layers", problem, "layers that output numbers")
                raise not_called_error("layers", name)
        return tuple(
            statistics.values(
                f"{name}@{number}" if counts[name] > 1 else name,
                type(find_layer(self._model, name).module).__name__,
            )
            for (name, number), statistics in self._statistics.items()
        )


class _Running:
    """Statistics of one call of one layer, of values that come in batches."""

    def __init__(self, num_shown: int, num_channels: int) -> None:
        self._num_shown, self._num_channels = num_shown, num_channels
        self._histogram = Histogram()
        self._shape: tuple[int, ...] = ()
        self._num_images = self._num = self._num_zeros = self._num_undefined = 0
        self._mean = self._squares = 0.0  # of the deviations from the mean
        self._low, self._high, self._on = np.full(1, np.inf), np.full(1, -np.inf), np.zeros(1)
        self._maps: list[NDArray[np.float32]] = []
        self._channels = np.zeros(0, np.int64)

    def add(self, output: Tensor, axis: int, num_images: int) -> None:
        """Add an output with its units along an axis, of a number of images."""
        wide = output if output.dtype in (torch.float32, torch.float64) else output.float()
        moved = wide.movedim(axis, 1) if wide.ndim > 1 else wide[:, None]
        self._shape = tuple(output.shape[1:])
        self._show(moved)
        values = moved.flatten(2) if moved.ndim > 2 else moved[..., None]
        if len(values) % num_images == 0:  # such as windows of images: places as well
            windows = values.reshape(num_images, -1, *values.shape[1:])
            values = windows.transpose(1, 2).flatten(2)
        low, high = self._extremes(values)
        flat = values.flatten()
        if not math.isfinite(low) or not math.isfinite(high):
            flat = flat[flat.isfinite()]
            self._num_undefined += values.numel() - len(flat)
            low, high = (float(flat.min()), float(flat.max())) if len(flat) else (0.0, 0.0)
        if len(flat):
            self._moments(flat)
            self._histogram.add(flat, low, high)

    def _extremes(self, values: Tensor) -> tuple[float, float]:
        """Update each unit's range and the images on which it is active; values (N, U, P).

        The range of all is returned. NaN in a unit makes its range NaN.
        """
        peaks = values.amax(dim=2)  # amin and amax take a tenth of the time of aminmax
        low, high = values.amin(dim=2).amin(dim=0), peaks.amax(dim=0)
        self._low = np.minimum(self._low, low.double().cpu().numpy())
        self._high = np.maximum(self._high, high.double().cpu().numpy())
        self._on = self._on + (peaks > 0).sum(dim=0).cpu().numpy()
        self._num_images += len(values)
        return float(low.amin()), float(high.amax())

    def _moments(self, flat: Tensor) -> None:
        """Join mean and variance of two parts (Chan, Golub & LeVeque 1983)."""
        mean = float(flat.mean())
        num = self._num + len(flat)
        apart = mean - self._mean
        squares = float((flat - mean).square_().sum())
        self._squares += squares + apart**2 * self._num * len(flat) / num
        self._mean += apart * len(flat) / num
        self._num = num
        self._num_zeros += len(flat) - int(torch.count_nonzero(flat))

    def _show(self, moved: Tensor) -> None:
        """Keep maps (I, C, H, W) of the first images; the first batch chooses the channels."""
        num_missing = self._num_shown - sum(map(len, self._maps))
        if num_missing <= 0:
            return
        maps = moved[:num_missing].float()
        if not self._maps:
            self._channels = self._most_varying(maps)
        maps = maps[:, torch.as_tensor(self._channels, device=maps.device)]
        # A vector is a row of pixels, and so is each channel of a sequence.
        maps = maps[:, None, :] if maps.ndim == 2 else maps
        maps = maps[:, :, None] if maps.ndim == 3 else maps.flatten(2, -2)
        self._maps.append(maps.cpu().numpy())

    def _most_varying(self, maps: Tensor) -> NDArray[np.int64]:
        """Return the channels to be shown, in order."""
        if maps.ndim == 2:
            return np.arange(min(_VECTOR, maps.shape[1]))
        spread = maps.transpose(0, 1).flatten(1).std(dim=1, correction=0).cpu().numpy()
        return np.sort(np.argsort(-spread, kind="stable")[: self._num_channels])

    def values(self, name: str, kind: str) -> LayerValues:
        """Return the record."""
        num = max(self._num, 1)
        maps = np.concatenate(self._maps) if self._maps else np.zeros((0, 0, 0, 0), np.float32)
        return LayerValues(
            name=name, kind=kind, shape=self._shape, num_values=self._num,
            zero_share=self._num_zeros / num, mean=self._mean,
            deviation=math.sqrt(self._squares / num), counts=self._histogram.counts,
            edges=self._histogram.edges, low=self._low, high=self._high,
            active_share=self._on / self._num_images, maps=maps, channels=self._channels,
            num_undefined=self._num_undefined,
        )  # fmt: skip


def _names(model: nn.Module, layers: NamedLayer | Sequence[NamedLayer] | None) -> list[str]:
    """Return the names of the given layers, or of all without children."""
    if layers is None:
        leaves = (name for name, module in model.named_modules() if not any(module.children()))
        return list(leaves)
    names = layer_names(model, layers)
    for name in names:
        find_layer(model, name, "layers")
    return names
