"""Interventions on units of a recurrent layer: which, when, and to what."""

import operator
from collections.abc import Iterable, Sequence

import attrs
import torch
from torch import Tensor, nn

from visualization.core.errors import argument_error, value_error

Value = float | Tensor | None


def _as_numbers(units: Iterable[int] | None) -> tuple[int, ...] | None:
    try:
        return None if units is None else tuple(operator.index(unit) for unit in units)
    except TypeError:
        problem = f"units {units!r} are not accepted"
        raise argument_error("Edit", problem, "numbers of units, such as [3], or None") from None


@attrs.frozen(kw_only=True, eq=False)
class Edit:
    """Intervention on units: one change of some units' states.

    Attributes:
        units: numbers of units; None: all of the layer.
        time: the step after which the state is changed, from 0; None: at every step, and in the
            initial state too.
        h: the new hidden state: a number, (units,) or (batch, units).
        c: the new cell state (LSTM only), likewise. If only c is given, h becomes o · tanh(c).
        scale: multiplies h and c instead.
        layer: number of the layer.
        direction: 0 forwards, 1 backwards.

    Raises:
        ValueError: nothing is changed, or two ways at once, or a unit twice, or a negative number.
    """

    units: Sequence[int] | None = attrs.field(default=None, converter=_as_numbers)
    time: int | None = None
    h: Value = None
    c: Value = None
    scale: float | None = None
    layer: int = 0
    direction: int = 0

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if (self.h is None and self.c is None) == (self.scale is None):
            problem = "what it changes is not clear"
            raise argument_error("Edit", problem, "h or c or both, or else scale")
        if len(set(self.units or ())) < len(self.units or ()):
            raise argument_error("Edit", f"units {self.units} are not accepted", "each once")
        if self.time is not None and self.time < 0:
            raise value_error("Edit", f"time {self.time}", "0 or more, or None")

    def __str__(self) -> str:
        """Return in words what is changed."""
        which = "all units" if self.units is None else f"unit {', '.join(map(str, self.units))}"
        when = "always" if self.time is None else f"after step {self.time}"
        if self.scale is not None:
            return f"{which} times {self.scale:g} {when}"
        new_values = {
            name: value for name, value in (("h", self.h), ("c", self.c)) if value is not None
        }
        numbers = {
            n: f"{v:.3g}" if isinstance(v, (int, float)) else "…" for n, v in new_values.items()
        }
        changes = ", ".join(f"{name} = {value}" for name, value in numbers.items())
        return f"{which}: {changes} {when}"

    @property
    def is_shared(self) -> bool:
        """Whether all samples get the same values."""
        return all(torch.as_tensor(v).ndim < 2 for v in (self.h, self.c) if v is not None)

    def mirrored(self, last: int) -> "Edit":
        """Return the edit as a layer sees it that reads from the end; `last` is the last time."""
        return self if self.time is None else attrs.evolve(self, time=last - self.time)

    def on_h(self, h: Tensor) -> Tensor:
        """Return hidden states (batch, …, units) with this edit."""
        return _edited_states(h, self.units, self.h, self.scale)

    def on_c(self, c: Tensor) -> Tensor:
        """Return cell states (batch, …, units) with this edit."""
        return _edited_states(c, self.units, self.c, self.scale)


def _edited_states(
    states: Tensor, units: Sequence[int] | None, value: Value, scale: float | None
) -> Tensor:
    if value is None and scale is None:
        return states
    changed = states.clone()
    units_index = slice(None) if units is None else list(units)
    if scale is not None:
        changed[..., units_index] *= scale
    else:
        new_value = torch.as_tensor(value, dtype=states.dtype, device=states.device)
        try:
            changed[..., units_index] = new_value
        except RuntimeError:
            expected = tuple(changed[..., units_index].shape)
            problem = f"a value of shape {tuple(new_value.shape)} is not accepted"
            raise argument_error(
                "Edit", problem, f"a number, {expected[-1:]} or {expected}"
            ) from None
    return changed


def apply_edit(edit: Edit, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return states (batch, units) with an edit."""
    return edit.on_h(h), None if c is None else edit.on_c(c)


def split_clamps(edits: Sequence[Edit]) -> tuple[list[Edit], list[Edit]]:
    """Return the edits that hold units at one value at every step, and the others.

    Where another edit changes one of the units too, order matters, and none of them holds it.
    """
    clamps = [
        e for e in edits if e.time is None and e.scale is None and e.is_shared
        and not any(_overlap(e, other) for other in edits if other is not e)
    ]  # fmt: skip
    return clamps, [e for e in edits if e not in clamps]


def _overlap(a: Edit, b: Edit) -> bool:
    return a.units is None or b.units is None or not set(a.units).isdisjoint(b.units)


def edit_steps(edits: Sequence[Edit], start_time: int, num_steps: int) -> set[int]:
    """Return the steps, counted from 0, after which edits act in a run that begins at a time."""
    times: set[int] = set()
    for edit in edits:
        times |= set(range(num_steps)) if edit.time is None else {edit.time - start_time}
    return {time for time in times if 0 <= time < num_steps}


def check_edits(edits: Sequence[Edit], rnn: nn.RNNBase) -> None:
    """Raise a ValueError if `rnn` is not a recurrent layer, or an edit names what it has not.

    A subclass that computes something else in a `forward` of its own is none, since looking runs
    in the place of `forward`.
    """
    accepted = "an nn.LSTM, nn.GRU or nn.RNN (of a model: the layer in it)"
    if not issubclass(type(rnn), nn.RNNBase):
        raise value_error("rnn", type(rnn).__name__, accepted)
    if type(rnn).forward not in (nn.LSTM.forward, nn.GRU.forward, nn.RNN.forward):
        problem = f"{type(rnn).__name__} has a forward of its own, which is not looked into"
        raise argument_error("rnn", problem, accepted)
    for edit in edits:
        if rnn.proj_size:
            raise value_error("Edit", "a projected LSTM", "proj_size 0")
        checks = [("layer", edit.layer, rnn.num_layers)]
        checks.append(("direction", edit.direction, 2 if rnn.bidirectional else 1))
        checks += [("units", unit, rnn.hidden_size) for unit in edit.units or ()]
        for name, value, size in checks:
            if not 0 <= value < size:
                raise value_error("Edit", f"{name} {value}", f"0 to {size - 1}")
        if edit.c is not None and rnn.mode != "LSTM":
            raise argument_error("Edit", f"c: a layer of kind {rnn.mode} has no cell", "h, scale")
