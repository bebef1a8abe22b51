"""Pages as HTML. Whatever comes from candidates or models is escaped, and nothing else."""

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2

from evolve.live import asking_line, exam_line
from evolve.printing import caveats, marks
from evolve.text import clean, count, half_width, number, one_line


@cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("evolve.web", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "asking": asking_line,
        "caveats": caveats,
        "clean": clean,
        "counted": count,
        "exam": exam_line,
        "latest": _latest,
        "line": lambda text, width=120: one_line(text, width),
        "marks": marks,
        "moment": lambda at: time.strftime("%Y-%m-%d %H:%M", time.localtime(at)),
        "number": number,
        "width": lambda error: number(half_width(error)),
    }
    return found


def render(template: str, about: Mapping[str, Any], base: str, **more: Any) -> str:
    """Return a template of this folder as HTML.

    Args:
        template: its name.
        about: what it tells.
        base: what stands before an individual's id in the address of what is told of it.
        more: further variables. `known`: the ids that addresses exist for; None: all.
    """
    told = {"known": None, "base": base, **about, **more}
    return _templates().get_template(template).render(told)


def state_of(found: Mapping[str, Any]) -> str:
    """Return what a run does: `running`, `paused`, `exam` or `not running`."""
    if not found["running"]:
        return "not running"
    live = found["live"] or {}
    return next((state for state in ("exam", "paused") if live.get(state)), "running")


def _latest(measurements: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    last = max((row["evaluation"] for row in measurements), default=None)
    return [row for row in measurements if row["evaluation"] == last]
