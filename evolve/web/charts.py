"""The charts of a page, as figures of plotly.js: JSON that its script draws."""

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from evolve.text import clean, half_width, number, one_line

PALETTE = ("#2b8cc4", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b0a000")
"""Told apart by colour-blind eyes. Source: after Okabe and Ito 2008, "Color universal design"."""
FOUNDER, FAILED, LEADING = "#8a8a8a", "#c0392b", "#3b6fd4"
SHOWN_SHARE = 0.9
"""Of all scores, the best of which fill the chart; a double click shows the others."""
FEW = 12
"""Fewer scores than this are all shown."""
WRAP, MOST = 60, 240


def progress(
    points: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, Any]],
    leading: Sequence[Mapping[str, Any]],
    metric: str,
) -> str:
    """Return the chart of all scores in the order in which they came, and of who led.

    Args:
        points: scores: n, individual, value, operator, name, hypothesis.
        failed: n, individual, reason.
        leading: at each selection: n, individual, shrunken_mean, standard_error.
        metric: its name.
    """
    operators = sorted({one["operator"] for one in points} - {"founder"})
    colours = {name: PALETTE[n % len(PALETTE)] for n, name in enumerate(operators)}
    figure = go.Figure(_interval(leading))
    for operator in ("founder", *operators):
        own = [one for one in points if one["operator"] == operator]
        figure.add_scatter(
            x=[one["n"] for one in own],
            y=[one["value"] for one in own],
            mode="markers",
            name=operator,
            marker={"color": colours.get(operator, FOUNDER), "size": 7, "opacity": 0.75},
            text=[_told(one, metric) for one in own],
            customdata=[one["individual"] for one in own],
            hoverinfo="text",
        )
    if failed:
        figure.add_scatter(
            x=[one["n"] for one in failed],
            y=[0.015] * len(failed),
            yaxis="y2",
            mode="markers",
            name="failed",
            marker={"color": FAILED, "symbol": "x-thin-open", "size": 7},
            text=[f"#{one['individual']} failed: {_safe(one['reason'])}" for one in failed],
            customdata=[one["individual"] for one in failed],
            hoverinfo="text",
        )
    figure.update_layout(
        **_layout("evaluations", metric),
        yaxis_range=_range([one["value"] for one in points], leading),
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )
    return _json(figure)


def curves(reported: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return the chart of losses that programs reported while they trained; '' for none.

    Args:
        reported: by a program's name, points with `spent`, the share of the budget, and `loss`.
    """
    if not reported:
        return ""
    figure = go.Figure()
    for colour, (name, points) in zip((LEADING, FOUNDER), reported.items(), strict=False):
        figure.add_scatter(
            x=[100 * point["spent"] for point in points],
            y=[point["loss"] for point in points],
            mode="lines",
            name=name,
            line={"color": colour, "width": 2},
        )
    figure.update_layout(**_layout("% of the budget", "reported loss"))
    return _json(figure)


def plotly_script() -> str:
    """Return plotly.js, which draws the figures."""
    return str(get_plotlyjs())


def _interval(leading: Sequence[Mapping[str, Any]]) -> list[go.Scatter]:
    """Return the mean of whoever led, as steps, and the 95% interval around it."""
    x = [one["n"] for one in leading]
    mean = [one["shrunken_mean"] for one in leading]
    widths = [half_width(one["standard_error"]) or 0.0 for one in leading]
    steps = {"x": x, "mode": "lines", "line": {"shape": "hv", "width": 0}, "hoverinfo": "skip"}
    return [
        go.Scatter(**steps, y=[m + w for m, w in zip(mean, widths, strict=True)], showlegend=False),
        go.Scatter(
            **steps,
            y=[m - w for m, w in zip(mean, widths, strict=True)],
            fill="tonexty",
            fillcolor="rgba(59, 111, 212, 0.15)",
            showlegend=False,
        ),
        go.Scatter(
            x=x,
            y=mean,
            mode="lines",
            name="the best, 95%",
            line={"shape": "hv", "width": 2, "color": LEADING},
            text=[
                f"#{one['individual']} led: {number(one['shrunken_mean'])} +- "
                f"{number(half_width(one['standard_error']))}"
                for one in leading
            ],
            hoverinfo="text",
        ),
    ]


def _range(
    values: Sequence[float], leading: Sequence[Mapping[str, Any]]
) -> tuple[float, float] | None:
    """Return the values between which most scores lie, on the side of the better ones."""
    finite = np.array([value for value in values if np.isfinite(value)])
    if len(finite) < FEW:
        return None
    best = leading[-1]["shrunken_mean"] if leading else float(np.median(finite))
    reach = float(np.quantile(np.abs(finite - best), SHOWN_SHARE)) or 1.0
    low, high = max(finite.min(), best - reach), min(finite.max(), best + reach)
    room = 0.08 * (high - low) or reach
    return low - room, high + room


def _told(point: Mapping[str, Any], metric: str) -> str:
    who = f"#{point['individual']} {_safe(point['name'] or point['operator'])}"
    lines = [f"<b>{who}</b>", f"{metric} {number(point['value'])}"]
    if point["hypothesis"]:
        why = one_line(clean(point["hypothesis"]), MOST)
        lines += [html.escape(line, quote=False) for line in textwrap.wrap(why, WRAP)]
    return "<br>".join(lines)


def _safe(text: str) -> str:
    """Return a candidate's text so that it marks nothing up."""
    return html.escape(one_line(text), quote=False)


def _layout(x: str, y: str) -> dict[str, Any]:
    grid = {"gridcolor": "rgba(128, 128, 128, 0.18)", "zeroline": False, "automargin": True}
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#858585"},
        "margin": {"l": 64, "r": 12, "t": 8, "b": 48},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
        "uirevision": "kept",
        "xaxis": grid | {"title": {"text": x}, "rangemode": "tozero"},
        "yaxis": grid | {"title": {"text": y}, "tickformat": ".4~f"},
    }


def _json(figure: go.Figure) -> str:
    return str(figure.to_json())
