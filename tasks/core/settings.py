"""Typed settings: declaration with bounds and help text, validation, errors that name the place.

Tasks and agents declare their settings as frozen attrs classes:

>>> @attrs.frozen(kw_only=True)
... class Kitchen:
...     eggs: int = setting(2, "in the pan", ge=1)
>>> build(Kitchen, {"eggs": SourcedValue(0, "file, line 3")})
Traceback (most recent call last):
tasks.core.settings.ConfigError: file, line 3: eggs: 0 is out of range; accepted: an integer ≥ 1
"""

import difflib
import numbers
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from tasks.core import earlier_names

T = TypeVar("T")
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_MOST_BITS = 64  # of an integer: what numpy and torch take
_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "text"}


class TerrariumError(Exception):
    """Base class of errors that a user can correct; `exit_code` is that of the command line."""

    exit_code = 1


class ConfigError(TerrariumError, ValueError):
    """A setting, a name or an input that is not accepted.

    Args:
        place: where it was written, such as `"adder.yaml, line 3"` or `"--set hidden_size"`.
        field: the setting's name; `""` where the place says it all.
        problem: what is wrong, with the value.
        accepted: what would be right.
        nearest: the nearest right name, if there is one.
    """

    exit_code = 2

    def __init__(
        self, place: str, field: str, problem: str, accepted: str, nearest: str | None = None
    ) -> None:
        self.place, self.field, self.problem = place, field, problem
        self.accepted, self.nearest = accepted, nearest
        head = ": ".join(part for part in (place, field, problem) if part)
        hint = f"; did you mean {nearest}?" if nearest else ""
        super().__init__(f"{head}; accepted: {accepted}{hint}")


@attrs.frozen
class SourcedValue:
    """Value of a setting, and the place where it was specified."""

    value: object
    place: str


def nearest(name: object, names: Iterable[str]) -> str | None:
    """Return the most similar one of `names`, for a hint; None if none is similar."""
    matches = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def setting(
    default: Any,
    help: str | None = None,  # noqa: A002 - argparse's word for the same thing
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    mutable_after_training: bool = False,
    first_default: Any = attrs.NOTHING,
    renamed_from: str | Sequence[str] = (),
    **earlier: Any,
) -> Any:
    """Declare one field of a settings class.

    Args:
        default: its value where none is given.
        help: what it is, with units; it is read alone.
        gt: a number is greater than this.
        ge: a number is greater than or equal to this.
        lt: a number is less than this.
        le: a number is less than or equal to this.
        mutable_after_training: whether it may be changed later, as it does not affect what was
            learned so far.
        first_default: the default at the time when run folders were first named by the setting. A
            default that has changed since does not change which folder belongs to which settings.
        renamed_from: earlier names, the oldest first, which are still read as this setting. The
            names of run folders are computed with the oldest.
        earlier: arguments by their earlier names.
    """
    present = {
        "help": help, "mutable_after_training": mutable_after_training,
        **earlier_names.present_arguments("setting()", earlier),
    }  # fmt: skip
    assert present["help"], "a setting has a help text"
    pairs = {"gt": gt, "ge": ge, "lt": lt, "le": le}
    bounds = {name: bound for name, bound in pairs.items() if bound is not None}
    return attrs.field(
        default=default,
        converter=attrs.Converter(_convert, takes_field=True),
        validator=_validate,
        metadata={
            "bounds": bounds,
            "first_default": default if first_default is attrs.NOTHING else first_default,
            "renamed_from": (renamed_from,) if isinstance(renamed_from, str) else renamed_from,
            **present,
        },
    )


def accepted_values(field: "attrs.Attribute[Any]") -> str:
    """Describe in words which values a setting accepts."""
    bounds = " and ".join(f"{_BOUNDS[k]} {v}" for k, v in field.metadata["bounds"].items())
    return _describe(field.type, bounds)


def _describe(kind: Any, bounds: str) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_describe(part, bounds) for part in get_args(kind))
    if kind is type(None):
        return "null"
    words = _KINDS[kind]
    return f"{words} {bounds}" if bounds and kind in (int, float) else words


def fits(value: object, kind: Any) -> bool:
    """Return whether a plain value is of the annotated type, without coercion."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return any(fits(value, part) for part in get_args(kind))
    if kind is type(None):
        return value is None
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def _out_of_range(value: object, bounds: Mapping[str, float]) -> bool:
    if not isinstance(value, (int, float)):
        return False
    tests = {
        "gt": lambda v, b: v > b,
        "ge": lambda v, b: v >= b,
        "lt": lambda v, b: v < b,
        "le": lambda v, b: v <= b,
    }
    return not all(tests[name](value, bound) for name, bound in bounds.items())


def _plain(value: object) -> object:
    """Convert a number or text of another library, such as numpy, to Python's own type."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _convert(value: object, field: "attrs.Attribute[Any]") -> object:
    """Convert to a plain value, and an integer to a float if the setting is a float.

    So equal settings are written alike, and have the same run folder.
    """
    plain = _plain(value)
    is_float = float in (get_args(field.type) or (field.type,)) and fits(plain, float)
    return float(plain) if is_float else plain  # type: ignore[arg-type]


