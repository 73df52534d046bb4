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
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, from 0 to 1
_SMALLEST = {"efficientnet_v2": 1, "swin": 4, "vit": 224}  # pixels; of others torchvision tells it
_EXACT = ("vit", "maxvit")  # models that take images of one size alone
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(\.mlp)\.linear_2\."), r"\1.3."),
)  # in files that torchvision offers and its models still read
_BRANCHED = ("googlenet", "inception_v3")  # models that answer midway as well, left out here
_MIDWAY = ("aux1.", "aux2.", "AuxLogits.")  # of these answers
_COUNTER = "num_batches_tracked"  # of a batch norm; older files lack it, and nothing reads it
_SHOWN = 3  # names of tensors that an error lists of a kind


class Repeat(nn.Module):
    """A grey image (B, 1, H, W) as one of three equal channels (B, 3, H, W)."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the channel three times."""
        return image.repeat(1, 3, 1, 1)


class Standardise(nn.Module):
    """Pixels less ImageNet's mean, divided by its deviation, channel by channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return images (B, 3, H, W) of about mean 0 and variance 1."""
        return (image - self.mean) / self.deviation


class TorchvisionClassifier(nn.Module):
    """A model of torchvision's, `net`, behind `prepare`, which brings a task's images to it.

    Attributes:
        weights_sha256: digest of the file of weights, if there is one.
        missing: why the file of weights could not be read that the model is to begin with; None
            where that was done, or where the weights came from elsewhere.
    """

    def __init__(self, prepare: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.prepare, self.net = prepare, net
        self.missing: ConfigError | None = None
        self.weights_sha256: str | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W)."""
        if self.missing is not None:
            raise self.missing
        return cast("Tensor", self.net(self.prepare(image)))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take over saved weights, such as a checkpoint's; those of a file are not missed then."""
        named = OrderedDict(state_dict)
        # MNASNet refuses a dict that does not say which version of the model wrote it.
        named._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]
        found = super().load_state_dict(named, strict, assign)
        self.missing = None
        return found


