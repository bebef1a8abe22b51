"""Pages as HTML. Whatever comes from candidates or models is escaped, and nothing else."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from evolve.printing import unprotected
from evolve.text import ago, clean, count, duration, half_width, number, one_line

Address = Callable[[int], str]
"""Where a page tells about an individual."""


def environment(address: Address) -> jinja2.Environment:
    """Return the templates of this folder with what they call.

    Args:
        address: of an individual, for links.
    """
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("evolve.web", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "address": address,
        "ago": ago,
        "clean": clean,
        "counted": count,
        "duration": duration,
        "latest": _latest,
        "line": lambda text, width=120: one_line(text, width),
        "moment": lambda at: time.strftime("%Y-%m-%d %H:%M", time.localtime(at)),
        "number": number,
        "warnings": unprotected,
        "width": lambda error: number(half_width(error)),
    }
    return found


def state_of(found: Mapping[str, Any]) -> str:
    """Return what a run does: `running`, `paused` or `not running`."""
    if not found["running"]:
        return "not running"
    return "paused" if (found["live"] or {}).get("paused") else "running"


def _latest(measurements: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    last = max((row["evaluation"] for row in measurements), default=None)
    return [row for row in measurements if row["evaluation"] == last]
