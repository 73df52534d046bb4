"""The options of the command `read`, apart from it: the others need nothing that it imports."""

from argparse import ArgumentParser

from benchmarks.peers.common import ROOT

RUNS = ROOT / "runs" / "read-benchmark"


def add_options(parse: ArgumentParser) -> None:
    """Add the options of `read`."""
    group = parse.add_argument_group("of read")
    group.add_argument("--data", metavar="FOLDER", help="has a folder of pages 1878, and one 1858")
    group.add_argument("--runs", metavar="FOLDER", default=str(RUNS), help="of all run folders")
    group.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help="a recipe of benchmarks/reading/recipes.py, * in it stands for anything",
    )  # fmt: skip
