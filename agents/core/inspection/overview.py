"""Overview of an inspected network: one row for each layer, from the records of its views."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from visualization.core.pictures import display_range
from visualization.core.pixels import data_uri, image_colors
from visualization.feature_maps.fields.patches import TopPatches
from visualization.model.values import DeadUnits
from visualization.recurrent import GateSaturation, ProbeTable, UnitRanking, UnitRoles
from visualization.report import Overview, Pictures
from visualization.representation.layer_probes import PIXELS, LayerProbes

NUM_PATCHES = 3
NUM_UNITS = 4  # the most important
_MOSTLY = 0.95  # of all steps: a gate that is shut or open so often is saturated
Cell = str | Pictures
Column = tuple[str, Callable[[str], Cell]]  # its heading, and the cell of a layer


def overview(records: Mapping[str, Any]) -> Overview | None:
    """Return the overview that some views give, of recurrent layers or of feature maps."""
    return _of_recurrent_layers(records) or _of_feature_maps(records)


def _table(layers: Iterable[str], columns: list[Column], caption: str) -> Overview | None:
    """Return a table without columns that are empty; None: there is no other."""
    rows = {layer: [cell(layer) for _, cell in columns] for layer in layers}
    filled = [number for number in range(len(columns)) if any(row[number] for row in rows.values())]
    if not filled:
        return None
    return Overview(
        columns=("layer", *(columns[number][0] for number in filled)),
        rows=[[layer, *(row[number] for number in filled)] for layer, row in rows.items()],
        caption=caption,
    )


def _of_feature_maps(records: Mapping[str, Any]) -> Overview | None:
    dead, probes = records.get("dead_units"), records.get("layer_probes")
    patches = records.get("patches")
    patches = patches if isinstance(patches, Mapping) else {}
    states = {each.name: each for each in dead.layers} if isinstance(dead, DeadUnits) else {}
    probed = probes if isinstance(probes, LayerProbes) else None
    rows = {name: row for row, name in enumerate(probed.layers)} if probed else {}

    def size(layer: str) -> str:
        numbers = (
            f"{probed.num_features[rows[layer]]:,} numbers" if probed and layer in rows else ""
        )
        units = f"{states[layer].num_units} units" if layer in states else ""
        return ", ".join(filter(None, (units, numbers)))

    def dead_units(layer: str) -> str:
        return f"{len(states[layer].dead)} of {states[layer].num_units}" if layer in states else ""

    def probe(layer: str) -> str:
        return f"{probed.accuracy[rows[layer]]:.1%}" if probed and layer in rows else ""

    def best(layer: str) -> Cell:
        return _best_patches(patches[layer]) if layer in patches else ""

    order = list(dict.fromkeys([*states, *rows, *patches]))
    shown = {*patches, *rows} or set(states)
    layers = [layer for layer in order if layer in shown and layer != PIXELS]
    chance = f" (chance: {probed.majority:.1%})" if probed else ""
    return _table(
        layers,
        [("size of its output", size), ("dead units", dead_units),
         (f"a linear probe finds the label{chance}", probe), ("strongest patches", best)],
        "Dead units are never above 0. A probe is a line fitted to a layer's outputs and scored "
        "on other images. Patches are what excites three channels most.",
    )  # fmt: skip


def _best_patches(top: TopPatches) -> Pictures:
    """Return the best patch of the channels that it excites most, relative to their other ones."""
    values = np.where(top.image >= 0, top.value, 0)
    excess = values[:, 0] / (values.mean(axis=1) + 1e-12)
    best = [row for row in np.argsort(-excess, kind="stable") if top.image[row, 0] >= 0]
    limits = display_range(top.patches)
    return [
        (
            f"channel {top.channels[row]}",
            data_uri(image_colors(top.patches[row, 0], limits, top.inside[row, 0])),
        )
        for row in best[:NUM_PATCHES]
    ]


def _of_recurrent_layers(records: Mapping[str, Any]) -> Overview | None:
    def part(view: str, layer: str, kind: type) -> Any:
        parts = records.get(view)
        record = parts.get(layer) if isinstance(parts, Mapping) else None
        return record if isinstance(record, kind) else None

    def units(layer: str) -> str:
        roles = part("roles", layer, UnitRoles)
        return f"{len(roles.kinds)}" if roles else ""

    def constant(layer: str) -> str:
        roles = part("roles", layer, UnitRoles)
        return f"{roles.count('constant')}" if roles else ""

    def saturated(layer: str) -> str:
        gates = part("gates", layer, GateSaturation)
        return _saturated(gates) if gates else ""

    def probe(layer: str) -> str:
        probes = part("probes", layer, ProbeTable)
        return _best_probe(probes) if probes else ""

    def important(layer: str) -> str:
        ranking = part("ablation", layer, UnitRanking)
        return _important(ranking, part("roles", layer, UnitRoles)) if ranking else ""

    names = ("roles", "gates", "probes", "ablation")
    views = [records[name] for name in names if isinstance(records.get(name), Mapping)]
    return _table(
        dict.fromkeys(layer for view in views for layer in view),
        [("units", units), ("constant", constant), ("with a saturated gate", saturated),
         ("best linear probe", probe), ("most important units", important)],
        f"Constant units hardly vary. A gate is saturated that is shut or open at {_MOSTLY:.0%} of "
        "all steps or more. A probe is beside its control, whose labels are shuffled. Of important "
        "units: their role, and how the first score changes without them.",
    )  # fmt: skip


def _saturated(gates: GateSaturation) -> str:
    """Return how many units have a gate that hardly moves."""
    shares = [*gates.left.values(), *gates.right.values()]
    return f"{int((np.stack(shares) >= _MOSTLY).any(axis=0).sum())}"


def _best_probe(probes: ProbeTable) -> str:
    """Return the quantity that a probe finds best beyond its control."""
    gains = np.nan_to_num(probes.gains)
    if not gains.size or gains.max() == 0:
        return ""
    row, column = np.unravel_index(gains.argmax(), gains.shape)
    when = "all steps" if column == gains.shape[1] - 1 else f"step {column}"
    score, control = probes.scores[row, column], probes.controls[row, column]
    kind = "" if probes.categorical[row] else "R² "
    return f"{probes.quantities[row]}, {when}: {kind}{score:.2f} (control {control:.2f})"


def _important(ranking: UnitRanking, roles: UnitRoles | None) -> str:
    """Return the units whose loss changes the first score most, with their roles."""
    change = next(iter(ranking.change.values()))
    words = []
    for group in ranking.order[:NUM_UNITS]:
        units = ranking.groups[group]
        role = f"{roles.kinds[units[0]]}, " if roles and len(units) == 1 else ""
        words.append(f"{', '.join(map(str, units))} ({role}{change[group]:+.3f})")
    return "; ".join(words)
