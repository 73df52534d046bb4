"""Figures of the cost of a model."""

from matplotlib.figure import Figure

from visualization.core.registry import draw, text
from visualization.model.cost import CostTable, LayerCost
from visualization.records import Bars


@draw.register
def _(record: CostTable) -> Figure:
    names = {layer: f"{layer.name or 'the model'} ({layer.kind})" for layer in record.layers}
    parameters = f"parameters: {record.num_parameters:,}"
    products = f"multiply-adds a sample: {record.multiply_adds / record.num_samples:,.0f}"
    counts = {name: float(layer.num_parameters) for layer, name in names.items()}
    costs = {name: (layer.multiply_adds or 0) / record.num_samples for layer, name in names.items()}
    return draw(Bars({parameters: counts, products: costs}))


def _per_sample(layer: LayerCost, table: CostTable) -> str:
    if layer.multiply_adds is None:
        return "not counted"
    return f"{layer.multiply_adds / table.num_samples:,.0f}"


@text.register
def _(record: CostTable) -> str:
    names = [layer.name or "the model" for layer in record.layers]
    wide = max([14, *map(len, names)]) + 2
    head = (
        f"{'layer':<{wide}}{'kind':<19}{'output':<18}{'calls':>6}{'parameters':>12}"
        f"{'MACs/sample':>16}{'output bytes/sample':>21}"
    )
    rows = [
        f"{name:<{wide}}{layer.kind[:17]:<19}{layer.output_shape!s:<18}{layer.calls:>6}"
        f"{layer.num_parameters:>12,}{_per_sample(layer, record):>16}"
        f"{layer.output_bytes / record.num_samples:>21,.0f}"
        for name, layer in zip(names, record.layers, strict=True)
    ]
    total = (
        f"{'all':<{wide + 43}}{record.num_parameters:>12,}"
        f"{record.multiply_adds / record.num_samples:>16,.0f}"
    )
    return "\n".join([head, *rows, total])
