"""`evolve report`: a run as one HTML file that needs nothing else."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from evolve.reading import Reading
from evolve.web import page
from evolve.web.charts import plotly_script
from evolve.web.rendering import render


def contents(reading: Reading) -> dict[str, Any]:
    """Return what a report holds: the overview, and in full the ten best and the best one's line.

    Raises:
        LineageError: the publication cannot be read.
    """
    found = page.overview(reading)
    return found | {"told": reading.individuals(page.told_in_full(found))}


def report(reading: Reading) -> str:
    """Return the report as HTML.

    Raises:
        LineageError: the publication cannot be read.
    """
    found = contents(reading)
    folder = files("evolve.web")
    scripts = [plotly_script(), (folder / "page.js").read_text("utf-8")]
    return render(
        "report.html",
        found,
        "#individual-",
        known={one["id"] for one in found["told"]},
        title=f"{found['run']}: {found['metric']}",
        policy=policy(scripts),
        steers=False,
        alone=False,
        style=Markup((folder / "page.css").read_text("utf-8")),
        scripts=[Markup(script) for script in scripts],
    )


def policy(scripts: list[str]) -> str:
    """Return a content security policy: nothing is fetched, and no script runs but these."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    known = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {known}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