def check(field: "attrs.Attribute[Any]", value: object, place: str) -> None:
    """Raise ConfigError unless `value` is of the field's type and within its bounds."""
    if not fits(value, field.type):
        options = get_args(field.type) if get_origin(field.type) is Literal else ()
        hint = nearest(value, options) if isinstance(value, str) else None
        shown = "null" if value is None else repr(value)
        problem = f"{shown} is not accepted" if options else f"{shown} has the wrong type"
        raise ConfigError(place, field.name, problem, accepted_values(field), hint)
    is_float = float in (get_args(field.type) or (field.type,))
    if isinstance(value, int) and value.bit_length() > _MOST_BITS and not is_float:
        problem = f"an integer of {value.bit_length():,} bits"
        accepted = f"{accepted_values(field)}, of at most {_MOST_BITS} bits"
        raise ConfigError(place, field.name, problem, accepted)
    if _out_of_range(value, field.metadata["bounds"]):
        raise ConfigError(place, field.name, f"{value!r} is out of range", accepted_values(field))


def _validate(instance: object, field: "attrs.Attribute[Any]", value: object) -> None:
    check(field, value, type(instance).__name__)


def fields(cls: type) -> dict[str, "attrs.Attribute[Any]"]:
    """Return the settings of a class by name, in their order."""
    return {field.name: field for field in attrs.fields(cls) if "help" in field.metadata}


def non_default_settings(settings: object) -> dict[str, Any]:
    """Return the settings that differ from their class's defaults, as plain values."""
    defaults = {name: field.default for name, field in fields(type(settings)).items()}
    return {name: value for name, value in to_values(settings).items() if value != defaults[name]}


def digest_values(settings: object, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the settings that the name of a run folder is computed from, by their first names.

    Those are the settings that differ from their first defaults. `values` replace the values of
    settings that do.
    """
    digested = {}
    for name, field in fields(type(settings)).items():
        value = getattr(settings, name)
        if value != field.metadata["first_default"]:
            first_name = (*field.metadata["renamed_from"], name)[0]
            digested[first_name] = (values or {}).get(name, value)
    return digested


def present_names(
    cls: type,
    settings: Mapping[str, SourcedValue],
    notify: Callable[[str, str, str], None] | None = None,
) -> dict[str, SourcedValue]:
    """Return settings with the present name for each that is given by an earlier one.

    `notify` is called with the place, the earlier name and the present one.

    Raises:
        ConfigError: a setting is given by two names.
    """
    present_by_earlier = _present_by_earlier(cls)
    renamed: dict[str, SourcedValue] = {}
    for name, item in settings.items():
        present = present_by_earlier.get(name, name)
        if present in renamed or (present != name and present in settings):
            other = renamed.get(present, settings.get(present, item))
            problem = (
                f"duplicate key {name!r}: the earlier name of {present!r}, which {other.place} has"
            )
            raise ConfigError(item.place, "", problem, "each setting once")
        if present != name and notify is not None:
            notify(item.place, name, present)
        renamed[present] = item
    return renamed


def present_values(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values, as a checkpoint has them, by the present names of their settings."""
    present_by_earlier = _present_by_earlier(cls)
    return {present_by_earlier.get(name, name): value for name, value in values.items()}


def _present_by_earlier(cls: type) -> dict[str, str]:
    own = fields(cls)
    pairs = ((old, name) for name, f in own.items() for old in f.metadata["renamed_from"])
    return {old: name for old, name in pairs if old not in own}  # a class may use a name again


def _warn_renamed(place: str, old: str, new: str) -> None:
    earlier_names.warn_renamed(f"{place}: setting {old!r}", repr(new))


def with_first_defaults(
    cls: type, settings: Mapping[str, SourcedValue], run: Mapping[str, SourcedValue], place: str
) -> dict[str, SourcedValue]:
    """Return settings of an existing run, with the defaults of its time where they are not given.

    A default that has changed since is for new runs. A run keeps the first default of a setting
    that its own settings, `run`, do not contain, or contain with that value.
    """
    own = present_names(cls, run)
    first = {name: field.metadata["first_default"] for name, field in fields(cls).items()}
    defaults = {
        name: SourcedValue(first[name], place)
        for name, field in fields(cls).items()
        if first[name] != field.default and (name not in own or own[name].value == first[name])
    }
    return {**defaults, **present_names(cls, settings)}


def mutable_settings(cls: type) -> list[str]:
    """Return the names of the settings that may be changed after training."""
    return [name for name, field in fields(cls).items() if field.metadata["mutable_after_training"]]


def build(cls: type[T], settings: Mapping[str, SourcedValue], others: Iterable[str] = ()) -> T:
    """Build a settings object from values with places; every error names the place.

    `others` are names of other settings, for hints.
    """
    own_fields = fields(cls)
    values = {}
    for name, item in present_names(cls, settings, _warn_renamed).items():
        if name not in own_fields:
            problem = f"unknown setting {name!r} of {cls.__name__}"
            earlier = _present_by_earlier(cls)
            hint = nearest(name, [*own_fields, *others, *earlier])
            hint = earlier.get(hint or "", hint)
            raise ConfigError(item.place, "", problem, ", ".join(own_fields), hint)
        values[name] = _plain(item.value)
        check(own_fields[name], values[name], item.place)
    try:
        return cls(**values)
    except ConfigError as error:  # a setting that contradicts others
        sources = present_names(cls, settings)
        if error.field not in sources:
            raise
        place = sources[error.field].place
        problem, accepted = error.problem, error.accepted
        raise ConfigError(place, error.field, problem, accepted, error.nearest) from None


def to_values(settings: object) -> dict[str, Any]:
    """Return a settings object as plain values, from which `build` makes an equal object."""
    return {name: getattr(settings, name) for name in fields(type(settings))}


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
