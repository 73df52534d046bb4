"""The views of an agent that answers images with labels, where there is little to see."""

import numpy as np
import pytest
import torch
from torch import nn

import tasks
from agents.core.agent import Agent
from agents.core.inspection.images import ImageViews
from tasks.core.task import Task
from tests.conftest import make_task, small_agent
from visualization import conv
from visualization.core.registry import anchor
from visualization.feature_maps.progression import weights_before
from visualization.feature_maps.unit_pages import address
from visualization.records import Transcript


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at little: what is found is not asked here."""
    for name, value in {"NUM_IMAGES": 40, "NUM_LAYERS": 3, "NUM_OFTEN": 6, "STEPS": 3}.items():
        monkeypatch.setattr(f"agents.core.inspection.images.{name}", value)


def silenced(*names: str) -> Agent:
    """Return an agent of which normalisations put out -1 everywhere."""
    agent = small_agent("cnn_classifier", num_stages=1, channels=4)
    for name in names:
        norm = agent.model.get_submodule(name)
        with torch.no_grad():
            norm.weight.zero_()
            norm.bias.fill_(-1.0)
    return agent


def test_a_dead_layer_is_left_out_and_called_dead() -> None:
    """Views that need an excited unit look at the living layers; the dead one is listed as dead."""
    report = silenced("stage1.block1.norm1").inspect(["patterns", "fields", "dead_units", "units"])
    assert list(report["patterns"]) == ["stem.relu", "stage1.block1.relu2"]
    assert list(report["fields"]) == ["stem.relu", "stage1.block1.relu2"]
    assert "stage1.block1.relu1" in report["units"]
    dead = next(
        line for line in report.text().splitlines() if "4 channels of stage1.block1.relu1" in line
    )
    assert dead.endswith("dead: 0, 1, 2, 3")


def test_a_view_that_has_nothing_to_show_says_why() -> None:
    """Among all views its reason stands in its place; asked for by name it is an error."""
    agent = silenced("stem.norm", "stage1.block1.norm1", "stage1.block1.norm2")
    agent.model.stage1.block1.shortcut = None
    report = agent.inspect()
    assert isinstance(report["patterns"], Transcript)
    assert "no image activates any channel" in report["patterns"].text
    assert report["summary"].num_parameters > 0
    with pytest.raises(ValueError, match="no image activates any channel"):
        agent.inspect(["patterns"])


def test_views_leave_a_model_that_learns_as_it_was() -> None:
    """Called by themselves, with the model in training mode, they change no running mean."""
    agent = small_agent("cnn_classifier").learn()
    agent.model.train()
    before = {name: tensor.clone() for name, tensor in agent.model.state_dict().items()}
    views = agent.views()
    for name in ("patches", "units", "paste", "maximised"):
        views[name]()
    assert agent.model.training
    assert all(torch.equal(before[n], t) for n, t in agent.model.state_dict().items())


def test_progression_is_a_view_where_it_was_recorded() -> None:
    """With copies of the weights there is one for each layer, and the line from first to last."""
    plain, recorded = (
        small_agent("cnn_classifier"),
        small_agent("cnn_classifier", num_weight_snapshots=3),
    )
    assert "progression" not in plain.learn().views()
    report = recorded.learn().inspect(["progression", "landscape", "layer_probes"])
    for record in report["progression"].values():
        assert record.steps.tolist() == [0, 2, 12]
    assert set(report["landscape"]) == {"line", "plane"}
    assert report["layer_probes"].untrained is not None


def test_names_of_layers_make_addresses() -> None:
    """Whatever a layer is called, its pages lie in one folder; sections have plain addresses."""
    assert address("stage1.relu@1", 3) == "units/stage1.relu@1/3.html"
    assert address("a/b #1", 0) == "units/a%2Fb%20%231/0.html"
    assert anchor("units/a/b #1") == "units-a-b-1"


class Functional(nn.Module):
    """Two convolutions of as many channels with functions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.up = nn.ConvTranspose2d(4, 4, 2)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return maps (B, 4, H, W)."""
        return self.normed(self.up(self.conv2(self.conv1(x).relu()).relu()))


@pytest.mark.parametrize(
    ("layer", "name"), [("conv2", "conv2.weight"), ("up", None), ("normed", None)]
)
def test_weights_are_those_of_the_last_that_fits_or_none(layer: str, name: str | None) -> None:
    """Of equal kernels the last one's; none of a layer of another kind, or without its own."""
    assert weights_before(Functional(), layer, torch.zeros(1, 1, 8, 8)) == name


def views_of(task: Task) -> ImageViews:
    """Return the views of an untrained classifier of a task's images."""
    agent = small_agent("cnn_classifier", task=task, num_stages=1, channels=4)
    return ImageViews(agent)


def test_strokes_are_looked_for_in_handwriting_alone() -> None:
    """Dissection is offered for scans of handwriting, not for all that has one channel."""
    offered = {name: make_task(name) for name in ("digits", "mnist", "fashion_mnist")}
    offered["grey"] = tasks.make("image_folder", classes="a/b", num_channels=1, height=8, width=8)
    found = {name for name, task in offered.items() if task.spec.is_handwriting}
    agent = small_agent("cnn_classifier", num_stages=1, channels=4)
    assert "dissection" in agent.views()
    assert found == {"digits", "mnist"}


def test_what_is_explained_is_what_the_network_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps, captions and curves are of the answer, not of the label that is right."""
    monkeypatch.setattr("agents.core.inspection.images.NUM_SHOWN", 2)  # a 0 and a 1
    monkeypatch.setattr("visualization.attribution.methods._NUMBERS_MASKED", 0)
    views = views_of(make_task("digits"))
    head = [module for module in views._network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.bias[7] += 100.0
    assert views.attribution().targets == ("7", "7")
    wanted = conv.saliency(views._network, views._shown, 7).sum(dim=1)
    np.testing.assert_allclose(views.attribution().maps["saliency"], wanted, rtol=1e-4, atol=1e-7)
    curves = views.faithfulness()
    assert curves.quantity == "probability"
    assert min(values[:, 0].min() for values in curves.deletion.values()) > 0.99


def test_channels_that_carry_the_answer_are_of_the_last_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The view has the network's own answers, and the maps of a layer that agents look at."""
    monkeypatch.setattr("agents.core.inspection.images.NUM_SHOWN", 2)
    views = views_of(make_task("digits"))
    found = views.channel_relevance()
    assert found.layer == views._layers[-1]
    assert found.maps.shape == (2, 4, 8, 8)
    assert found.targets == views.attribution().targets


def test_classes_have_their_names_in_edits() -> None:
    """An edit of an image or a map shows the labels of the task."""
    views = views_of(make_task("digits"))
    for record in (views.response(), views.map_edit()):
        assert record.answers.classes == tuple("0123456789")
