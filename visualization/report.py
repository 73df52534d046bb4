"""Records as one HTML file that needs nothing else, no network either."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import jinja2

from visualization import render


@attrs.frozen
class Report:
    """Named records of an inspection. `report["summary"]` is the record itself."""

    title: str
    records: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Return one record."""
        return self.records[name]

    def text(self) -> str:
        """Return what can be said in plain text."""
        return "\n\n".join(filter(None, map(render.text, self.records.values())))

    def html(self) -> str:
        """Return the page."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
        )
        sections = [
            {
                "name": name.replace("_", " "),
                "picture": base64.b64encode(render.png(render.draw(record))).decode(),
                "text": render.text(record),
            }
            for name, record in self.records.items()
        ]
        template = environment.get_template("report.html.jinja")
        return template.render(title=self.title, sections=sections)

    def save(self, path: str | Path) -> Path:
        """Write the page and return its path."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.html(), encoding="utf-8")
        return target
