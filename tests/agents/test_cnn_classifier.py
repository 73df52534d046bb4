"""The convolutional classifier: its layers, its learning, its settings."""

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.cnn_classifier import Block
from agents.core.agent import Agent
from agents.core.training.loop import to_device
from tasks.core.labelled import NamedImages
from tasks.core.settings import ConfigError
from tests.conftest import trained_agent
from tests.helpers.classifiers import made, pictures, random_images
from tests.helpers.imports import printed_without

RELUS = [
    "stem.relu", "stage1.block1.relu1", "stage1.block1.relu2", "stage2.block1.relu1",
    "stage2.block1.relu2", "stage3.block1.relu1", "stage3.block1.relu2",
]  # fmt: skip


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
    for budget in (1, 100_000, 2**40):
        agent.config = attrs.evolve(agent.config, eval_memory=budget / 2**20)
        np.testing.assert_array_equal(agent.predict_arrays(batch)[:, 0], logits.argmax(-1))
        assert agent.mean_loss(batch) == pytest.approx(float(expected), rel=1e-5)


def test_one_image_is_enough_to_learn_from() -> None:
    """A batch of a single image of one pixel, of which no variance is known, has a loss."""
    agent = made(pictures(1, 1, 1), channels=2)
    image = np.full((1, 1, 1, 1), 0.5, np.float32)
    batch = NamedImages(image, np.array([[3]]), np.array([0]))
    loss = agent.loss(to_device(batch, agent.device))
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
    study = trained.observe(batch)
    codes, logits = study.answer()
    assert all(torch.equal(before[n], t) for n, t in trained.model.state_dict().items())
    assert study.recurrent == ()
    assert logits.shape == (30, 1, 10)
    np.testing.assert_array_equal(codes, trained.predict_arrays(batch))
    np.testing.assert_array_equal(study.correct, codes.numpy()[:, 0] == batch.label[:, 0])
    changed = trained.intervene("test/3")
    assert changed.before == changed.after == trained.predict("test/3")


BAD_SETTINGS = {
    "typo": ({"architecture": "resnet81"}, "unknown model 'resnet81'; .* did you mean resnet18"),
    "small typo": ({"architecture": "residal"}, "did you mean residual"),
    "too small": (
        {"architecture": "alexnet", "image_size": 40},
        "image_size: 40 is less than alexnet takes, .*; accepted: 63 or more, or null",
    ),
    "smaller": ({"architecture": "resnet18", "image_size": 7}, "accepted: 8 or more"),
    "patches": ({"architecture": "vit_b_16", "image_size": 30}, "30 cannot be combined with vit"),
    "channels": (
        {"architecture": "resnet18", "channels": 8},
        "channels: 8 cannot be combined with the architecture resnet18; .* residual or plain",
    ),
    "weights": ({"weights": "a.pth"}, "weights: 'a.pth' cannot be combined with .* residual"),
    "size": ({"architecture": "plain", "image_size": 32}, "image_size: 32 cannot .* plain"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_go_together_are_refused(case: str) -> None:
    """Each names the setting, its value, what is accepted, and the nearest name."""
    settings, problem = BAD_SETTINGS[case]
    with pytest.raises(ConfigError, match=problem):
        made("digits", **settings)


def test_settings_are_shown_without_torch() -> None:
    """The settings are printed without the seconds that importing torch takes."""
    words = ["--agent", "cnn_classifier", "--task", "digits", "--print-config"]
    printed = printed_without({"torch", "torchvision"}, f"import main; main.main({words})")
    assert "architecture: residual" in printed
