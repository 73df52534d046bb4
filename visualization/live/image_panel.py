"""Panel of the live page for images: draw, see the feature maps at once, change a layer."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from visualization.core.errors import argument_error
from visualization.core.inputs import as_tensor
from visualization.live.drawings import save_drawing
from visualization.live.images import ImageEngine
from visualization.live.layer_edits import KINDS, LayerEdit
from visualization.live.messages import Arguments, Reply
from visualization.live.session import Call, LivePanel
from visualization.perturbation.perturbations import PERTURBATIONS, perturb

KNOBS = ("noise", "blur", "rotate", "shift", "contrast")  # sliders, in the order of application
COMPARED = ("activation", "change", "effect")
MAX_UPLOAD = 16 * 2**20  # bytes
_MOST_TILES, _LARGEST_TILE = 4096, 128  # maps of a reply; pixels of a side that are sent
_NUM_THUMBNAILS = 24
_EDITS = 64


@final
class ImagePanel(LivePanel):
    """Panel for images: one page's original image, and replies to what the page asks."""

    name: ClassVar[str] = "image"

    def __init__(self, engine: ImageEngine) -> None:
        self._engine, self._subject = engine, engine.subject
        self.image: NDArray[np.float32] = self._subject.images[0].copy()  # as it is drawn now
        self._original = self.image
        self._original_maps: tuple[Any, NDArray[np.float32]] | None = None

    @property
    def calls(self) -> Mapping[str, Call]:
        """What the page can call."""
        return {
            "frame": self._frame, "original": self._set_original, "sample": self._sample,
            "unit": self._unit, "explain": self._explain, "targets": self._targets,
            "upload": self._upload, "save": self._save,
        }  # fmt: skip

    def describe(self) -> Mapping[str, Any]:
        """Return sizes, samples, layers, sliders and methods."""
        subject = self._subject
        thumbnails = [as_bytes(image, subject.low, subject.high) for image in
                      subject.images[:_NUM_THUMBNAILS]]  # fmt: skip
        return {
            "title": "Image", "shape": subject.shape, "low": subject.low, "high": subject.high,
            "ink": subject.is_ink, "names": list(subject.names),
            "thumbnails": [base64.b64encode(image).decode() for image in thumbnails],
            "layers": [{"name": name, "shape": shape} for name, shape
                       in self._engine.layers.items()],
            "knobs": [self._knob(name) for name in KNOBS], "compared": COMPARED, "edits": KINDS,
            "methods": list(subject.methods), "steps": self._engine.steps,
            "max_upload": MAX_UPLOAD, "saves": subject.folder is not None,
        }  # fmt: skip

    def _knob(self, name: str) -> dict[str, Any]:
        """Return the range of a slider: that of the perturbation by its name."""
        perturbation = PERTURBATIONS[name]
        side = min(self._subject.shape[1:])
        strengths = perturbation.strengths(side)
        return {
            "name": name, "unit": perturbation.unit, "low": strengths[0], "high": strengths[-1],
            "neutral": perturbation.neutral,
        }  # fmt: skip

    def _frame(self, arguments: Arguments) -> Reply:
        """Return the answer to a drawn image, and the visible maps of a layer."""
        image, is_changed = self._perturbed(arguments)
        layer, step = self._layer(arguments), self._step(arguments)
        edits = self._edits(arguments)
        compared = arguments.choice("compared", COMPARED)
        run = self._engine.forward(image, layer, edits, step)
        untouched = self._engine.forward(image, layer, (), step) if edits else run
        maps = run.maps
        if compared == "change":
            maps = run.maps - self._maps_of_original(layer, step)
        elif compared == "effect":
            maps = run.maps - untouched.maps
        shares = run.answer.get("probabilities", [])
        if not (np.isfinite(maps).all() and np.isfinite(shares).all()):
            problem = f"the weights and changes give NaN or inf, in {layer!r} or the answer"
            raise argument_error("layer", problem, "finite numbers")
        channels = arguments.integers("channels", 0, len(maps) - 1, _MOST_TILES)
        tiles, limits = quantised(maps[channels], compared != "activation")
        data = {
            "answer": run.answer, "untouched": untouched.answer if edits else None,
            "layer": layer, "channels": channels, "limits": limits, "size": tiles.shape[1:],
            "strengths": np.abs(maps).max((1, 2), initial=0).tolist(), "changed": is_changed,
        }  # fmt: skip
        buffers = [tiles.tobytes()]
        return Reply(data, [*buffers, image.astype("<f4").tobytes()] if is_changed else buffers)

    def _perturbed(self, arguments: Arguments) -> tuple[NDArray[np.float32], bool]:
        """Return the drawn image as the sliders change it, and whether they do; it is kept."""
        image, is_changed = as_tensor(arguments.array(self._subject.shape)), False
        for name in KNOBS:
            if arguments.given(name):
                strength = arguments.number(name)
                if strength != PERTURBATIONS[name].neutral:
                    image, is_changed = perturb(name, image, strength), True
        self.image = np.asarray(image.numpy(), np.float32)
        return self.image, is_changed

    def _maps_of_original(self, layer: str | None, step: int | None) -> NDArray[np.float32]:
        key = layer, self._engine.version(step)
        if self._original_maps is None or self._original_maps[0] != key:
            maps = self._engine.forward(self._original, layer, (), step).maps
            self._original_maps = key, maps
        return self._original_maps[1]

    def _layer(self, arguments: Arguments, name: str = "layer") -> str | None:
        layers = list(self._engine.layers)
        return arguments.choice(name, layers) if layers else None

    def _step(self, arguments: Arguments) -> int | None:
        """Return the step of the snapshot that is asked for; None: the weights as they are."""
        if not arguments.given("step"):
            return None
        steps = [str(step) for step in self._engine.steps]
        return int(arguments.choice("step", steps))

    def _edits(self, arguments: Arguments) -> list[LayerEdit]:
        """Return the changes of layers that are asked for."""
        return [self._edit(each) for each in arguments.items("edits", _EDITS)]

    def _edit(self, arguments: Arguments) -> LayerEdit:
        layer = arguments.choice("layer", list(self._engine.layers))
        num, height, width = self._engine.layers[layer]
        kind = KINDS[KINDS.index(arguments.choice("kind", KINDS))]
        given = arguments.given
        place = None
        if given("row"):
            place = (
                arguments.integer("row", 0, height - 1),
                arguments.integer("column", 0, width - 1),
            )
        return LayerEdit(
            layer=layer, kind=kind, place=place,
            channel=arguments.integer("channel", 0, num - 1) if given("channel") else None,
            value=arguments.number("value") if given("value") else 0.0,
            cells=arguments.cells("cells", (height, width)) if kind == "paint" else (),
        )  # fmt: skip

    def _set_original(self, arguments: Arguments) -> Reply:
        """Take an image as the one that changes are compared with."""
        self._original, self._original_maps = arguments.array(self._subject.shape), None
        return Reply({})

    def _sample(self, arguments: Arguments) -> Reply:
        """Return a sample by number."""
        number = arguments.integer("number", 0, len(self._subject.images) - 1)
        image = self._subject.images[number]
        return Reply({"name": self._subject.names[number]}, [image.astype("<f4").tobytes()])

    def _unit(self, arguments: Arguments) -> Reply:
        """Return activation and receptive field of a unit, and the best examples of its channel."""
        layer = arguments.choice("layer", list(self._engine.layers))
        num, height, width = self._engine.layers[layer]
        unit = (
            arguments.integer("channel", 0, num - 1), arguments.integer("row", 0, height - 1),
            arguments.integer("column", 0, width - 1),
        )  # fmt: skip
        step = self._step(arguments)
        image, _ = self._perturbed(arguments)
        value = self._engine.forward(image, layer, self._edits(arguments), step).maps[unit]
        field = self._engine.field(layer, unit)
        best = self._engine.best(layer, unit[0], step)
        found = [rank for rank in range(best.image.shape[1]) if best.image[0, rank] >= 0]
        low, high = self._subject.low, self._subject.high
        patches = [as_bytes(best.patches[0, rank], low, high) for rank in found]
        examples = [
            {
                "image": int(best.image[0, rank]), "row": int(best.row[0, rank]),
                "column": int(best.column[0, rank]), "value": float(best.value[0, rank]),
                "name": self._subject.names[int(best.image[0, rank])],
            } for rank in found
        ]  # fmt: skip
        data = {
            "value": float(value),
            "num_pixels": int(field.pixels.sum()), "patch": best.patches.shape[2:],
            "examples": examples,
        }  # fmt: skip
        return Reply(data, [field.pixels.astype(np.uint8).tobytes(), *patches])

    def _targets(self, arguments: Arguments) -> Reply:
        """Return names of what can be explained in an image."""
        return Reply({"targets": self._engine.target_names(arguments.array(self._subject.shape))})

    def _explain(self, arguments: Arguments) -> Reply:
        """Return the attribution of a target."""
        method = arguments.choice("method", self._subject.methods)
        image, _ = self._perturbed(arguments)
        target = arguments.choice("target", self._engine.target_names(image))
        edits, step = self._edits(arguments), self._step(arguments)
        values = self._engine.explain(image, method, target, edits, step)
        return Reply({"method": method, "target": target}, [values.astype("<f4").tobytes()])

    def _upload(self, arguments: Arguments) -> Reply:
        """Return the image of an uploaded file."""
        content = arguments.content()
        if len(content) > MAX_UPLOAD:
            problem = f"it has {len(content) / 2**20:.1f} MiB"
            raise argument_error("file", problem, f"at most {MAX_UPLOAD // 2**20} MiB")
        image = self._subject.read_file(content)
        (_, height, width), (_, rows, columns) = image.shape, self._subject.shape
        if height > rows or width > columns:
            problem = f"as the task reads it, it has {width} by {height} pixels"
            raise argument_error("file", problem, f"at most {columns} by {rows}, as samples have")
        fitted = np.full(self._subject.shape, self._subject.low, np.float32)
        fitted[:, : image.shape[1], : image.shape[2]] = image
        return Reply({}, [fitted.astype("<f4").tobytes()])

    def _save(self, arguments: Arguments) -> Reply:
        """Save the drawing in the run's folder."""
        image, _ = self._perturbed(arguments)
        if self._subject.folder is None:
            raise argument_error("save", "there is no folder", "a page of a run folder")
        colours = (self._subject.low, self._subject.high, self._subject.is_ink)
        return Reply({"path": str(save_drawing(self._subject.folder, image, *colours))})


