"""Questions on gradients and units: vanishing, exploding, dead, saturated."""

import numpy as np

from visualization.diagnosis.evidence import RunEvidence
from visualization.diagnosis.findings import Answer, Evidence, Line, Panel, harmless, unknown

_LOST_SHARE = 1e-4  # of a gradient: what is left of it is nothing
_EXPLODING_GROWTH = 100.0  # times: a gradient that grew as much
_EXPLODING_NORM = 100.0  # norm of a gradient, and times its median
_MOST_UNITS = 0.5  # of a layer's units


def flows(run: RunEvidence) -> dict[str, dict[int, float]]:
    """Gradient flow of each recurrent layer: steps before the end → the median gradient there."""
    by_layer: dict[str, dict[int, float]] = {}
    for tag in run.tags("flow/"):
        layer, _, lag = tag.removeprefix("flow/").rpartition("/")
        if lag.isdecimal():
            by_layer.setdefault(layer, {})[int(lag)] = float(np.median(run.series(tag)[1]))
    return {layer: dict(sorted(values.items())) for layer, values in by_layer.items()}


def _flow_panel(run: RunEvidence) -> Panel:
    lines = {
        layer: (list(values), [max(value, 1e-30) for value in values.values()])
        for layer, values in flows(run).items()
    }
    return Panel(
        title="gradient by what was read", lines=lines,
        names=("steps before the end", "mean L2 norm"), logarithmic="y",
    )  # fmt: skip


def _layer_panel(run: RunEvidence) -> Panel:
    lines: dict[str, Line] = {
        tag.removeprefix("grad/"): run.series(tag) for tag in run.tags("grad/")
    }
    return Panel(
        title="gradient by layer", lines=lines, names=("step", "L2 norm, before clipping"),
        logarithmic="y",
    )  # fmt: skip


def _evidence(run: RunEvidence) -> Evidence:
    panels = [_layer_panel(run)] if run.tags("grad/") else []
    return Evidence(tuple([*panels, _flow_panel(run)] if run.tags("flow/") else panels))


def vanishing(run: RunEvidence) -> Answer:
    """Does the gradient reach the first steps and the first layers?"""
    if not run.tags("grad/"):
        return unknown(run.why_missing("no gradients were recorded"))
    share, where = min(_weakest_flow(run), _weakest_layer(run))
    measurement = f"{share:.1g} of it is left {where}" if share else f"none of it is left {where}"
    evidence = _evidence(run)
    if share >= _LOST_SHARE:
        text = f"The gradient gets where it is needed: {measurement}."
        return Answer("fine", measurement, text, (), evidence)
    if not run.is_stuck:
        return harmless(run, "The gradient dies out on its way back", measurement, evidence)
    text = (
        f"The gradient dies out on its way back, and nothing is learned from there: {measurement}."
    )
    return Answer("problem", measurement, text, _vanishing_advice(run), evidence)


def _weakest_flow(run: RunEvidence) -> tuple[float, str]:
    """Return the smallest share of the gradient that is left at a layer's first step."""
    shares = [
        (values[max(values)] / max(values.values()), f"{max(values)} steps back in {layer}")
        for layer, values in flows(run).items() if max(values.values()) > 0
    ]  # fmt: skip
    return min(shares, default=(1.0, ""))


def _weakest_layer(run: RunEvidence) -> tuple[float, str]:
    """Return the smallest gradient of a layer, as a share of the largest, medians over the run."""
    norms = {tag: float(np.median(run.series(tag)[1])) for tag in run.tags("grad/")}
    weakest = min(norms, key=lambda tag: norms[tag])
    return norms[weakest] / max(*norms.values(), 1e-30), f"in {weakest.removeprefix('grad/')}"


def is_cut_off(run: RunEvidence) -> bool:
    """Tell whether no gradient at all reaches some layer: no weakness, but a cut."""
    return any(not run.series(tag)[1].any() for tag in run.tags("grad/"))


def _vanishing_advice(run: RunEvidence) -> tuple[str, ...]:
    settings, advice = run.settings, []
    if settings.get("cell") in ("rnn", "relu_rnn"):
        advice.append("--set cell=lstm")
    if settings.get("num_layers", 1) > 1:
        advice.append("--set num_layers=1")
    if settings.get("num_stages", 1) > 1 and settings.get("curriculum_loss_threshold") is None:
        advice.append("--set curriculum_loss_threshold=0.05")
    return (*advice, "shorter sequences first", "forget gates that begin open")


