"""Drawing in contract tests: of each kind of record one, and all of them in slow tests."""

import attrs

from visualization import render
from visualization.report import Report


@attrs.frozen
class Drawn:
    """The kinds of records that a file of tests has drawn."""

    kinds: set[type] = attrs.Factory(set)

    def new_in(self, report: Report) -> Report:
        """Return a report of one record of each kind that was not drawn yet.

        That figures are right whatever is in a record, `test_legible` looks at.
        """
        records = {}
        for view, record in report.flat():
            assert render.draw.knows(record), view
            assert isinstance(render.text(record), str)
            if type(record) not in self.kinds:
                self.kinds.add(type(record))
                records[view] = record
        return Report(report.title, records)
