"""The command: `python -m torture [CASE …]`; exit code 1 if something did not hold."""

import argparse
import datetime
import random
import sys
import tempfile
from pathlib import Path

from torture import cases  # noqa: F401  (it registers them)
from torture.registry import (
    CASES,
    PAGE,
    RESULTS,
    Effort,
    Outcome,
    SkippedError,
    keep,
    read_results,
    summary,
    with_table,
)  # fmt: skip


def main() -> int:
    """Run cases; write their outcomes and the table of the docs."""
    parse = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    listed = "; ".join(f"{name}: {summary(name)}" for name in CASES)
    parse.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all. {listed}")
    parse.add_argument(
        "--kills", type=int, default=25, help="SIGKILLs for each agent; others in proportion"
    )
    parse.add_argument("--seed", type=int, default=0, help="of random moments and places")
    parse.add_argument("--seconds", type=float, default=60.0, help="of fuzzing, for each input")
    parse.add_argument("--results", type=Path, default=RESULTS, help="file of the outcomes")
    options = parse.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parse.error(f"unknown case {sorted(unknown)[0]!r}; accepted: {', '.join(CASES)}")
    whole = True
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            chance = random.Random(f"{options.seed} {name}")
            effort = Effort(
                folder=Path(folder), kills=options.kills, chance=chance, seconds=options.seconds
            )
            try:
                outcome = CASES[name](effort)
            except SkippedError as reason:
                print(f"{name}: skipped: {reason}", flush=True)
                if name not in read_results(options.results):
                    outcome = Outcome(tried=0, held=0, remark=f"skipped: {reason}")
                    keep(name, outcome, datetime.date.today().isoformat(), options.results)
                continue
        print(f"{name}: {outcome.held} of {outcome.tried}; {outcome.remark}", flush=True)
        for failure in outcome.failures:
            print(f"  {failure}", flush=True)
        whole &= 0 < outcome.tried == outcome.held
        keep(name, outcome, datetime.date.today().isoformat(), options.results)
    if options.results == RESULTS:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_table(page, read_results()), encoding="utf-8")
    return not whole


if __name__ == "__main__":
    sys.exit(main())
