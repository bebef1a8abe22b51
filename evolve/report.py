"""`evolve report`: a run as one HTML file that needs nothing else."""

import time
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evolve.reading import Reading
from evolve.web import page
from evolve.web.charts import plotly_script
from evolve.web.rendering import environment, state_of

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""The page's content security policy: whatever a candidate has written, nothing is fetched."""


def contents(reading: Reading) -> dict[str, Any]:
    """Return what a report holds: the overview, and the best and their ancestors in full.

    Raises:
        LineageError: the publication cannot be read.
    """
    found = page.overview(reading)
    return found | {"told": page.details(reading, page.told_in_full(found))}


def report(reading: Reading) -> str:
    """Return the report as HTML.

    Raises:
        LineageError: the publication cannot be read.
    """
    found = contents(reading)
    told = {one["id"] for one in found["told"]}
    templates = environment(lambda one: f"#individual-{one}" if one in told else "#programs")
    folder = files("evolve.web")
    return templates.get_template("report.html").render(
        **found,
        state=state_of(found),
        title=f"{found['run']}: {found['metric']}",
        policy=POLICY,
        written_at=time.time(),
        now=time.time(),
        steers=False,
        alone=False,
        style=Markup((folder / "page.css").read_text("utf-8")),
        script=Markup((folder / "page.js").read_text("utf-8")),
        plotly=Markup(plotly_script()),
    )


def default_file(folder: Path) -> Path:
    """Return where the report of the run in `folder` is written unless it is told otherwise."""
    return folder / "report.html"
