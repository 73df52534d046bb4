"""Classification models of torchvision's by name, with weights from a file, for images of a task.

Weights that others wrote are read from `.safetensors` files: nothing is ever unpickled.
"""

import hashlib
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tasks.core.paths import describe_os_error, expand_user
from tasks.core.settings import ConfigError, nearest
from tasks.core.task import ImageToLabel

PLACE = "agent cnn_classifier"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, from 0 to 1
_SMALLEST = {"efficientnet_v2": 1, "swin": 4, "vit": 224}  # pixels; of others torchvision says it
_FIXED_SIZE = ("vit", "maxvit")  # models that accept images of one size only
_RENAMED_TENSORS = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(\.mlp)\.linear_2\."), r"\1.3."),
)  # pattern and replacement; files of torchvision have earlier names of tensors
_WITH_AUX = ("googlenet", "inception_v3")  # models with auxiliary classifiers, which are left out
_AUX_PREFIXES = ("aux1.", "aux2.", "AuxLogits.")
_COUNTER = "num_batches_tracked"  # of a batch norm; older files lack it, and nothing reads it
_NUM_SHOWN = 3  # names of tensors of a kind in an error


class Repeat(nn.Module):
    """Grey images (B, 1, H, W) to images of three equal channels (B, 3, H, W)."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the channel three times."""
        return image.repeat(1, 3, 1, 1)


class Normalize(nn.Module):
    """Normalization by ImageNet's mean and standard deviation of each channel."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return images (B, 3, H, W) of about mean 0 and variance 1."""
        return (image - self.mean) / self.std


class TorchvisionClassifier(nn.Module):
    """A torchvision model, `net`, after `prepare`, the preprocessing of a task's images.

    Attributes:
        weights_sha256: digest of the file of weights, if there is one.
        load_error: why the file of initial weights could not be read; None if it was, or if weights
            came from elsewhere.
    """

    def __init__(self, prepare: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.prepare, self.net = prepare, net
        self.load_error: ConfigError | None = None
        self.weights_sha256: str | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W)."""
        if self.load_error is not None:
            raise self.load_error
        return cast("Tensor", self.net(self.prepare(image)))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load saved weights, such as a checkpoint's; those of a file are then not required."""
        named = OrderedDict(state_dict)
        # MNASNet rejects a state dict without the version of the model that wrote it.
        named._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]
        incompatible_keys = super().load_state_dict(named, strict, assign)
        self.load_error = None
        return incompatible_keys


