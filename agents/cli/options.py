"""Options of the command line."""

import argparse
from collections.abc import Sequence
from typing import Any

from agents.cli import modes
from agents.core.version import VERSION
from tasks.core.paths import expand_user, folder_path
from tasks.core.settings import ConfigError, nearest


def parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parse = argparse.ArgumentParser(
        prog="terrarium",
        description="Train an agent on a task, and look at what it learned.",
        epilog="example: python main.py --agent seq2seq_adder --task add3x3",
        allow_abbrev=False,
    )
    add = parse.add_argument
    repeated: dict[str, Any] = {"action": "append", "default": []}
    add("--agent", metavar="NAME", help="see --list-agents")
    add("--task", metavar="NAME", help="see --list-tasks")
    summaries = "; ".join(f"{name}: {mode.summary}" for name, mode in modes.MODES.items())
    add("--mode", default=None, metavar="MODE", help=summaries)
    file_help = "settings, agent and task from a file"
    add("--config", type=expand_user, metavar="FILE.yaml", help=file_help)
    set_help = "one setting, such as hidden_size=64 or task.reverse=none; as often as you like"
    add("--set", **repeated, metavar="NAME=VALUE", help=set_help)
    add("--seed", metavar="N", help="short for --set seed=N")
    add("--init-from", metavar="PATH", help="fine-tune: short for --set init_from=PATH")
    add("--run-dir", metavar="DIR", help="default: runs/TASK/AGENT/SETTINGS-sSEED")
    resume_help = "continue the run in the folder, archive it first, or start from a checkpoint"
    add("--resume", default="auto", metavar="auto|never|PATH", help=resume_help)
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    add("--views", metavar="NAME,…", help="views of --mode inspect; default: all")
    grid_help = "values of a setting for --mode sweep; given twice: all combinations"
    add("--grid", **repeated, metavar="NAME=VALUE,VALUE,…", help=grid_help)
    search_help = "range, or values, of a setting that --mode sweep chooses from"
    add("--search", **repeated, metavar="NAME=LOW..HIGH[:log]", help=search_help)
    add("--trials", type=int, metavar="N", help="of --search, in all; default: 20")
    seeds_help = "of --mode sweep: each trial once with each; two or more give intervals"
    add("--seeds", metavar="N,N,…", help=seeds_help)
    add("--sampler", metavar="NAME", help="of --search: tpe (default) or random")
    pruner_help = "of --search: median (default), halving, hyperband, or none"
    add("--pruner", metavar="NAME", help=pruner_help)
    add("--workers", type=int, metavar="N", help="processes of --mode sweep; default: 1")
    storage_help = "of --search on several machines: postgresql+psycopg://USER@HOST/DATABASE"
    add("--storage", metavar="URL", help=storage_help)
    heartbeat_help = "seconds between signs of life with --storage; default: 60"
    add("--heartbeat", type=int, metavar="N", help=heartbeat_help)
    add("--over", **repeated, help=argparse.SUPPRESS)  # earlier name of --grid
    add("runs", nargs="*", metavar="RUN", help="folders of two runs, for --mode compare")
    input_help = "what to predict, as often as you like; default: lines on standard input"
    add("--input", **repeated, metavar="TEXT", help=input_help)
    pages_help = "read whole pages: run of a detector of lines; --input: images, or their folders"
    add("--detector", metavar="DIR", help=pages_help)
    add("--output", metavar="DIR", help="for what is read of pages; default: beside their images")
    add("--host", metavar="NAME", help="of --mode live; default: 127.0.0.1, this machine alone")
    add("--port", type=int, metavar="N", help="of --mode live; default: any free one")
    add("--list-agents", action="store_true", help="one line for each agent")
    add("--list-tasks", action="store_true", help="one line for each task")
    add("--print-config", action="store_true", help="all settings, as a file for --config")
    add("--version", action="version", version=f"terrarium {VERSION}")
    return parse


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; an unknown one is a ConfigError with the nearest existing one."""
    options, unknown = parser().parse_known_args(arguments)
    if unknown:
        shown = [action for action in parser()._actions if action.help != argparse.SUPPRESS]
        names = [name for action in shown for name in action.option_strings]
        word = unknown[0].partition("=")[0]
        problem, hint = f"unknown option {word!r}", nearest(word, names)
        raise ConfigError("command line", "", problem, ", ".join(names), hint)
    if options.run_dir is not None:
        options.run_dir = folder_path(options.run_dir, "--run-dir")
    return options
