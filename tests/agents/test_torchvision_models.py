"""Torchvision's models as classifiers, and weights of files."""

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import agents
from agents.core.torchvision_models import MEAN, STD, load_weights, make_classifier
from tasks.core.settings import ConfigError
from tests.helpers.classifiers import TINY, made, pictures, random_images

SOME = (
    "alexnet", "googlenet", "mnasnet0_5", "resnet18", "squeezenet1_1", "swin_t", "vit_b_32",
)  # models of torchvision's, one for each way in which sizes are found  # fmt: skip


def answered(name: str, device: str) -> list[tuple[int, ...]]:
    """Return the shapes of a model's answers: to grey images and colours, learning and not.

    No module of it may work in place, or views would see what comes after.
    """
    shapes = []
    for num_channels, height, width in ((1, 8, 8), (3, 30, 50)):
        task = pictures(num_channels, height, width, 7)
        with torch.device(device):
            model = make_classifier(name, task.spec, None, True)
            images = torch.zeros(2, num_channels, height, width)
            shapes += [tuple(model.train(mode)(images).shape) for mode in (True, False)]
        shapes += [()] * any(vars(module).get("inplace") for module in model.modules())
    return shapes


@pytest.mark.parametrize("name", SOME)
def test_every_kind_of_model_takes_small_images(name: str) -> None:
    """Models of torchvision's answer small images; sizes alone are computed, without numbers."""
    assert answered(name, "meta") == [(2, 7)] * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_model_takes_small_images(name: str) -> None:
    """Each of torchvision's classification models answers small images."""
    assert answered(name, "cpu" if "regnet" in name else "meta") == [(2, 7)] * 4


