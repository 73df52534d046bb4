"""Conformance checks: each says in one sentence what must hold, and else what it found.

The suites are `tasks.conformance` and `agents.conformance`; what they have in common is here.
"""

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np

from tasks.core.batch import Batch, plain_arrays
from tasks.core.settings import ConfigError, TerrariumError, nearest, setting


@attrs.frozen
class Failure:
    """A check that does not hold: its name, what was found, and what is accepted."""

    check: str
    found: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.check}: {self.found}; accepted: {self.accepted}"


class ConformanceError(TerrariumError, AssertionError):
    """A class does not keep the contract; `failures` has each check that does not hold."""

    def __init__(self, *failures: Failure) -> None:
        self.failures = failures
        super().__init__("\n".join(map(str, failures)))


class _UnmetError(Exception):
    """What a check found."""


def require(holds: bool, found: str) -> None:
    """End a check unless something holds; `found` says what is the case instead."""
    if not holds:
        raise _UnmetError(found)


@attrs.frozen
class Check:
    """Conformance check of one class: a call raises a ConformanceError if it does not hold.

    Attributes:
        name: of the check; its `str`, so that `ids=str` names it in pytest.
        requirement: what must hold, in one sentence.
    """

    name: str
    requirement: str
    _function: Callable[[], None] = attrs.field(repr=False)

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Run the check."""
        accepted = self.requirement[:1].lower() + self.requirement[1:].removesuffix(".")
        try:
            self._function()
        except _UnmetError as error:
            raise ConformanceError(Failure(self.name, str(error), accepted)) from None
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            raise ConformanceError(Failure(self.name, found, accepted)) from error


def checks_of(
    subject: Any,
    functions: Iterable[Callable[[Any], None]],
    except_for: Mapping[str, str] | None,
    place: str,
) -> list[Check]:
    """Return the checks of a subject: one for each function, by its name and docstring.

    Args:
        subject: the argument of each function.
        functions: the checks; each raises by `require`.
        except_for: names of checks that are left out, and why.
        place: the caller, for errors.
    """
    by_name = {function.__name__: function for function in functions}
    for name in except_for or ():
        if name not in by_name:
            hint = nearest(name, by_name)
            raise ConfigError(
                place, "except_for", f"unknown check {name!r}", ", ".join(by_name), hint
            )
    return [
        Check(name, " ".join((inspect.getdoc(function) or "").split()), _bound(function, subject))
        for name, function in by_name.items()
        if name not in (except_for or ())
    ]


def _bound(function: Callable[[Any], None], subject: Any) -> Callable[[], None]:
    return lambda: function(subject)


def run_all(checks: Iterable[Check]) -> None:
    """Run checks, all of them, and raise one ConformanceError with each that does not hold."""
    failures: list[Failure] = []
    first: ConformanceError | None = None
    for check in checks:
        try:
            check()
        except ConformanceError as error:
            failures.extend(error.failures)
            first = first or error
    if first is not None:
        raise ConformanceError(*failures) from first.__cause__


def require_settings(cls: type) -> None:
    """Require that all fields of a class are settings, so that its values say all about it."""
    undeclared = type(setting(0, "of nothing"))
    forgotten = [name for name, value in vars(cls).items() if isinstance(value, undeclared)]
    named = ", ".join(forgotten)
    require(not forgotten, f"{cls.__name__} is not decorated by @attrs.frozen: {named} is no field")
    others = [f.name for f in attrs.fields(cls) if f.init and "help" not in f.metadata]
    require(not others, f"{', '.join(others)} of {cls.__name__}: a field that is no setting(…)")


def equal(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    """Tell whether batches or predictions are equal: arrays, texts, tuples and lists of them."""
    if isinstance(a, Batch) and isinstance(b, Batch):
        first, second = plain_arrays("batch", a), plain_arrays("batch", b)
        return equal([*first.values()], [*second.values()], tolerance)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        pairs = zip(a, b, strict=False)
        return len(a) == len(b) and all(equal(*pair, tolerance) for pair in pairs)
    if tolerance and not isinstance(a, str) and a is not None:
        return np.shape(a) == np.shape(b) and np.allclose(a, b, atol=tolerance)
    return np.array_equal(a, b)


@contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and numpy for a block, which must leave them so.

    Who draws from them gives other data than was asked for, and disturbs those who draw as well.
    """
    state, states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global one
        before = generator_states()
        yield
        after = generator_states()
    finally:
        random.setstate(state)
        np.random.set_state(states)  # noqa: NPY002 - the global one
    require(before == after, "the global generator of Python or numpy was drawn from, or seeded")


def generator_states() -> Sequence[Any]:
    """Return the states of the global generators of Python and numpy."""
    kind, keys, position, *rest = np.random.get_state()  # noqa: NPY002 - the global one
    return [random.getstate(), kind, np.asarray(keys).tolist(), position, rest]
