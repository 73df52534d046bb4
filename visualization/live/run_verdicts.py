"""Verdicts on a run that may still be learning: what the doctor says after each part of it."""

import bisect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

from visualization.diagnosis import RunEvidence, diagnose, of_records
from visualization.live.run_records import RunRecords

MOST_CHANGES = 200  # that are listed
_GROWTH = 8  # a run that is read at once is judged whenever it has grown by an eighth
_SHARE = 64  # less than this part of the records is too little to judge anew
_BUDGET = 4096  # records that are judged at once, so that a page stays answered


@final
class Verdicts:
    """Verdicts of the doctor on the records so far, and when each changed.

    Only questions that the records answer are asked: no trial is made.

    Attributes:
        findings: as JSON values, those of the last diagnosis.
        changes: of a verdict, as JSON values, the latest last.
        step: until which the run was judged; -1: not at all yet.
        revision: changes when something was judged.
    """

    def __init__(
        self, title: str, settings: Mapping[str, Any], monitor: tuple[str, Literal["max", "min"]]
    ) -> None:
        self._title, self._settings, self._monitor = title, settings, monitor
        self._generation, self.revision = -1, 0
        self._begin()

    def _begin(self) -> None:
        self.findings: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self._last: dict[str, tuple[str, float]] = {}  # verdict, and step of its change
        self.step, self._num, self._seen, self._diverged = -1.0, 0, 0, False
        self.revision += 1

    def update(self, records: RunRecords, diverged: bool = False) -> bool:
        """Judge what was added; return whether there is more to judge."""
        if records.generation != self._generation:
            self._generation = records.generation
            self._begin()
        steps = [record["step"] for record in records.judged]
        is_growing, self._seen = records.num_records != self._seen, records.num_records
        if is_growing and (records.num_records - self._num) * _SHARE < records.num_records:
            return False  # a long run is judged when there is enough, or nothing, to add
        budget = _BUDGET
        while budget > 0 and steps and (self.step < steps[-1] or self._is_old(records, diverged)):
            judged = bisect.bisect_right(steps, self.step)
            end = min(len(steps) - 1, judged + judged // _GROWTH)
            end = bisect.bisect_right(steps, steps[end])
            is_all = end == len(steps)
            self._judge(records.judged[:end], steps[end - 1], diverged and is_all)
            self._num = records.num_records if is_all else 0
            budget -= end
        return bool(steps) and self.step < steps[-1]

    def _is_old(self, records: RunRecords, diverged: bool) -> bool:
        """Tell whether a record of the same step was added, or the run has diverged since."""
        return self._num != records.num_records or self._diverged != diverged

    def _judge(self, records: Sequence[Mapping[str, float]], step: float, diverged: bool) -> None:
        evidence = RunEvidence(
            title=self._title, records=records, settings=self._settings, monitor=self._monitor,
            diverged=diverged,
        )  # fmt: skip
        self.findings = []
        answered = {finding.name: finding for finding in of_records(diagnose(evidence))}
        for name in [name for name in self._last if name not in answered]:
            self._note(name, "unknown", step)
        for name, finding in answered.items():
            self._note(name, finding.verdict, step)
            self.findings.append({
                "name": name, "question": finding.question, "verdict": finding.verdict,
                "measurement": finding.answer.measurement, "explanation": finding.explanation,
                "advice": list(finding.advice), "since": self._last[name][1],
            })  # fmt: skip
        self.step, self._diverged = step, diverged
        self.revision += 1

    def _note(self, name: str, verdict: str, step: float) -> None:
        """Note a verdict, and whether it is another than before."""
        before = self._last.get(name, ("unknown", step))[0]
        if before != verdict:
            change = {"step": step, "name": name, "before": before, "after": verdict}
            self.changes = [*self.changes, change][-MOST_CHANGES:]
        if before != verdict or name not in self._last:
            self._last[name] = verdict, step
