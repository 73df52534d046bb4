"""Convolutional networks that answer images: their layers, torchvision's models, and weights."""

import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import agents
import tasks
from agents.cnn_classifier import Block
from agents.core.agent import Agent
from agents.core.torchvision_models import DEVIATION, MEAN, make_classifier, take_over
from tasks.core.labelled import NamedImages
from tasks.core.settings import ConfigError
from tasks.core.task import Task
from tests.conftest import trained_agent

TINY = "shufflenet_v2_x0_5"  # the model of torchvision's with the fewest parameters that has norms
RELUS = [
    "stem.relu", "stage1.block1.relu1", "stage1.block1.relu2", "stage2.block1.relu1",
    "stage2.block1.relu2", "stage3.block1.relu1", "stage3.block1.relu2",
]  # fmt: skip
SOME = (
    "alexnet", "googlenet", "mnasnet0_5", "resnet18", "squeezenet1_1", "swin_t", "vit_b_32",
)  # models of torchvision's, one for each way in which sizes are found  # fmt: skip


def pictures(num_channels: int, height: int, width: int, num_labels: int = 10) -> Task:
    """Return a task of images of these sizes; it has no files."""
    classes = "/".join(map(str, range(num_labels)))
    sizes = {"num_channels": num_channels, "height": height, "width": width}
    return tasks.make("image_folder", classes=classes, **sizes)


def made(task: Task, **settings: object) -> Agent:
    """Return an untrained agent on the CPU."""
    return agents.make("cnn_classifier", task=task, device="cpu", precision="fp32", **settings)