def make_classifier(
    name: str, spec: ImageToLabel, image_size: int | None, normalize: bool
) -> TorchvisionClassifier:
    """Return a freshly initialised model for a task's images and labels.

    Args:
        name: a classification model, such as `resnet18`.
        spec: of the task: 1 or 3 channels.
        image_size: pixels to which the shorter side is enlarged; None: the fewest that the model
            takes, if it is less. A model of one size alone is given squares.
        normalize: whether pixels are normalized by ImageNet's mean and standard deviation.

    Raises:
        ConfigError: there is no such model, or it takes no images of that size.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        accepted = f"residual, plain, {', '.join(names)}"
        hint = nearest(name, ["residual", "plain", *names])
        raise ConfigError(PLACE, "architecture", f"unknown model {name!r}", accepted, hint)
    if spec.num_channels not in (1, 3):
        problem = f"{name} does not take images of {spec.num_channels} channels"
        raise ConfigError(PLACE, "architecture", problem, "a task of 1 or 3 channels")
    height, width = _size(name, spec, image_size)
    prepare: OrderedDict[str, nn.Module] = OrderedDict()
    if spec.num_channels == 1:
        prepare["repeat"] = Repeat()
    if (height, width) != (spec.height, spec.width):
        prepare["enlarge"] = nn.Upsample((height, width), mode="bilinear", align_corners=False)
    if normalize:
        prepare["normalize"] = Normalize()
    net = _make_net(name, height, len(spec.labels), normalize)
    for module in net.modules():
        if vars(module).get("inplace"):  # which would change what a layer before has returned
            module.inplace = False  # type: ignore[assignment]
    return TorchvisionClassifier(nn.Sequential(prepare), net)


def _size(name: str, spec: ImageToLabel, image_size: int | None) -> tuple[int, int]:
    """Return height and width of the images that the model is to be given."""
    default = torchvision.models.get_model_weights(name).DEFAULT.meta["min_size"][0]
    smallest = next((pixels for key, pixels in _SMALLEST.items() if name.startswith(key)), default)
    shorter, longer = sorted((spec.height, spec.width))
    if name.startswith(_FIXED_SIZE):
        size = image_size or smallest
        if longer > size:
            problem = f"{name} takes images of {size} × {size}, and the task's are larger"
            raise ConfigError(PLACE, "image_size", problem, f"{longer} or more, or smaller images")
        return size, size
    size = image_size or max(smallest, shorter)
    if size < max(smallest, shorter):
        problem = f"{size} is less than {name} takes, or than the task's images have"
        raise ConfigError(
            PLACE, "image_size", problem, f"{max(smallest, shorter)} or more, or null"
        )
    return round(spec.height * size / shorter), round(spec.width * size / shorter)


def _make_net(name: str, size: int, num_labels: int, normalized: bool) -> nn.Module:
    """Return the bare model; `size` is used by those of one image size only."""
    settings: dict[str, Any] = {"num_classes": num_labels}
    if name in _WITH_AUX:  # normalized pixels are turned into those of their authors
        settings |= {"aux_logits": False, "init_weights": True, "transform_input": normalized}
    if name.startswith("vit"):
        settings["image_size"] = size
    if name.startswith("maxvit"):
        settings["input_size"] = (size, size)
    try:
        return cast("nn.Module", torchvision.models.get_model(name, **settings))
    except (AssertionError, ValueError) as error:  # of patches or windows that do not fit
        problem, accepted = (
            f"{size} cannot be combined with {name}: {error}",
            "another size, or null",
        )
        raise ConfigError(PLACE, "image_size", problem, accepted) from None


def load_weights(model: TorchvisionClassifier, name: str, weights: str, sha256: str | None) -> str:
    """Load the weights of a file into a model, and return the file's digest.

    Names and shapes must be the same. Only the last layer may have another number of labels; then
    its initial weights are kept, with a warning. With a digest the file may be missing or changed,
    as long as the weights come from a checkpoint: the error is then `model.load_error`.

    Raises:
        ConfigError: says why the file cannot be read, or which names and shapes do not fit.
    """
    path = expand_user(weights)
    try:
        digest = _digest(path, sha256)
        tensors = _read(path)
        if name in _WITH_AUX:
            tensors = {n: t for n, t in tensors.items() if not n.startswith(_AUX_PREFIXES)}
        skipped = _copy(tensors, model.net, f"{path} does not fit {name}")
    except ConfigError as error:
        if sha256 is None:
            raise
        model.load_error = error
        return sha256
    if skipped and sha256 is None:
        message = (
            f"{path} has another number of labels: of {name} the layer {skipped} keeps its "
            "initial weights"
        )
        warnings.warn(message, stacklevel=2)
    return digest


def _digest(path: Path, expected: str | None) -> str:
    """Return the digest of a file; another one than expected is a ConfigError."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        accepted = "the path of a state dict, as a .safetensors file"
        raise ConfigError(
            PLACE, "weights", f"{path} {describe_os_error(path, error)}", accepted
        ) from None
    if expected not in (None, digest):
        problem = f"{path} is another file: its digest is {digest}"
        raise ConfigError(PLACE, "weights_sha256", problem, f"{expected}, or null")
    return digest


def _read(path: Path) -> Mapping[str, Tensor]:
    """Return a file's tensors by name; nothing in it is executed."""
    try:
        return cast("Mapping[str, Tensor]", load_file(path))
    except (OSError, ValueError, SafetensorError) as error:
        problem = f"{path} cannot be read: {str(error).partition(chr(10))[0]}"
        accepted = (
            "a .safetensors file; what torch.save wrote becomes one by save_file of safetensors"
        )
        raise ConfigError(PLACE, "weights", problem, accepted) from None


def _copy(saved: Mapping[str, Tensor], net: nn.Module, what: str) -> str | None:
    """Copy weights into a model; return the name of its last layer if that does not fit."""
    own = net.state_dict()
    tensors = {_present_name(name, own): t for name, t in saved.items()}
    layers = [n for n, m in net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    differ = [n for n in own if n in tensors and tensors[n].shape != own[n].shape]
    skipped = [
        n for n in differ
        if n.rpartition(".")[0] == layers[-1] and tensors[n].shape[1:] == own[n].shape[1:]
    ]  # fmt: skip
    problems = {
        "missing": [n for n in own if n not in tensors and not n.endswith(_COUNTER)],
        "unexpected": [n for n in tensors if n not in own],
        "of other shapes": [
            f"{n} {tuple(tensors[n].shape)} for {tuple(own[n].shape)}"
            for n in differ if n not in skipped
        ],
    }  # fmt: skip
    if any(problems.values()):
        listed = [
            f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names
        ]
        problem = f"{what}: {'; '.join(listed)}"
        raise ConfigError(PLACE, "weights", problem, "a state dict of this model's tensors")
    with torch.no_grad():
        for name, tensor in own.items():
            if name in tensors and name not in skipped:
                tensor.copy_(tensors[name])
    return layers[-1] if skipped else None


def _some(names: Sequence[str]) -> str:
    """Return the first names of many."""
    return ", ".join(names[:_NUM_SHOWN]) + (", …" if len(names) > _NUM_SHOWN else "")


def _present_name(name: str, own: Mapping[str, Tensor]) -> str:
    """Return the present name of a tensor that older versions of torchvision named otherwise."""
    for pattern, new in _RENAMED_TENSORS:
        renamed = pattern.sub(new, name)
        if renamed in own:
            return renamed
    return name
