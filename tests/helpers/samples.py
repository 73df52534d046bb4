"""A record of each kind that is drawn, plain or as large as people have them, for several tests."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import torch

from visualization.attention.images import ImageAttention
from visualization.attention.maps import AttentionMaps
from visualization.diagnosis import Diagnosis, Evidence, Finding, Panel, RateTest
from visualization.diagnosis.findings import Answer
from visualization.model.cost import CostTable, LayerCost
from visualization.records import AnswerTable, Bars, Curves, Scatter, Table, Transcript
from visualization.recurrent.ablation import UnitRanking
from visualization.recurrent.cells import CellTrace
from visualization.recurrent.intervention import ActivationPatching, Intervention
from visualization.recurrent.machine import Automaton
from visualization.recurrent.overlay import LayerHeatmap, UnitTextHeatmap
from visualization.recurrent.paths import StatePaths
from visualization.recurrent.queries import Match, Matches
from visualization.recurrent.roles import UnitRoles
from visualization.recurrent.saturation import GateSaturation
from visualization.representation.comparison import AnswerAgreement, GroupAccuracy, UnitMatch
from visualization.representation.probes import ProbeTable

RNG = np.random.default_rng(0)
_STATE = RNG.bit_generator.state
LONG = "backbone_features_stage_four_block"  # with its number, of 40 letters
HAN = "中文网络第层名称"


@attrs.frozen
class Size:
    """How much there is to draw: counts, words, and the shape of an image (C, H, W)."""

    layers: int
    steps: int
    units: int
    samples: int
    long: bool
    image: tuple[int, int, int] = (1, 8, 8)

    def name(self, number: int) -> str:
        """Return a name: short, or long and in Chinese every third time."""
        if not self.long:
            return f"layer{number}"
        return f"{HAN}{number}" if number % 3 == 1 else f"{LONG}_{number:05d}"

    def names(self, num: int) -> tuple[str, ...]:
        """Return so many names."""
        return tuple(self.name(number) for number in range(num))

    def words(self, short: str) -> str:
        """Return a few words, or a long sentence that begins with them."""
        more = f" {HAN} of {LONG} and all that came before it, in the order of the calls" * 2
        return short + more if self.long else short

    def characters(self, *shape: int) -> np.ndarray:
        """Return what is read or written at each place: digits, or Chinese too."""
        return RNG.choice(list("0123456789+" + (HAN if self.long else "")), shape)

    def images(self, *count: int) -> np.ndarray:
        """Return images (…, C, H, W) with values from 0 to 1."""
        return RNG.random((*count, *self.image))


PLAIN = Size(layers=2, steps=8, units=5, samples=3, long=False)
EXTREME = Size(layers=100, steps=5000, units=300, samples=3, long=True, image=(3, 16, 16))
THIN = Size(layers=1, steps=1, units=1, samples=1, long=False, image=(1, 1024, 1))
SIZES = {"extreme": EXTREME, "least": THIN}  # what is read at both ends is read between them


@attrs.frozen
class Row:
    """An answered question."""

    question: str
    answer: str
    target: str
    correct: bool
    short_question: str = ""


Builder = Callable[[Size], Any]


def reproducible(builders: dict[type, Builder]) -> dict[type, Builder]:
    """Return functions that make the same record whatever was made before."""

    def alone(build: Builder) -> Builder:
        def made(size: Size) -> Any:
            RNG.bit_generator.state = _STATE
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(0)
                return build(size)

        return made

    return {kind: alone(build) for kind, build in builders.items()}


def spread(*shape: int) -> np.ndarray:
    """Return numbers of both signs."""
    return RNG.normal(size=shape)


def shares(*shape: int) -> np.ndarray:
    """Return numbers from 0 to 1."""
    return RNG.random(shape)


def trace(size: Size) -> CellTrace:
    """Return a trace of an LSTM."""
    shape = (1, 2, size.steps, size.units)
    gates = {name: torch.rand(shape) for name in "ifgo"}
    return CellTrace("lstm", torch.rand(shape), torch.rand(shape), gates)


def overlay(size: Size) -> UnitTextHeatmap:
    """Return several layers over the same samples."""
    parts = tuple(
        LayerHeatmap(
            name, {"c": spread(2, size.steps, size.units)}, size.characters(2, size.steps),
            size.characters(2, size.steps) if number else None, {},
        )
        for number, name in enumerate(size.names(min(3, size.layers)))
    )  # fmt: skip
    return UnitTextHeatmap("cells", parts, (size.words("1+2"), "3"), np.ones(2, bool))


def roles(size: Size) -> UnitRoles:
    """Return roles of counters and detectors."""
    num = size.units
    kinds = tuple(("counter", "detector", "mixed")[unit % 3] for unit in range(num))
    symbols = tuple("0123456789+⏎")[: size.units] + (tuple(HAN) if size.long else ())
    return UnitRoles(
        shares=RNG.dirichlet(np.ones(3), num), kinds=kinds, deviations=shares(num),
        by_position=spread(min(size.steps, 100), num), by_symbol=spread(len(symbols), num),
        symbols=symbols, order=np.arange(num),
    )  # fmt: skip


def probes(size: Size) -> ProbeTable:
    """Return a table of probes, with places where a quantity is undefined."""
    num = min(size.layers, 40)
    scores = 40 * spread(num, size.steps + 1) if size.long else shares(num, size.steps + 1)
    scores[0, 0] = np.nan
    return ProbeTable(
        quantities=size.names(num), categorical=np.arange(num) % 2 == 0, scores=scores,
        controls=0 * scores, correlations=np.zeros((num, size.steps + 1, 2)), units=("0", "1"),
        num_samples=100, held_out=0.3,
    )  # fmt: skip


def paths(size: Size) -> StatePaths:
    """Return paths coloured by categories, of which there may be many."""
    num = min(size.steps, 200)
    colors = RNG.integers(-1, 60 if size.long else 3, (size.samples, num))
    return StatePaths(spread(size.samples, num, 2), np.array([0.6, 0.3]), size.words("bit"), colors)


def attention(size: Size) -> AttentionMaps:
    """Return several heads, or one map."""
    num, heads, wide = min(size.samples, 6), min(size.layers, 32), min(size.steps, 60)
    weights = RNG.dirichlet(np.ones(wide), (heads, num, wide))
    text = size.characters(num, wide)
    labels = tuple(size.words(f"{number}+2 = 3") for number in range(num))
    names = size.names(heads)
    return AttentionMaps(
        weights=weights, names=names, written=text, read=text, labels=labels,
        right=np.ones(num, bool), order="", shares={}, by_chance={},
    )  # fmt: skip


def image_attention(size: Size) -> ImageAttention:
    """Return attention over images of several shapes."""
    num, long = min(size.samples, 6), size.steps > 100
    written = size.words("123") if long else "1"
    maps = RNG.dirichlet(np.ones(30), (num, len(written)))[:, :, None].astype(np.float32)
    images = RNG.random((num, 1, 8, 60 if long else 4), np.float32)
    return ImageAttention(images=images, written=(written,) * num, maps=maps)


def automaton(size: Size) -> Automaton:
    """Return a machine of few states or of more than can be circles."""
    states = 40 if size.long else min(4, size.layers)
    alphabet = (*"0123456789", *size.names(40)) if size.long else ("0", "1")
    outputs = size.names(3) if size.long else ("odd", "even", "none")
    return Automaton(
        alphabet=alphabet, outputs=tuple(outputs[state % 3] for state in range(states)),
        transitions=RNG.integers(0, states, (states, len(alphabet))), initial=0,
        num_clusters=states, agreement=0.99, exact=0.9, num_held_out=12345,
    )  # fmt: skip


def panel(size: Size) -> Panel:
    """Return lines, levels and a place."""
    x = np.arange(1, size.steps + 1)
    lines = {name: (x, shares(size.steps)) for name in size.names(min(size.layers, 12))}
    names = (size.words("step"), size.words("loss"))
    return Panel(
        title=size.words("loss"), lines=lines, names=names, logarithmic="",
        levels={size.words("chance"): 0.5}, marks={"best": 1.0},
    )  # fmt: skip


def finding(size: Size, evidence: bool = True) -> Finding:
    """Return a finding with its evidence."""
    panels = tuple(panel(size) for _ in range(4 if size.long else 1))
    answer = Answer(
        "problem", size.words("a figure"), size.words("It is so."), ("--set a=1",),
        Evidence(panels) if evidence else None,
    )  # fmt: skip
    return Finding(size.words("Is it?"), size.words("a name"), answer)


def diagnosis(size: Size) -> Diagnosis:
    """Return some findings."""
    found = tuple(finding(size, False) for _ in range(min(size.layers, 20)))
    return Diagnosis(size.words("an agent on a task"), found, size.words("no problem"))


def rates(size: Size) -> RateTest:
    """Return a range test."""
    num = size.steps
    at, losses = tuple(np.geomspace(1e-5, 1, num)), tuple(shares(num) + 0.1)
    return RateTest(
        rates=at, losses=losses, smoothed=losses, suggestion=0.01, best=0.1, diverged_at=0.5,
    )  # fmt: skip


def ranking(size: Size) -> UnitRanking:
    """Return a ranking by two scores, or several."""
    num = size.units
    names = [size.name(at) for at in range(5 if size.long else 2)]
    change = {name: -shares(num) for name in names}
    ends = [{name: values + way for name, values in change.items()} for way in (-0.1, 0.1)]
    groups = tuple((unit,) for unit in range(num))
    baseline = dict.fromkeys(names, 1234.5678)
    return UnitRanking(
        groups=groups, replacement="mean", baseline=baseline, change=change,
        share_changed=shares(num), low=ends[0], high=ends[1], order=np.arange(num),
        num_samples=1000, confidence=0.95,
    )  # fmt: skip


def patching(size: Size) -> ActivationPatching:
    """Return what units carry to places of an answer."""
    num = 60 if size.long else min(14, size.steps)
    places = tuple(map(str, range(num)))
    values = 0.3 * shares(size.units, num)
    return ActivationPatching(
        changed=values, adopted=values, full_state=shares(num), positions=places,
        position_name=size.words("column"), time=4, num_samples=100,
    )  # fmt: skip


def intervention(size: Size) -> Intervention:
    """Return an answer with states changed."""
    places, codes = (60, 3000) if size.long else (3, 12)
    characters = [chr(0x4E00 + code) if size.long else str(code) for code in range(codes)]
    changes = tuple(f"{name}: unit 3 = 0 at all steps" for name in size.names(size.layers))
    answer = "".join(characters[:places])
    odds = RNG.dirichlet(0.01 * np.ones(codes), (2, places))
    return Intervention(
        question=size.words("1+2"), changes=changes, before=answer, after=answer,
        probabilities=odds, characters=characters,
    )  # fmt: skip


def overlap(size: Size) -> AnswerAgreement:
    """Return a comparison by a few quantities, or by many of long values."""
    num = 40
    corner = RNG.integers(0, 4, num)
    groups = {
        name: tuple(
            GroupAccuracy(value, 123456, 0.5, 0.7) for value in size.names(min(size.layers, 30))
        )
        for name in size.names(min(size.layers, 12))
    }
    return AnswerAgreement((size.name(0), size.name(1)), corner, 0.01, groups, size.names(num))


def match(size: Size) -> UnitMatch:
    """Return the units of two layers in pairs."""
    num = size.units
    pairs = np.stack([np.arange(num)] * 2, axis=1)
    names = (size.name(0), size.name(1))
    return UnitMatch(2 * shares(num, num) - 1, pairs, shares(num), names)


def matches(size: Size) -> Matches:
    """Return windows in which the same units are on."""
    num, start = 40 if size.long else size.samples, max(0, size.steps - 3)
    found = tuple(
        Match(sample=sample, start=start, stop=size.steps, shared=(1, 2), num_on=7, run=12)
        for sample in range(num)
    )
    texts = tuple("".join(line) for line in size.characters(num + 1, size.steps))
    return Matches(
        sample=0, start=start, stop=size.steps, threshold=0.3, units=tuple(range(size.units)),
        matches=found, num_all=99999, texts=texts,
    )  # fmt: skip


def curves(size: Size) -> Curves:
    """Return panels of curves, one of them with many labels."""
    x = list(range(1, size.steps + 1))
    panels = {
        name: {label: (x, 0.1 + shares(size.steps)) for label in size.names(min(size.layers, 30))}
        for name in size.names(min(size.layers, 4))
    }
    return Curves(panels, frozenset([size.name(0)]), size.words("step"))


def answers(size: Size) -> AnswerTable:
    """Return answered questions."""
    long = size.words("174") if size.long else "174"
    num = 300 if size.long else size.samples
    rows = [Row("12+3", long, long, bool(row % 2)) for row in range(num)]
    return AnswerTable(size.words("worked answers"), rows)


def named(size: Size, num: int) -> dict[str, float]:
    """Return numbers by name."""
    return dict(zip(size.names(num), 1e9 * shares(num), strict=True))


def table(size: Size) -> Table:
    """Return rows of words."""
    columns, rows = (30, 300) if size.long else (3, 4)
    return Table(size.words("a table"), size.names(columns), [size.names(columns)] * rows)


def cost(size: Size) -> CostTable:
    """Return what each layer costs."""
    names = size.names(size.layers)
    layers = (
        LayerCost(
            name=n,
            kind="Conv2d",
            output_shape=(1, 9),
            calls=1,
            num_parameters=385187552,
            multiply_adds=10**12,
            output_bytes=9,
        )
        for n in names
    )
    return CostTable(tuple(layers), 1)


def scatter(size: Size) -> Scatter:
    """Return a dot for each sample."""
    names: Sequence[str] = (size.words("steps"), size.words("loss"))
    return Scatter(size.words("losses"), shares(size.steps), shares(size.steps), names)


def gates(size: Size) -> GateSaturation:
    """Return how often gates are shut and open."""
    values = {name: shares(size.units) for name in "ifo"}
    return GateSaturation(values, values, 0.1, 0.9)


def transcript(size: Size) -> Transcript:
    """Return what a terminal showed: nothing, some lines, or very many long ones."""
    lines = {PLAIN: 5, EXTREME: 2000, THIN: 0}[size]
    return Transcript("\n".join([size.words("$ python main.py")] * lines))


SAMPLES: dict[type, Builder] = reproducible({
    CellTrace: trace, UnitTextHeatmap: overlay, GateSaturation: gates, UnitRoles: roles,
    ProbeTable: probes, StatePaths: paths, AttentionMaps: attention,
    ImageAttention: image_attention, Automaton: automaton,
    Diagnosis: diagnosis, Finding: finding, RateTest: rates, UnitRanking: ranking,
    Evidence: lambda size: finding(size).answer.evidence, ActivationPatching: patching,
    Intervention: intervention, AnswerAgreement: overlap, UnitMatch: match, Matches: matches,
    Curves: curves, AnswerTable: answers, Scatter: scatter, Transcript: transcript, Table: table,
    Bars: lambda size: Bars({name: named(size, size.layers) for name in size.names(2)}),
    CostTable: cost,
})  # fmt: skip
