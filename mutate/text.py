"""Text for prompts: estimated, bounded, quoted as data."""

import math
from collections.abc import Sequence

from population.individual import LINE, SHARE, Measurement

BYTES_PER_TOKEN = 2.7
"""Of code with little vocabulary (SmolLM2's packs 2.8 of the founders, 4.0 of program.md): low on
purpose, so that an estimate is rarely too small."""

LINE_CHARACTERS = 60
"""Of a line of a program that is named."""


def tokens_of(text: str) -> int:
    """Estimate the tokens of a text, rather too many than too few."""
    return tokens_in(len(text.encode(errors="replace")))


def tokens_in(text_bytes: int) -> int:
    """Estimate the tokens of so many bytes of text."""
    return math.ceil(text_bytes / BYTES_PER_TOKEN)


def one_line(text: str, most: int) -> str:
    """Return the text on one line of at most `most` characters, without control characters."""
    line = " ".join("".join(_printable(c) for c in text).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def quoted(text: str, most: int) -> str:
    """Return text that others wrote as data: its end, each line behind a bar, at most `most` long.

    A line behind a bar cannot close a quotation or pose as an instruction that stands beside it.
    """
    tail = text[-most:] if len(text) > most else text
    lines = ["".join(_printable(c) for c in line) for line in tail.splitlines()]
    cut = ["| ..."] if len(text) > most else []
    return "\n".join([*cut, *(f"| {line}".rstrip() for line in lines)])


def bounded(text: str, most: int) -> str:
    """Return head and tail of a text that is longer than `most` characters."""
    if len(text) <= most:
        return text
    half = (most - 40) // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"


def where_time_went(measured: Sequence[Measurement], source: str) -> str:
    """Return in which lines of a program most of its training's time went, empty if not known."""
    text, parts = source.split("\n"), []  # as Python counts lines
    for one in measured:
        place = one.name.removeprefix(LINE)
        if one.unit == SHARE and place.isdecimal() and 0 < int(place) <= len(text):
            code = one_line(text[int(place) - 1].strip(), LINE_CHARACTERS)
            parts.append(f"{one.value:.0%} `{code}` ({place})")
    return ", ".join(parts)


def _printable(c: str) -> str:
    return c if c.isprintable() or c == "\t" else " "
