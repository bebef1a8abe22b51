"""Live progress: a display that redraws itself in a terminal, plain lines everywhere else."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evolve.live import Best, Snapshot, asking_line
from evolve.text import count, duration, half_width, number, one_line

LINE_WIDTH = 400
"""Longer than any remedy that a line may end with: a terminal wraps it."""


class Display(Protocol):
    """Shows a run while it goes on. Used as a context manager around it, from one thread."""

    def __enter__(self) -> "Display": ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, snapshot: Snapshot, line: str | None) -> None:
        """Show the run as it stands, and a line about what has just happened, if any."""
        ...


class PlainDisplay:
    """One line per event on stdout: for pipes, logs and `--plain`."""

    def __init__(self) -> None:
        self._best: int | None = None

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.stdout.flush()

    def show(self, snapshot: Snapshot, line: str | None) -> None:
        """Print the line, and the best individual whenever it changes."""
        if line is not None:
            print(f"[{_count(snapshot)}] {one_line(line, LINE_WIDTH)}", flush=True)
        if snapshot.best is not None and snapshot.best.individual != self._best:
            self._best = snapshot.best.individual
            print(f"[{_count(snapshot)}] best so far: {best_line(snapshot.best)}", flush=True)


class LiveDisplay:
    """Redraws a few lines in place, twice a second; past events scroll away above them."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._console = Console(highlight=False)
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._live = Live(
            get_renderable=self._render, console=self._console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot, line: str | None) -> None:
        """Redraw from this snapshot; the line scrolls away above."""
        with self._lock:
            self._snapshot = snapshot
        if line is not None:
            self._console.print(Text(one_line(line, LINE_WIDTH)))

    def _render(self) -> RenderableType:
        with self._lock:
            snapshot = self._snapshot
        if snapshot is None:
            return Text("starting ...")
        return draw(snapshot, self._metric, time.time())


def draw(snapshot: Snapshot, metric: str, now: float) -> RenderableType:
    """Return the display of a snapshot as of `now` (UNIX seconds)."""
    parts: list[RenderableType] = [Text("")]
    if snapshot.limit is not None:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=snapshot.limit, completed=snapshot.counted, width=40),
            f"{_count(snapshot)} evaluations",
        )
        parts.append(bar)
    parts.append(
        Text(
            f"{duration(now - snapshot.started_at)}  generation {snapshot.generation}"
            f"  individuals {snapshot.individuals}  failed {snapshot.failed}"
            f"  refused {snapshot.refused}{_ladder(snapshot)}  noise {number(snapshot.sigma)}"
            f"{_spending(snapshot)}"
        )
    )
    if snapshot.paused:
        resting = "paused: nothing new begins until `evolve resume`"
        parts.append(Text(resting, style="bold yellow"))
    if snapshot.best is not None:
        parts.append(Text(f"best {metric} {best_line(snapshot.best)}", style="bold green"))
    if snapshot.asking:
        parts.append(Text(f"  {asking_line(snapshot.asking)}", style="dim"))
    for slot in snapshot.running:
        parts.append(
            Text(
                f"  running #{slot.individual} {slot.operator} ({slot.purpose}) "
                f"for {duration(now - slot.since)}",
                style="dim",
            )
        )
    return Group(*parts)


def best_line(best: Best) -> str:
    """Return `2.3412 +- 0.0051 (95%, shrunken)  #12 constants, 3 evaluations`."""
    half = half_width(best.standard_error)
    error = "" if half is None else f" +- {half:.4f} (95%, shrunken)"
    who = f"#{best.individual} {best.name or best.operator}"
    return f"{best.value:.4f}{error}  {one_line(who)}, {count(best.evaluations, 'evaluation')}"


def display(metric: str, plain: bool) -> Display:
    """Return the live display where stdout is a terminal, plain lines otherwise."""
    if plain or not sys.stdout.isatty():
        return PlainDisplay()
    return LiveDisplay(metric)


@contextmanager
def at_work(on: str) -> Iterator[None]:
    """Show in a terminal, beside the output, what is worked on and for how long; else nothing."""
    terminal = Console(stderr=True, highlight=False)
    if not terminal.is_terminal:
        yield
        return
    shown = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*shown, console=terminal, transient=True) as progress:
        progress.add_task(on, total=None)
        yield


def _ladder(snapshot: Snapshot) -> str:
    if not snapshot.short:
        return ""
    return f"  short trainings {snapshot.short}, {snapshot.let_through} let through"


def _spending(snapshot: Snapshot) -> str:
    if snapshot.spent_usd is None or snapshot.cost_limit_usd is None:
        return ""
    return f"  spent {snapshot.spent_usd:.2f} of {snapshot.cost_limit_usd:.2f} USD"


def _count(snapshot: Snapshot) -> str:
    return f"{snapshot.counted}" + (f"/{snapshot.limit}" if snapshot.limit else "")
