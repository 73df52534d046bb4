"""Images of the live page: what it shows of a network, and the passes that it needs.

C channels, H rows and W columns of an image; h and w of a feature map; U channels of a layer.
"""

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.attribution.methods import attributions
from visualization.core.errors import NothingToShow, argument_error, check_count, value_error
from visualization.core.feature_layers import feature_layers
from visualization.core.inputs import as_images, as_logits, select_output
from visualization.core.preserve import evaluation_mode
from visualization.feature_maps.fields.patches import TopPatches, top_patches
from visualization.feature_maps.fields.receptive import ReceptiveField, receptive_field
from visualization.live.layer_edits import LayerEdit, edited, kernels_before, with_weights
from visualization.live.recent import Recent
from visualization.live.weights import WeightsWatch

Answer = Mapping[str, Any]  # JSON values, with a `kind`
Target = Callable[[Any], Tensor]  # from the raw output for R variants of an image to (R,)
METHODS = (  # of attribution, that answer within a second or so
    "saliency", "input_x_gradient", "integrated_gradients", "smooth_grad", "guided_backprop",
    "grad_cam", "occlusion",
)  # fmt: skip
_MOST_PIXELS = 2**26  # of an uploaded picture
_NUM_BEST = 8  # examples of a channel
_KEPT = 256  # receptive fields that are kept, and channels' examples


def class_answer(output: Any, classes: Sequence[str]) -> Answer:
    """Return the probability of each class, of a model's output (1, K) for one image.

    An output of another form has no answer that could be shown.
    """
    logits = select_output(output, None) if isinstance(output, Tensor) else None
    if logits is None or logits.ndim != 2 or logits.shape[1] < 2:
        return {"kind": "none"}
    probabilities = as_logits(logits[0][None])[0].double().softmax(0).tolist()
    names = list(classes) or [str(number) for number in range(len(probabilities))]
    return {"kind": "classes", "names": names, "probabilities": probabilities}