def make_classifier(
    name: str, spec: ImageToLabel, image_size: int | None, standardise: bool
) -> TorchvisionClassifier:
    """Return a freshly initialised model for a task's images and labels.

    Args:
        name: a classification model, such as `resnet18`.
        spec: of the task: 1 or 3 channels.
        image_size: pixels to which the shorter side is enlarged; None: the fewest that the model
            takes, if it is less. A model of one size alone is given squares.
        standardise: whether pixels are brought to ImageNet's mean and deviation.

    Raises:
        ConfigError: there is no such model, or it takes no images of that size.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        accepted = f"residual, plain, {', '.join(known)}"
        hint = nearest(name, ["residual", "plain", *known])
        raise ConfigError(PLACE, "architecture", f"{name!r} is not known", accepted, hint)
    if spec.num_channels not in (1, 3):
        problem = f"{name} does not take images of {spec.num_channels} channels"
        raise ConfigError(PLACE, "architecture", problem, "a task of 1 or 3 channels")
    height, width = _size(name, spec, image_size)
    prepare: OrderedDict[str, nn.Module] = OrderedDict()
    if spec.num_channels == 1:
        prepare["repeat"] = Repeat()
    if (height, width) != (spec.height, spec.width):
        prepare["enlarge"] = nn.Upsample((height, width), mode="bilinear", align_corners=False)
    if standardise:
        prepare["standardise"] = Standardise()
    net = _built(name, height, len(spec.labels), standardise)
    for module in net.modules():
        if vars(module).get("inplace"):  # which would change what a layer before has returned
            module.inplace = False  # type: ignore[assignment]
    return TorchvisionClassifier(nn.Sequential(prepare), net)


def _size(name: str, spec: ImageToLabel, image_size: int | None) -> tuple[int, int]:
    """Return height and width of the images that the model is to be given."""
    told = torchvision.models.get_model_weights(name).DEFAULT.meta["min_size"][0]
    smallest = next((size for key, size in _SMALLEST.items() if name.startswith(key)), told)
    shorter, longer = sorted((spec.height, spec.width))
    if name.startswith(_EXACT):
        wanted = image_size or smallest
        if longer > wanted:
            problem = f"{name} takes images of {wanted} × {wanted}, and the task's are larger"
            raise ConfigError(PLACE, "image_size", problem, f"{longer} or more, or smaller images")
        return wanted, wanted
    wanted = image_size or max(smallest, shorter)
    if wanted < max(smallest, shorter):
        problem = f"{wanted} is less than {name} takes, or than the task's images have"
        raise ConfigError(
            PLACE, "image_size", problem, f"{max(smallest, shorter)} or more, or null"
        )
    return round(spec.height * wanted / shorter), round(spec.width * wanted / shorter)


def _built(name: str, size: int, num_labels: int, standardised: bool) -> nn.Module:
    """Return the bare model; `size` counts for those that take images of one size alone."""
    settings: dict[str, Any] = {"num_classes": num_labels}
    if name in _BRANCHED:  # standardised pixels are turned into those of their authors
        settings |= {"aux_logits": False, "init_weights": True, "transform_input": standardised}
    if name.startswith("vit"):
        settings["image_size"] = size
    if name.startswith("maxvit"):
        settings["input_size"] = (size, size)
    try:
        return cast("nn.Module", torchvision.models.get_model(name, **settings))
    except (AssertionError, ValueError) as error:  # of patches or windows that do not fit
        problem, accepted = f"{size} does not go with {name}: {error}", "another size, or null"
        raise ConfigError(PLACE, "image_size", problem, accepted) from None


def take_over(model: TorchvisionClassifier, name: str, weights: str, sha256: str | None) -> str:
    """Give a model the weights of a file, and return the file's digest.

    They fit by name and by shape. Only the last layer may have another number of labels; then it
    stays as it is, which a warning says. With a digest the file may be gone, or be another one, as
    long as the weights come from a checkpoint: what is wrong is then `model.missing`.

    Raises:
        ConfigError: says why the file cannot be read, or which names and shapes do not fit.
    """
    path = expand_user(weights)
    try:
        found = _digest(path, sha256)
        tensors = _read(path)
        if name in _BRANCHED:
            tensors = {n: t for n, t in tensors.items() if not n.startswith(_MIDWAY)}
        anew = _copy(tensors, model.net, f"{path} does not fit {name}")
    except ConfigError as error:
        if sha256 is None:
            raise
        model.missing = error
        return sha256
    if anew and sha256 is None:
        message = f"{path} has another number of labels: of {name} the layer {anew} begins anew"
        warnings.warn(message, stacklevel=2)
    return found


def _digest(path: Path, wanted: str | None) -> str:
    """Return the digest of a file, if it is the wanted one."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        accepted = "the path of a state dict, as a .safetensors file"
        raise ConfigError(
            PLACE, "weights", f"{path} {describe_os_error(path, error)}", accepted
        ) from None
    if wanted not in (None, found):
        problem = f"{path} is another file: its digest is {found}"
        raise ConfigError(PLACE, "weights_sha256", problem, f"{wanted}, or null")
    return found


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


def _copy(given: Mapping[str, Tensor], net: nn.Module, what: str) -> str | None:
    """Copy weights into a model; return the name of its last layer if that does not fit."""
    wanted = net.state_dict()
    tensors = {_today(name, wanted): t for name, t in given.items()}
    layers = [n for n, m in net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    differ = [n for n in wanted if n in tensors and tensors[n].shape != wanted[n].shape]
    anew = [
        n for n in differ
        if n.rpartition(".")[0] == layers[-1] and tensors[n].shape[1:] == wanted[n].shape[1:]
    ]  # fmt: skip
    problems = {
        "missing": [n for n in wanted if n not in tensors and not n.endswith(_COUNTER)],
        "unexpected": [n for n in tensors if n not in wanted],
        "of other shapes": [
            f"{n} {tuple(tensors[n].shape)} for {tuple(wanted[n].shape)}"
            for n in differ if n not in anew
        ],
    }  # fmt: skip
    if any(problems.values()):
        told = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
        problem = f"{what}: {'; '.join(told)}"
        raise ConfigError(PLACE, "weights", problem, "a state dict of this model's tensors")
    with torch.no_grad():
        for name, tensor in wanted.items():
            if name in tensors and name not in anew:
                tensor.copy_(tensors[name])
    return layers[-1] if anew else None


def _some(names: Sequence[str]) -> str:
    """Return the first names of many."""
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _today(name: str, wanted: Mapping[str, Tensor]) -> str:
    """Return a tensor's name as the model has it, of one as older versions wrote it."""
    for pattern, new in _OLD_NAMES:
        renamed = pattern.sub(new, name)
        if renamed in wanted:
            return renamed
    return name
