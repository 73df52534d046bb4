"""Reference pages of agents and tasks by name: what each is, and a table of its settings."""

import re
from collections.abc import Iterable
from typing import Any

import attrs

import tasks
from agents import AGENTS
from agents.core.config import AgentConfig
from tasks.core.registry import find
from tasks.core.settings import accepted_values, fields

Settings = dict[str, "attrs.Attribute[Any]"]


def pages() -> dict[str, str]:
    """Return both pages: their place on the site, and their Markdown."""
    return {
        "reference/agents_by_name.md": "\n\n".join(_agents()) + "\n",
        "reference/tasks_by_name.md": "\n\n".join(_tasks()) + "\n",
    }


def _agents() -> Iterable[str]:
    common = fields(AgentConfig)
    yield "# Agents by name"
    yield (
        "Every agent has the settings below; each agent's own follow. On the command line they "
        "are given by `--set NAME=VALUE` or in a file, from Python as arguments of `agents.make`. "
        "A `*` marks what may change when a run is resumed."
    )
    yield "## Settings of every agent"
    yield table(common)
    for name in AGENTS:
        resolved = find("agent", name, AGENTS, "the reference")
        own = fields(resolved.load_config())
        yield f"## {name}"
        yield _sentence(resolved.entry.summary)
        changed = {key: f for key, f in own.items() if _differs(f, common.get(key))}
        yield table(changed) if changed else "It has no settings of its own."


def _tasks() -> Iterable[str]:
    yield "# Tasks by name"
    yield (
        "On the command line a task's settings are given by `--set task.NAME=VALUE`, from Python "
        "as arguments of `tasks.make`. A number in angle brackets is part of the name: `add3x2`."
    )
    for name, entry in tasks.TASKS.items():
        resolved = find("task", entry.example or name, tasks.TASKS, "the reference")
        own = fields(resolved.load())
        free = {key: field for key, field in own.items() if key not in resolved.fields}
        yield f"## {_plain(name)}"
        yield _sentence(entry.summary)
        yield table(free) if free else "It has no settings."


def _differs(field: "attrs.Attribute[Any]", common: "attrs.Attribute[Any] | None") -> bool:
    return common is None or field.default != common.default


def table(settings: Settings) -> str:
    """Return a table of settings: default, accepted values and help."""
    rows = ["| setting | default | accepted | what it is |", "|---|---|---|---|"]
    for name, field in settings.items():
        mark = "*" if field.metadata["mutable_after_training"] else ""
        accepted, help_text = _cell(accepted_values(field)), _cell(field.metadata["help"])
        rows.append(f"| `{name}`{mark} | {_default(field.default)} | {accepted} | {help_text} |")
    return "\n".join(rows)


def _default(value: object) -> str:
    shown = {None: "null", True: "true", False: "false", "": "(empty)"}
    plain = isinstance(value, (bool, str)) or value is None
    return shown[value] if plain and value in shown else _cell(str(value))


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _plain(text: str) -> str:
    return re.sub(r"[<>]", lambda sign: {"<": "&lt;", ">": "&gt;"}[sign[0]], text)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{_plain(text[1:])}."