@attrs.frozen(eq=False, kw_only=True)
class ImageSubject:
    """What a live page shows of a network of images.

    Attributes:
        model: from images (B, C, H, W) to the raw output; as in the answer.
        images: samples (N, C, H, W).
        names: of the samples (N,).
        classes: names of the classes; empty: numbers, or no classifier.
        answer: runs the model on one image (1, C, H, W) and returns its answer: of kind
            `classes` with `names` and `probabilities`; `text` with `text` and `characters`, each
            with `text`, `confidence`, `left` and `right` in pixels; `boxes` with `boxes` (left,
            top, right, bottom), `names` and `scores`; or `none`.
        targets: for an image (1, C, H, W) what can be explained, by name; empty: the classes.
        methods: names of attribution methods.
        read_file: an image (C, H, W) of the content of a file.
        low: the value of paper, or black.
        high: the value of full ink, or white.
        is_ink: whether `high` is ink, which is drawn dark on light paper.
        states: snapshots of the weights by step, for a slider through training.
        stamps: of each step what changes when its snapshot is written again.
        folder: where drawings are saved; None: the browser saves them.
    """

    model: nn.Module
    images: NDArray[np.float32]
    names: Sequence[str]
    classes: Sequence[str] = ()
    answer: Callable[[Tensor], Answer]
    targets: Callable[[Tensor], Mapping[str, Target]] = lambda image: {}
    methods: Sequence[str] = METHODS
    read_file: Callable[[bytes], NDArray[np.float32]]
    low: float = 0.0
    high: float = 1.0
    is_ink: bool = False
    states: Callable[[], Mapping[int, Mapping[str, Tensor]]] = dict
    stamps: Callable[[], Mapping[int, Any]] = dict
    folder: Path | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image (C, H, W)."""
        num_channels, height, width = self.images.shape[1:]
        return num_channels, height, width


def module_subject(
    model: nn.Module, images: NDArray[Any] | Tensor, classes: Sequence[str] = ()
) -> ImageSubject:
    """Return what a live page shows of any module, on images (N, C, H, W) or one (C, H, W).

    Raises:
        ValueError: other images than the model takes; or as many names as there are no classes.
    """
    batch = as_images(images, model)
    with evaluation_mode(model), torch.no_grad():
        output = model(batch[:1].clone())
    if classes and (not isinstance(output, Tensor) or tuple(output.shape[1:]) != (len(classes),)):
        problem = f"{len(classes)} names"
        raise argument_error("classes", problem, "one for each class of the output, or none")
    array = batch.detach().float().cpu().numpy()
    return ImageSubject(
        model=model, images=array, names=[f"image {n}" for n in range(len(array))],
        classes=tuple(classes), answer=lambda image: class_answer(model(image), classes),
        read_file=functools.partial(read_picture, shape=array.shape[1:]),
        low=min(0.0, float(array.min())), high=max(1.0, float(array.max())),
    )  # fmt: skip


def read_picture(content: bytes, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a picture file as an image (C, H, W) from 0, black, to 1, white, resized.

    Raises:
        ValueError: it is no picture, too large, or for a network of other than 1 or 3 channels.
    """
    from PIL import Image, ImageOps

    accepted = f"a picture such as PNG or JPEG, of at most {_MOST_PIXELS:,} pixels"
    num_channels, height, width = shape
    if num_channels not in (1, 3):
        raise argument_error("file", f"no picture has {num_channels} channels", "1 or 3 channels")
    check_picture_size(content)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            upright = ImageOps.exif_transpose(picture).convert("L" if num_channels == 1 else "RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise argument_error("file", f"cannot be read: {error}", accepted) from None
    resized = np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    planes = resized.reshape(height, width, -1).transpose(2, 0, 1)
    return np.ascontiguousarray(planes / 255, np.float32)


def check_picture_size(content: bytes) -> None:
    """Refuse a picture file of more pixels than there is room for, as its header says.

    Raises:
        ValueError: names the size. A file that is no picture is left to who reads it.
    """
    from PIL import Image

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content)) as picture:
                size = picture.size
        except bombs as error:
            raise argument_error("file", error, f"at most {_MOST_PIXELS:,} pixels") from None
        except (OSError, SyntaxError, ValueError):
            return
    if math.prod(size) > _MOST_PIXELS:
        raise value_error(
            "file", f"{size[0]} × {size[1]} pixels", f"at most {_MOST_PIXELS:,} pixels"
        )


@attrs.frozen(eq=False, kw_only=True)
class Pass:
    """One pass of the model over an image.

    Attributes:
        answer: what the model says.
        maps: of the layer (U, h, w), float32.
    """

    answer: Answer
    maps: NDArray[np.float32]