def random_images(task: Task, num: int = 2) -> Tensor:
    """Return images (B, C, H, W) of a task's sizes, from 0 to 1."""
    spec = task.spec
    shape = (num, spec.num_channels, spec.height, spec.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("architecture", ["residual", "plain"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("size", [(1, 8, 8), (1, 28, 28), (3, 5, 9), (1, 1, 1)])
def test_images_of_any_size_are_answered(
    architecture: str, norm: str, size: tuple[int, int, int]
) -> None:
    """Every small network gives logits and gradients to images down to a single pixel."""
    task = pictures(*size)
    model = made(task, architecture=architecture, norm=norm, channels=4, num_blocks=2).model
    logits = model(random_images(task))
    assert logits.shape == (2, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def calls(model: nn.Module, image: Tensor) -> list[str]:
    """Return the names of the modules without parts in the order of their calls."""
    ran: list[str] = []
    for name, module in model.named_modules():
        if not [*module.children()]:
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    model(image)
    return ran


def test_layers_have_names_in_the_order_of_depth() -> None:
    """The ReLUs of a network are modules of short names, in the order in which they run."""
    for architecture in ("residual", "plain"):
        task = pictures(1, 28, 28)
        model = made(task, architecture=architecture).model
        names = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
        assert names == RELUS
        ran = calls(model, random_images(task))
        assert [name for name in ran if name in names] == RELUS
        assert {"pool1", "pool2", "average", "readout"} <= set(ran)
        assert [name for name, _ in model.named_children()][-4:] == [
            "average", "flat", "dropout", "readout",
        ]  # fmt: skip


def test_a_residual_block_adds_what_it_reads() -> None:
    """With inner weights of 0 a residual block is the ReLU of what it reads, a plain one is 0."""
    maps = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    for residual, expected in ((True, maps.relu()), (False, torch.zeros_like(maps))):
        block = Block(4, 4, "none", residual).eval()
        for parameter in block.parameters():
            nn.init.zeros_(parameter)
        torch.testing.assert_close(block(maps), expected)
    wider = Block(4, 8, "none", True)
    inner = wider.conv2(wider.conv1(maps).relu())
    torch.testing.assert_close(wider(maps), (inner + wider.shortcut(maps)).relu())


def test_sizes_are_as_set() -> None:
    """Stages have twice the feature maps of the one before, and blocks as many as asked for."""
    model = made(pictures(3, 16, 16), channels=3, num_stages=4, num_blocks=2, dropout=0.25).model
    widths = [
        getattr(model, f"stage{stage}").block2.conv2.weight.shape[:2] for stage in (1, 2, 3, 4)
    ]
    assert [tuple(width) for width in widths] == [(3, 3), (6, 6), (12, 12), (24, 24)]
    assert model.stem.conv.weight.shape == (3, 3, 3, 3)
    assert model.readout.weight.shape == (10, 24)
    assert model.dropout.p == 0.25
    assert not isinstance(model.stage4[-1], nn.MaxPool2d)


def test_answers_do_not_depend_on_the_pieces() -> None:
    """Many images that are answered in pieces get the logits, answers and loss of one call."""
    agent = made("digits", channels=2)
    batch = agent.task.samples("train", 300)
    with torch.inference_mode():
        agent.model.eval()
        logits = agent.model(torch.as_tensor(batch.image))
        expected = F.cross_entropy(logits, torch.as_tensor(batch.label)[:, 0])
    for piece in (7, 10_000):
        agent._piece = piece
        np.testing.assert_array_equal(agent.respond_to(batch)[:, 0], logits.argmax(-1))
        assert agent.mean_loss(batch) == pytest.approx(float(expected), rel=1e-5)


def test_one_image_is_enough_to_learn_from() -> None:
    """A batch of a single image of one pixel, of which no variance is known, has a loss."""
    agent = made(pictures(1, 1, 1), channels=2)
    image = np.full((1, 1, 1, 1), 0.5, np.float32)
    loss = agent.loss(NamedImages(image, np.array([[3]]), np.array([0])))
    loss.backward()
    assert loss.isfinite()


@pytest.fixture(scope="module")
def trained() -> Agent:
    """Return an agent that learned the bundled scans for some seconds, with one thread."""
    return trained_agent("cnn_classifier", task="digits", seed=0, steps=300, eval_every=300)


def test_a_network_learns_to_name_scans(trained: Agent) -> None:
    """A seventh of the usual steps names more than 97 in 100 withheld scans."""
    assert trained.evaluate()["accuracy"] > 0.97
    names = [f"test/{index}" for index in range(20)]
    assert trained.predict(names) == trained.predict([*trained.task.encode(names).image])


def test_it_says_what_it_answered(trained: Agent) -> None:
    """The study has the answers of the agent, its logits, and no part that is recurrent."""
    batch = trained.task.samples("test", 30)
    before = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    trained.model.train()
    study = trained.study(batch)
    codes, logits = study.write()
    assert all(torch.equal(before[n], t) for n, t in trained.model.state_dict().items())
    assert study.parts == ()
    assert logits.shape == (30, 1, 10)
    np.testing.assert_array_equal(codes, trained.respond_to(batch))
    np.testing.assert_array_equal(study.right, codes.numpy()[:, 0] == batch.label[:, 0])
    changed = trained.intervene("test/3")
    assert changed.before == changed.after == trained.predict("test/3")


def demand_that_it_takes(name: str, device: str) -> None:
    """Demand that a model takes grey images of 8 × 8 and colours, in training and out of it."""
    for num_channels, height, width in ((1, 8, 8), (3, 30, 50)):
        task = pictures(num_channels, height, width, 7)
        with torch.device(device):
            model = make_classifier(name, task.spec, None, True)
            images = torch.zeros(2, num_channels, height, width)
            for mode in (True, False):
                assert model.train(mode)(images).shape == (2, 7)
    assert not any(vars(module).get("inplace") for module in model.modules())


@pytest.mark.parametrize("name", SOME)
def test_every_kind_of_model_takes_small_images(name: str) -> None:
    """Models of torchvision's answer small images; sizes alone are computed, without numbers."""
    demand_that_it_takes(name, "meta")


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_model_takes_small_images(name: str) -> None:
    """Each of torchvision's classification models answers small images."""
    demand_that_it_takes(name, "cpu" if "regnet" in name else "meta")


def test_images_are_brought_to_what_a_model_takes() -> None:
    """Grey becomes three channels, the shorter side the size, and pixels ImageNet's."""
    task = pictures(1, 20, 30)
    image = random_images(task)
    wide = F.interpolate(image, (40, 60), mode="bilinear", align_corners=False)
    expected = (wide - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    agent = made(task, architecture="resnet18", image_size=40, standardise=True)
    torch.testing.assert_close(agent.model.prepare(image), expected)
    assert [name for name, _ in agent.model.prepare.named_children()] == [
        "repeat", "enlarge", "standardise",
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
    assert (tuple(transforms.mean), tuple(transforms.std)) == (MEAN, DEVIATION)


def test_a_model_of_torchvision_learns_and_is_loaded(tmp_path: Path) -> None:
    """A step moves its weights; its checkpoint gives the same answers, for MNASNet as well."""
    for name in (TINY, "mnasnet0_5"):
        agent = made("digits", architecture=name, steps=2, batch_size=8, eval_samples=4)
        agent.learn()
        loaded = agents.load(agent.save(tmp_path / "a.safetensors"), device="cpu")
        batch = agent.task.samples("test", 8)
        np.testing.assert_array_equal(loaded.respond_to(batch), agent.respond_to(batch))
        assert loaded.identity() == agent.identity()


def written(path: Path, name: str = TINY, num_labels: int = 1000, seed: int = 1) -> Path:
    """Write a model's state dict, as other tools do, with weights of its own."""
    torch.manual_seed(seed)
    state = torchvision.models.get_model(name, num_classes=num_labels).state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_weights_of_a_file_are_taken_over(tmp_path: Path, suffix: str) -> None:
    """All layers are those of the file but the last, whose labels are others: that is said."""
    path = written(tmp_path / f"weights{suffix}")
    with pytest.warns(UserWarning, match="another number of labels: .* the layer fc begins anew"):
        agent = made("digits", architecture=TINY, weights=str(path))
    torch.manual_seed(1)
    given = torchvision.models.get_model(TINY).state_dict()
    found = agent.model.net.state_dict()
    assert [name for name in given if not torch.equal(given[name], found[name])] == [
        "fc.weight", "fc.bias",
    ]  # fmt: skip
    assert found["fc.weight"].shape == (10, 1024)
    assert "standardise" in dict(agent.model.prepare.named_children())
    other = made("digits", architecture=TINY, weights=str(path), standardise=False, seed=5,
                 weights_sha256=agent.config.weights_sha256)  # fmt: skip
    assert not torch.equal(other.model.net.fc.weight, found["fc.weight"])
    assert torch.equal(other.model.net.conv1[0].weight, given["conv1.0.weight"])
    assert "standardise" not in dict(other.model.prepare.named_children())


def test_the_last_layer_is_taken_over_where_it_fits(tmp_path: Path) -> None:
    """With the file's number of labels every tensor is the file's, and nothing is said."""
    path = written(tmp_path / "w.pth", num_labels=10)
    model = made("digits", architecture=TINY, weights=str(path)).model
    given = torch.load(path, weights_only=True)
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
    torch.save(kept, tmp_path / "old.pth")
    model = nn.Module()
    model.net = net
    take_over(model, "it", str(tmp_path / "old.pth"), None)
    for name, tensor in net.state_dict().items():
        assert rename(name) not in kept or torch.equal(tensor, kept[rename(name)])


def test_answers_midway_are_left_out(tmp_path: Path) -> None:
    """A file of GoogLeNet with its two auxiliary answers is read; in another model they are odd."""
    state = torchvision.models.googlenet(num_classes=10, init_weights=False).state_dict()
    assert any(name.startswith("aux2.") for name in state)
    torch.save(state, tmp_path / "w.pth")
    spec = pictures(3, 32, 32).spec
    model = make_classifier("googlenet", spec, None, True)
    take_over(model, "googlenet", str(tmp_path / "w.pth"), None)
    assert all(torch.equal(state[name], t) for name, t in model.net.state_dict().items())
    assert model.net.transform_input
    with pytest.raises(ConfigError, match=r"unexpected: aux1\.conv"):
        take_over(model, "another", str(tmp_path / "w.pth"), None)


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
        torch.save(state, path)

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
        rf"does not fit {TINY}: \d+ missing: conv1.0.weight, .*; \d+ unexpected: features.0",
    ),
    "wrapped": (
        lambda path: torch.save({"state_dict": {}, "epoch": 3}, path),
        r"w.pth holds a dict of state_dict, epoch; accepted: a dict of tensors by name alone",
    ),
    "a tensor": (lambda path: torch.save(torch.ones(3), path), "w.pth holds a Tensor"),
    "an object": (lambda path: torch.save(Evil(path.parent / "evil"), path), "cannot be read: "),
    "damaged": (lambda path: path.write_bytes(b"no weights at all"), "w.pth cannot be read: "),
    "missing file": (lambda path: None, "w.pth cannot be read: No such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    """Each file that holds something else is an error that says what; nothing is executed."""
    write, problem = BAD_FILES[case]
    path = tmp_path / "w.pth"
    write(path)
    with pytest.raises(ConfigError, match=f"agent cnn_classifier: weights: .*{problem}"):
        made("digits", architecture=TINY, weights=str(path))
    assert not (tmp_path / "evil").exists()


def test_a_checkpoint_does_without_the_file_of_weights(tmp_path: Path) -> None:
    """Loaded where the file is gone or another, an agent answers; a new one says what is wrong."""
    path = written(tmp_path / "w.pth", num_labels=10)
    agent = made("digits", architecture=TINY, weights=str(path))
    saved, batch = agent.save(tmp_path / "a.safetensors"), agent.task.samples("test", 9)
    answers = agent.respond_to(batch)
    settings = {"architecture": TINY, "weights": str(path)}
    for change, problem in (
        (lambda: written(path, num_labels=10, seed=2), "another file: its digest is"),
        (path.unlink, "w.pth cannot be read: No such file"),
    ):
        change()
        loaded = agents.load(saved, device="cpu")
        np.testing.assert_array_equal(loaded.respond_to(batch), answers)
        assert loaded.identity() == agent.identity()
        anew = made("digits", **settings, weights_sha256=agent.config.weights_sha256)
        with pytest.raises(ConfigError, match=problem):
            anew.learn(1)
    with pytest.raises(ConfigError, match="No such file"):
        made("digits", **settings)


BAD_SETTINGS = {
    "typo": ({"architecture": "resnet81"}, "architecture: 'resnet81' is .* did you mean resnet18"),
    "small typo": ({"architecture": "residal"}, "did you mean residual"),
    "too small": (
        {"architecture": "alexnet", "image_size": 40},
        "image_size: 40 is less than alexnet takes, .*; accepted: 63 or more, or null",
    ),
    "smaller": ({"architecture": "resnet18", "image_size": 7}, "accepted: 8 or more"),
    "patches": ({"architecture": "vit_b_16", "image_size": 30}, "30 does not go with vit_b_16"),
    "channels": (
        {"architecture": "resnet18", "channels": 8},
        "channels: 8 does not go with the architecture resnet18; accepted: .* residual or plain",
    ),
    "weights": ({"weights": "a.pth"}, "weights: 'a.pth' does not go with .* residual"),
    "size": ({"architecture": "plain", "image_size": 32}, "image_size: 32 does not .* plain"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_go_together_are_refused(case: str) -> None:
    """Each names the setting, its value, what is accepted, and the nearest name."""
    settings, problem = BAD_SETTINGS[case]
    with pytest.raises(ConfigError, match=problem):
        made("digits", **settings)


def test_images_larger_than_a_model_takes_are_refused() -> None:
    """A model of one size says so, with the settings that help."""
    with pytest.raises(ConfigError, match=r"vit_b_32 takes images of 224 × 224, .* 300 or more"):
        made(pictures(3, 300, 200), architecture="vit_b_32")


def test_settings_are_shown_without_torch() -> None:
    """The settings are printed without the seconds that importing torch takes."""
    code = (
        "import sys, main\n"
        "main.main(['--agent', 'cnn_classifier', '--task', 'digits', '--print-config'])\n"
        "sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "architecture: residual" in done.stdout
