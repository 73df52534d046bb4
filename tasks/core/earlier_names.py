"""Deprecated names: what classes, functions, methods and arguments were called before.

They keep working with a DeprecationWarning, so that what was written for an earlier version runs.
Settings have their earlier names beside them: `setting(..., renamed_from="rate_parts")`.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

# By module.
SYMBOLS: Mapping[str, Mapping[str, str]] = {
    "tasks.core.settings": {
        "Given": "SourcedValue", "changeable": "mutable_settings",
        "changed": "non_default_settings", "accepted": "accepted_values",
    },
    "tasks.core.task": {
        "Pass": "BatchRequest", "Quantities": "ProbeTargets", "TextToNext": "LanguageModelSpec",
        "doubled": "doubling_lengths",
    },
    "tasks.core.labelled": {"Variation": "Augmentation", "Words": "ImageTerms"},
    "tasks.core.synthetic": {
        "Rewritten": "TransformedTask", "repeated": "single_batch_task", "easy": "easy_task",
    },
    "tasks.core.paths": {
        "why_not": "describe_os_error", "expanded": "expand_user", "named_folder": "folder_path",
    },
    "tasks.digits": {"Scans": "MnistLike"},
    "agents.core.config": {"Given": "SourcedValue"},
    "agents.core.runs.checkpoint": {"DamagedError": "CorruptCheckpointError"},
    "agents.core.analysis.diagnosis": {
        "diagnosis": "diagnose_agent", "examine": "collect_evidence",
    },
    "agents.core.analysis.trials": {
        "fresh": "untrained_copy", "synthetic": "train_on_easy_task", "at_rate": "train_at_lr",
        "by_length": "train_by_length", "by_size": "train_by_size",
    },
}  # fmt: skip

# By class: methods and properties that a task may define, and that others may read.
MEMBERS: Mapping[str, Mapping[str, str]] = {
    "Task": {"draw": "iter_batches", "viewed": "for_display", "quantities": "probe_targets"},
    "LabelledImages": {"take": "load", "variation": "augmentation", "words": "terms"},
    "Row": {"right": "correct", "brief": "short_question"},
    "ProbeTargets": {"reading": "encoder", "writing": "decoder", "places": "position_keys"},
    "TextChunks": {"following": "targets", "begins": "reset_state"},
    "LanguageModelSpec": {"chunk": "block_size"},
}
_WERE_PROPERTIES = frozenset({"viewed"})  # and are methods now

# Arguments of `setting`.
ARGUMENTS: Mapping[str, str] = {"meaning": "help", "changeable": "mutable_after_training"}

_OWN = ("tasks", "agents", "attr", "abc", "typing", "importlib")


def warn_renamed(old: str, new: str) -> None:
    """Warn that a name has another one now, at the line of the caller outside this library."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        level, frame = level + 1, frame.f_back
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=level)


def symbols_of(module: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module: it returns what an earlier name refers to."""

    def find(name: str) -> Any:
        new = SYMBOLS[module].get(name)
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", new)
        return getattr(importlib.import_module(module), new)

    return find


def present_arguments(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that were given by earlier names by their present ones.

    Raises:
        TypeError: an argument never had the name.
    """
    for old in arguments:
        if old not in ARGUMENTS:
            raise TypeError(f"{function} got an unexpected keyword argument {old!r}")
        warn_renamed(f"the argument {old!r} of {function}", repr(ARGUMENTS[old]))
    return {ARGUMENTS[old]: value for old, value in arguments.items()}


def member(instance: object, name: str) -> Any:
    """Return the value of a member or setting by its earlier name; the `__getattr__` of a class.

    Raises:
        AttributeError: no class of the object ever had the name.
    """
    for cls in type(instance).__mro__:
        new = MEMBERS.get(cls.__name__, {}).get(name)
        if new is not None:
            warn_renamed(f"{cls.__name__}.{name}", new)
            value = getattr(instance, new)
            return value() if name in _WERE_PROPERTIES else value
    for field in getattr(type(instance), "__attrs_attrs__", ()):
        if name in field.metadata.get("renamed_from", ()):
            warn_renamed(f"{type(instance).__name__}.{name}", field.name)
            return getattr(instance, field.name)
    raise AttributeError(f"{type(instance).__name__!r} object has no attribute {name!r}")


def adopt_members(subclass: type) -> None:
    """Give a subclass that defines members by their earlier names the present ones too."""
    for cls in subclass.__mro__[1:]:
        for old, new in MEMBERS.get(cls.__name__, {}).items():
            if old in vars(subclass) and new not in vars(subclass):
                warn_renamed(f"{subclass.__name__}.{old}", new)
                value = vars(subclass)[old]
                setattr(subclass, new, value.fget if old in _WERE_PROPERTIES else value)