class ImageEngine:
    """Passes of a model over drawn images, shared by all open pages.

    What follows from the samples and the weights alone is kept.
    """

    def __init__(self, subject: ImageSubject) -> None:
        check_count(len(subject.images), "images")
        self.subject = subject
        self._channels_first = False
        self._weights = WeightsWatch(subject.model)
        self._fields, self._best = Recent[ReceptiveField](_KEPT), Recent[TopPatches](_KEPT)

    @functools.cached_property
    def layers(self) -> dict[str, tuple[int, int, int]]:
        """Shape of the feature maps of each layer (U, h, w), in the order of their calls."""
        subject = self.subject
        try:
            names = feature_layers(subject.model, subject.images[0])
        except NothingToShow:
            return {}
        shapes: list[dict[str, tuple[int, int, int]]] = []
        for self._channels_first in (True, False):  # as they are output, and as (B, U, h, w)
            outputs: dict[str, Any] = {}
            taps = {name: functools.partial(outputs.__setitem__, name) for name in names}
            self._run(self._tensor(subject.images[0]), taps=taps)
            shapes.append({name: tuple(outputs[name].shape[1:]) for name in names})
        is_cube = any(len({*shape}) == 1 for shape in shapes[1].values())  # alike either way
        self._channels_first = shapes[0] == shapes[1] and not is_cube
        return shapes[1]

    @functools.cached_property
    def _kernels(self) -> dict[str, nn.Module]:
        """The last module with a kernel up to each layer."""
        with kernels_before(self.subject.model, self.layers) as found:
            self._run(self._tensor(self.subject.images[0]))
        return found

    @property
    def steps(self) -> list[int]:
        """Steps of the snapshots."""
        return sorted(self.subject.states())

    def forward(
        self, image: NDArray[np.float32], layer: str | None, edits: Sequence[LayerEdit] = (),
        step: int | None = None,
    ) -> Pass:  # fmt: skip
        """Run the model on an image (C, H, W), with edits, and the weights of a step."""
        maps: list[Tensor] = []
        taps = {layer: maps.append} if layer else {}
        answer = self._run(self._tensor(image), edits, taps, step)
        none = np.zeros((0, 0, 0), np.float32)
        return Pass(answer=answer, maps=maps[0][0].float().cpu().numpy() if maps else none)

    def _tensor(self, image: NDArray[np.float32]) -> Tensor:
        return as_images(image, self.subject.model)

    def _run(
        self, image: Tensor, edits: Sequence[LayerEdit] = (),
        taps: Mapping[str, Callable[[Any], Any]] | None = None, step: int | None = None,
    ) -> Answer:  # fmt: skip
        model = self.subject.model
        with (
            evaluation_mode(model), torch.no_grad(), with_weights(model, self._state(step)),
            self._edited(edits, taps),
        ):  # fmt: skip
            return self.subject.answer(image)

    def _edited(
        self, edits: Sequence[LayerEdit], taps: Mapping[str, Callable[[Any], Any]] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Run the model with edits, in a block."""
        redraws = any(edit.kind == "randomise" for edit in edits)
        return edited(
            self.subject.model, edits, taps, before=self._kernels if redraws else {},
            channels_first=self._channels_first,
        )  # fmt: skip

    def _state(self, step: int | None) -> Mapping[str, Tensor] | None:
        return None if step is None else self.subject.states()[step]

    def field(self, layer: str, unit: tuple[int, int, int]) -> ReceptiveField:
        """Return the receptive field of a unit; that of the same place in each map is the same."""
        model, shape = self.subject.model, self.subject.shape
        key = (layer, unit[1:])
        return self._fields.get(key, lambda: receptive_field(model, layer, unit, shape))

    def best(self, layer: str, channel: int, step: int | None = None) -> TopPatches:
        """Return the samples' patches that activate a channel most."""

        def search() -> TopPatches:
            model, images = self.subject.model, self.subject.images
            with with_weights(model, self._state(step)):
                return top_patches(model, layer, images, [channel], k=_NUM_BEST)

        return self._best.get((layer, channel, self.version(step)), search)

    def version(self, step: int | None) -> Any:
        """Return what tells the weights of a step from others that it had before.

        Without a step it tells the model's own from those before it has learned on.
        """
        return step, self._weights.number() if step is None else self.subject.stamps().get(step)

    def target_names(self, image: NDArray[np.float32]) -> list[str]:
        """Return names of what can be explained in an image: the classes, or its own targets."""
        if self.subject.classes:
            return list(self.subject.classes)
        return list(self.subject.targets(self._tensor(image))) or ["predicted class"]

    def explain(
        self, image: NDArray[np.float32], method: str, target: str,
        edits: Sequence[LayerEdit] = (), step: int | None = None,
    ) -> NDArray[np.float64]:  # fmt: skip
        """Return the attribution (H, W) of a target of an image by one method, with edits."""
        subject, tensor = self.subject, self._tensor(image)
        with with_weights(subject.model, self._state(step)), self._edited(edits):
            chosen: Any = None
            if target in subject.classes:
                chosen = list(subject.classes).index(target)
            else:
                chosen = subject.targets(tensor).get(target)
            record = attributions(subject.model, image[None], chosen, methods=(method,))
        return np.asarray(record.maps[method][0], np.float64)