def exploding(run: RunEvidence) -> Answer:
    """Do gradients or losses grow out of bounds?"""
    _, norms = run.series("train/grad_norm")
    if not len(norms):
        if not run.diverged:
            return unknown(run.why_missing("no gradients were recorded"))
        norms = np.array([np.inf])  # it ended before the first record
    grown, layer = _strongest_growth(run)
    largest, usual = float(norms.max()), float(np.median(norms))
    clip = run.settings.get("clip_norm")
    measurement = f"norm {usual:.2g} as a rule, {largest:.2g} at most"
    if not np.isfinite(largest):
        measurement = "no finite gradient was recorded"
    if grown > 1:
        measurement += (
            f"; {grown:.2g} times larger at the first step of {layer} than in its later half"
        )
    evidence = _evidence(run)
    bursts = largest > _EXPLODING_NORM and clip is None
    grows = grown > _EXPLODING_GROWTH and usual > 1
    has_grown = bursts or grows
    if has_grown and not run.is_stuck:
        return harmless(run, "The gradient grows out of bounds", measurement, evidence)
    if has_grown or run.diverged:
        end = " The run ended in numbers that are not finite." if run.diverged else ""
        text = f"The gradient grows out of bounds: {measurement}.{end}"
        return Answer("problem", measurement, text, _exploding_advice(run), evidence)
    clipped = "" if clip is None else f" Norms above {clip:g} are cut."
    return Answer(
        "fine",
        measurement,
        f"The gradient stays within bounds: {measurement}.{clipped}",
        (),
        evidence,
    )


def _strongest_growth(run: RunEvidence) -> tuple[float, str]:
    """Return how many times larger the gradient is at a layer's first step than in its later half.

    The last steps alone would not do: what is read there may be padding, which nothing depends on.
    """
    growths = []
    for layer, values in flows(run).items():
        near = max((value for lag, value in values.items() if lag <= max(values) / 2), default=0.0)
        if near > 0:
            growths.append((values[max(values)] / near, layer))
    return max(growths, default=(1.0, ""))


def _exploding_advice(run: RunEvidence) -> tuple[str, ...]:
    clip = run.settings.get("clip_norm")
    return (
        "--set clip_norm=1" if clip is None else f"--set clip_norm={clip / 3:.2g}",
        f"--set learning_rate={run.rate / 3:.1g}",
        "smaller (orthogonal) recurrent weights to begin with",
    )


def dead(run: RunEvidence) -> Answer:
    """Do units say the same whatever is read?"""
    advice = (
        "biases that begin at zero, and smaller weights",
        f"--set learning_rate={run.rate / 3:.1g}",
        "an activation that is not flat on one side: tanh or GELU for ReLU",
    )
    return _units(run, "dead", "say the same whatever is read", advice)


def saturated(run: RunEvidence) -> Answer:
    """Are units at their bounds, where the gradient is zero?"""
    advice = (
        "smaller weights to begin with, and questions scaled to about ±1",
        "--set weight_decay=0.01",
        f"--set learning_rate={run.rate / 3:.1g}",
    )
    return _units(run, "saturated", "are at their bounds nearly always", advice)


def _units(run: RunEvidence, kind: str, what: str, advice: tuple[str, ...]) -> Answer:
    tags = [tag for tag in run.tags("units/") if tag.endswith(f"/{kind}")]
    if not tags:
        if run.tags("grad/"):
            return unknown("the model has no layer of a kind whose units are watched")
        return unknown(run.why_missing("no units were watched"))
    shares = {_layer(tag): run.series(tag) for tag in tags}
    worst = max(shares, key=lambda layer: shares[layer][1][-1])
    share = float(shares[worst][1][-1])
    lines: dict[str, Line] = {
        layer: (steps, 100 * values) for layer, (steps, values) in shares.items()
    }
    evidence = Evidence(
        (Panel(title=f"{kind} units", lines=lines, names=("step", f"{kind} units, %"), top=100.0),)
    )
    measurement = f"{share:.0%} of the units of {worst}"
    if share > _MOST_UNITS and (run.is_stuck or run.is_behind):
        return Answer(
            "problem", measurement, f"Too many units {what}: {measurement}.", advice, evidence
        )
    if share > _MOST_UNITS:
        return harmless(run, f"Many units {what}", measurement, evidence)
    return Answer("fine", measurement, f"Few enough units {what}: {measurement}.", (), evidence)


def _layer(tag: str) -> str:
    return tag.removeprefix("units/").rpartition("/")[0]