def as_bytes(image: NDArray[np.floating], low: float, high: float) -> bytes:
    """Return an image as bytes, from 0 for `low` to 255 for `high`."""
    scaled = (np.asarray(image, np.float64) - low) / ((high - low) or 1.0)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8).tobytes()


def quantised(
    maps: NDArray[np.float32], has_signs: bool
) -> tuple[NDArray[np.uint8], list[Sequence[float]]]:
    """Return maps (U, h, w) in 256 levels between limits of each map, and the limits.

    Maps with signs have limits symmetrical about 0. Large ones are reduced to the means of areas.
    """
    maps = _reduced(maps)
    low, high = maps.min((1, 2), initial=0), maps.max((1, 2), initial=0)
    if has_signs:
        high = np.maximum(-low, high)
        low = -high
    extent = np.where(high > low, high - low, 1)[:, None, None]
    levels = np.rint((maps - low[:, None, None]) / extent * 255).astype(np.uint8)
    return levels, np.stack([low, high], axis=1).tolist() if len(maps) else []


def _reduced(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps of at most 128 rows and columns."""
    for axis in (1, 2):
        factor = -(-maps.shape[axis] // _LARGEST_TILE)
        if factor > 1:
            cuts = np.arange(0, maps.shape[axis], factor)
            sizes = np.diff([*cuts, maps.shape[axis]])
            sums = np.add.reduceat(maps, cuts, axis=axis)
            maps = np.asarray(sums / np.expand_dims(sizes, [0, 3 - axis]), np.float32)
    return maps