def test_images_are_brought_to_what_a_model_takes() -> None:
    """Grey becomes three channels, the shorter side the size, and pixels ImageNet's."""
    task = pictures(1, 20, 30)
    image = random_images(task)
    wide = F.interpolate(image, (40, 60), mode="bilinear", align_corners=False)
    expected = (wide - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    agent = made(task, architecture="resnet18", image_size=40, normalize=True)
    torch.testing.assert_close(agent.model.prepare(image), expected)
    assert [name for name, _ in agent.model.prepare.named_children()] == [
        "repeat", "enlarge", "normalize",
    ]  # fmt: skip
    plain = made(pictures(3, 20, 30), architecture="resnet18").model.prepare
    assert len(plain) == 0
    least = made(task, architecture="squeezenet1_0").model.prepare(image)
    torch.testing.assert_close(
        least[:, 0], F.interpolate(image, (21, 32), mode="bilinear", align_corners=False)[:, 0]
    )


def test_mean_and_deviation_are_those_of_torchvision() -> None:
    """Pixels are standardised by the numbers that torchvision's own weights come with."""
    transforms = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    assert (tuple(transforms.mean), tuple(transforms.std)) == (MEAN, STD)


def test_a_model_of_torchvision_learns_and_is_loaded(tmp_path: Path) -> None:
    """A step moves its weights; its checkpoint gives the same answers, for MNASNet as well."""
    for name in (TINY, "mnasnet0_5"):
        agent = made("digits", architecture=name, steps=2, batch_size=8, eval_samples=4)
        agent.learn()
        loaded = agents.load(agent.save(tmp_path / "a.safetensors"), device="cpu")
        batch = agent.task.samples("test", 8)
        np.testing.assert_array_equal(loaded.predict_arrays(batch), agent.predict_arrays(batch))
        assert loaded.identity() == agent.identity()


def written(path: Path, name: str = TINY, num_labels: int = 1000, seed: int = 1) -> Path:
    """Write a model's state dict, as other tools do, with weights of its own."""
    torch.manual_seed(seed)
    state = torchvision.models.get_model(name, num_classes=num_labels).state_dict()
    save_file(state, path)
    return path


def test_weights_of_a_file_are_taken_over(tmp_path: Path) -> None:
    """All layers are those of the file but the last, whose labels are others: that is said."""
    path = written(tmp_path / "weights.safetensors")
    with pytest.warns(
        UserWarning, match="another number of labels: .* the layer fc keeps its initial weights"
    ):
        agent = made("digits", architecture=TINY, weights=str(path))
    torch.manual_seed(1)
    given = torchvision.models.get_model(TINY).state_dict()
    found = agent.model.net.state_dict()
    assert [name for name in given if not torch.equal(given[name], found[name])] == [
        "fc.weight", "fc.bias",
    ]  # fmt: skip
    assert found["fc.weight"].shape == (10, 1024)
    assert "normalize" in dict(agent.model.prepare.named_children())
    other = made("digits", architecture=TINY, weights=str(path), normalize=False, seed=5,
                 weights_sha256=agent.config.weights_sha256)  # fmt: skip
    assert not torch.equal(other.model.net.fc.weight, found["fc.weight"])
    assert torch.equal(other.model.net.conv1[0].weight, given["conv1.0.weight"])
    assert "normalize" not in dict(other.model.prepare.named_children())


def test_the_last_layer_is_taken_over_where_it_fits(tmp_path: Path) -> None:
    """With the file's number of labels every tensor is the file's, and nothing is said."""
    path = written(tmp_path / "w.safetensors", num_labels=10)
    model = made("digits", architecture=TINY, weights=str(path)).model
    given = load_file(path)
    assert all(torch.equal(given[name], t) for name, t in model.net.state_dict().items())


def old_densenet() -> tuple[nn.Module, Callable[[str], str]]:
    """Return a small DenseNet, and what its tensors were called."""
    net = torchvision.models.DenseNet(4, (2,), 8, num_classes=3)
    return net, lambda name: re.sub(r"(denselayer\d\.(?:norm|conv))([12])", r"\1.\2", name)


def old_vit() -> tuple[nn.Module, Callable[[str], str]]:
    """Return a small Vision Transformer, and what its tensors were called."""
    net = torchvision.models.VisionTransformer(8, 4, 1, 1, 8, 8, num_classes=3)
    former = {"mlp.0": "mlp.linear_1", "mlp.3": "mlp.linear_2"}
    return net, lambda name: re.sub("mlp.[03]", lambda found: former[found[0]], name)


@pytest.mark.parametrize("make", [old_densenet, old_vit])
def test_names_of_older_files_are_known(
    make: Callable[[], tuple[nn.Module, Callable[[str], str]]], tmp_path: Path
) -> None:
    """Files with the former names of layers, and without counters of batches, are read."""
    net, rename = make()
    state = {rename(name): torch.randn_like(t.float()) for name, t in net.state_dict().items()}
    assert state.keys() != net.state_dict().keys()
    kept = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    save_file(kept, tmp_path / "old.safetensors")
    model = nn.Module()
    model.net = net
    load_weights(model, "it", str(tmp_path / "old.safetensors"), None)
    for name, tensor in net.state_dict().items():
        assert rename(name) not in kept or torch.equal(tensor, kept[rename(name)])


def test_answers_midway_are_left_out(tmp_path: Path) -> None:
    """A file of GoogLeNet with its two auxiliary answers is read; in another model they are odd."""
    state = torchvision.models.googlenet(num_classes=10, init_weights=False).state_dict()
    assert any(name.startswith("aux2.") for name in state)
    save_file(state, tmp_path / "w.safetensors")
    spec = pictures(3, 32, 32).spec
    model = make_classifier("googlenet", spec, None, True)
    load_weights(model, "googlenet", str(tmp_path / "w.safetensors"), None)
    assert all(torch.equal(state[name], t) for name, t in model.net.state_dict().items())
    assert model.net.transform_input
    with pytest.raises(ConfigError, match=r"unexpected: aux1\.conv"):
        load_weights(model, "another", str(tmp_path / "w.safetensors"), None)


class Evil:
    """An object whose unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def changed_state(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    """Return a function that writes a state dict after a change."""

    def write(path: Path) -> None:
        state = OrderedDict(torchvision.models.get_model(TINY, num_classes=10).state_dict())
        change(state)
        save_file(state, path)

    return write


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (changed_state(lambda s: s.pop("conv5.0.weight")), "1 missing: conv5.0.weight; acc"),
    "unexpected": (
        changed_state(lambda s: s.update({f"a{i}": torch.ones(1) for i in range(5)})),
        "5 unexpected: a0, a1, a2, …; accepted",
    ),
    "shape": (
        changed_state(lambda s: s.update({"conv1.0.weight": torch.ones(24, 1, 3, 3)})),
        r"1 of other shapes: conv1.0.weight \(24, 1, 3, 3\) for \(24, 3, 3, 3\)",
    ),
    "last layer": (
        changed_state(lambda s: s.update({"fc.weight": torch.ones(10, 99)})),
        r"1 of other shapes: fc.weight \(10, 99\) for \(10, 1024\)",
    ),
    "other model": (
        lambda path: written(path, "squeezenet1_1"),
        rf"does not fit {TINY}: \d+ missing: conv1.0.weight, .*; \d+ unexpected: "
        "classifier.1.bias, classifier.1.weight, features.0.bias",
    ),
    "pickled tensors": (
        lambda path: torch.save({"conv1.0.weight": torch.ones(3)}, path),
        r"cannot be read: .*; accepted: a .safetensors file; what torch.save wrote becomes one",
    ),
    "an object": (lambda path: torch.save(Evil(path.parent / "evil"), path), "cannot be read: "),
    "damaged": (
        lambda path: path.write_bytes(b"no weights at all"), "w.safetensors cannot be read: ",
    ),
    "missing file": (lambda path: None, "w.safetensors cannot be read: No such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    """Each file that holds something else is an error that says what; nothing is executed."""
    write, problem = BAD_FILES[case]
    path = tmp_path / "w.safetensors"
    write(path)
    with pytest.raises(ConfigError, match=f"agent cnn_classifier: weights: .*{problem}"):
        made("digits", architecture=TINY, weights=str(path))
    assert not (tmp_path / "evil").exists()


def test_a_checkpoint_does_without_the_file_of_weights(tmp_path: Path) -> None:
    """Loaded where the file is gone or another, an agent answers; a new one says what is wrong."""
    path = written(tmp_path / "w.safetensors", num_labels=10)
    agent = made("digits", architecture=TINY, weights=str(path))
    saved, batch = agent.save(tmp_path / "a.safetensors"), agent.task.samples("test", 9)
    answers = agent.predict_arrays(batch)
    settings = {"architecture": TINY, "weights": str(path)}
    for change, problem in (
        (lambda: written(path, num_labels=10, seed=2), "another file: its digest is"),
        (path.unlink, "w.safetensors cannot be read: No such file"),
    ):
        change()
        loaded = agents.load(saved, device="cpu")
        np.testing.assert_array_equal(loaded.predict_arrays(batch), answers)
        assert loaded.identity() == agent.identity()
        anew = made("digits", **settings, weights_sha256=agent.config.weights_sha256)
        with pytest.raises(ConfigError, match=problem):
            anew.learn(1)
    with pytest.raises(ConfigError, match="No such file"):
        made("digits", **settings)


def test_images_larger_than_a_model_takes_are_refused() -> None:
    """A model of one size says so, with the settings that help."""
    with pytest.raises(ConfigError, match=r"vit_b_32 takes images of 224 × 224, .* 300 or more"):
        made(pictures(3, 300, 200), architecture="vit_b_32")
