"""What a prompt tells of single individuals: how they did, what they changed, why they failed.

Pure. Text that a program or a model wrote is quoted as data.
"""

from collections.abc import Sequence

import numpy as np

from mutate.credit import descent
from mutate.memory import effect, is_structural
from mutate.novelty import normalised_diff
from mutate.text import BYTES_PER_TOKEN, bounded, one_line, quoted, tokens_of, where_time_went
from population.history import History, Standing
from population.individual import Individual, Measurement
from population.task import Direction

INSPIRATIONS = 2
INSPIRATION_HEAD = 600
"""Characters around the change itself, bars in front of its lines included."""
MOST_QUOTED = 1 << 17
DONOR_TOKENS = 3_000
CRASH_CHARACTERS = 4_000
CURVE_PARTS = 5
SHOWN = (
    "steps", "tokens", "tokens_per_s", "mfu", "peak_memory_bytes", "peak_device_bytes",
    "parameters", "startup_s", "billed_s", "forward_s",
)  # fmt: skip


def facts(individual: Individual, history: History, metric: str, direction: Direction) -> str:
    """Return how an individual came about and did: score, interval, measurements, curve."""
    standing = history.standings[individual.id]
    lines = [f"# How #{individual.id} did", f"origin: {_origin(individual)}"]
    if standing.fitness is not None:
        lines.append(f"{metric}: {_score(standing, direction)}")
        if individual.parents:
            lines.append(
                f"against its parent #{individual.parents[0]}: {effect(standing, history)}"
            )
    if history.sigma:
        lines.append(f"noise of one score (standard deviation): {history.sigma:.4f}")
    report = standing.report
    if report is not None:
        parent = history.standings.get(individual.parents[0]) if individual.parents else None
        before = parent.report.measurements if parent and parent.report else ()
        measured = ", ".join(
            _measured(m, before) for name in SHOWN for m in report.measurements if m.name == name
        )
        if measured:
            lines.append(f"measured{' (its parent)' if before else ''}: {measured}")
        if spent := where_time_went(report.measurements, individual.genome.source):
            lines.append(f"time of the training by line: {spent}")
        if report.curve:
            lines.append(f"loss as it reports it, means of each part: {_curve(report.curve)}")
    return "\n".join(lines)


def _origin(individual: Individual) -> str:
    if not individual.parents:
        return f"{individual.operator} {one_line(individual.name, 60)}".strip()
    parents = " and ".join(f"#{parent}" for parent in individual.parents)
    why = "; ".join(change.hypothesis for change in individual.changes)
    return f"{individual.operator} of {parents}: {one_line(why, 300)}"


def _score(standing: Standing, direction: Direction) -> str:
    value = direction.fitness(standing.fitness or 0.0)
    half = 2 * standing.standard_error
    interval = f" +- {half:.4f} (95%)" if half < float("inf") else ""
    plural = "" if standing.evaluations == 1 else "s"
    return f"{value:.4f}{interval}, {standing.evaluations} evaluation{plural}"


def _measured(measurement: Measurement, before: Sequence[Measurement]) -> str:
    """Return a measurement by its name, and in brackets what it was before, if that is known."""
    old = [f" ({_amount(one)})" for one in before if one.name == measurement.name]
    return f"{measurement.name.removesuffix('_bytes')} {_amount(measurement)}{''.join(old[:1])}"


def _amount(measurement: Measurement) -> str:
    value = measurement.value
    if measurement.unit == "B":
        return f"{value / (1 << 20):.0f} MiB"
    unit = " s" if measurement.unit == "s" else ""
    return (f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}") + unit


def _curve(curve: Sequence[tuple[float, float]]) -> str:
    """Return the mean loss of each part of the budget: one batch says little."""
    parts = [part for part in np.array_split(np.array(curve), CURVE_PARTS) if len(part)]
    return ", ".join(
        f"{part[0, 0]:.0%} to {part[-1, 0]:.0%} {part[:, 1].mean():.3f}" for part in parts
    )


def donated(base: Individual, donor: Individual) -> str:
    """Return what another parent has that the base has not, as a diff from the base to it."""
    diff = normalised_diff(base.genome.source, donor.genome.source)
    most = int(DONOR_TOKENS * BYTES_PER_TOKEN)
    shown = quoted(bounded(diff, most), 2 * most)
    return f"# Program #{donor.id}, as a difference from #{base.id}\n\n{shown}"


def crash(standing: Standing) -> str:
    """Return why a program earned no score, with the end of what it printed."""
    individual, report = standing.individual, standing.report
    hypothesis = "; ".join(change.hypothesis for change in individual.changes)
    lines = ["# What went wrong", f"| hypothesis: {one_line(hypothesis, 300)}"]
    if report is not None and report.failure is not None:
        failure = report.failure
        lines.append(f"failed in {failure.stage}, {failure.reason}:")
        lines.append(quoted(failure.detail, CRASH_CHARACTERS // 2))
        if report.log.strip():
            lines += ["the end of what it printed:", quoted(report.log, CRASH_CHARACTERS)]
    return "\n".join(lines)


def inspirations(
    parents: Sequence[Individual], history: History, room: int, rng: np.random.Generator
) -> list[str]:
    """Return what one or two other survivors changed, as ideas to borrow, not as parents.

    What the parents have already, from their ancestors, is no idea to borrow. In full where any
    fits into the room: the middle of a change is what it does.
    """
    known = {
        standing.individual.id
        for one in parents
        for standing in descent(history.standings[one.id], history)
    }
    others = [
        standing
        for standing in (history.standings[one] for one in history.survivors if one not in known)
        if is_structural(standing)
    ]
    drawn = [others[int(place)] for place in rng.permutation(len(others))]
    parts: list[str] = []
    for standing in drawn:
        text = _inspiration(standing, history)
        if len(parts) < INSPIRATIONS and tokens_of(text) <= room:
            room -= tokens_of(text)
            parts.append(text)
    if drawn and not parts:
        text = _inspiration(drawn[0], history, int(room * BYTES_PER_TOKEN) - INSPIRATION_HEAD)
        parts += [text] if tokens_of(text) <= room else []
    return parts


def _inspiration(standing: Standing, history: History, most: int = MOST_QUOTED) -> str:
    individual = standing.individual
    diff = bounded("\n".join(change.diff for change in individual.changes), most)
    return "\n".join(
        [
            f"# Another survivor, #{individual.id}, for inspiration",
            f"{_origin(individual)}: {effect(standing, history)}",
            quoted(diff, MOST_QUOTED),
        ]
    )
