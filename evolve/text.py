"""Text for a terminal: untrusted characters escaped, numbers and durations short, columns even."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def clean(text: str) -> str:
    r"""Return `text` with every character that steers a terminal written out, as in `\x1b`.

    Sources, logs and hypotheses come from candidates: what they hold must not move the cursor,
    reorder a line or set a title. Line feeds and tabs stay.
    """
    plain = (
        c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
    return "".join(plain)


def one_line(value: object, width: int = 72) -> str:
    """Return a value as one clean line of at most `width` characters."""
    text = " ".join(clean(str(value)).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with `digits` decimals, `-` for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def quantity(value: float, unit: str) -> str:
    """Return a measurement with its unit: `12.5 s`, `241 MiB`, `379`."""
    if unit == "B":
        return f"{value / 2**20:.0f} MiB"
    return f"{value:.6g}" if unit == "1" else f"{value:.6g} {unit}"


def duration(seconds: float) -> str:
    """Return seconds as `42 s`, `3 min 05 s` or `2 h 07 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows below their names as an aligned table, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(n), *(len(r[i]) for r in cells)]) for i, n in enumerate(names)]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(names))]

    def line(values: Sequence[str]) -> str:
        aligned = (
            v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join(line(row) for row in [names, *cells])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else one_line(value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def half_width(standard_error: float | None) -> float | None:
    """Return half the width of the 95% interval around a mean, None where nothing is known."""
    known = standard_error is not None and math.isfinite(standard_error)
    return 1.96 * standard_error if known and standard_error is not None else None


def count(number: int, noun: str) -> str:
    """Return `1 evaluation` or `3 evaluations`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def call(command: str, folder: Path) -> str:
    """Return, quoted, how a command is called on the run in `folder`: `evolve run --run night`."""
    return f"`{call_of(command, folder)}`"


def call_of(command: str, folder: Path) -> str:
    """Return how a command is called on the run in `folder`, for a shell."""
    runs = () if folder.parent == Path("runs") else ("--runs", str(folder.parent))
    return shlex.join(["evolve", command, "--run", folder.name, *runs])


def ago(seconds: float) -> str:
    """Return how long ago something was: `42 s ago`."""
    return f"{duration(seconds)} ago"
