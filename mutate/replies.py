"""What a model says in its answer, read from plain text. Pure functions.

    Hypothesis: one line, why this should help
    Category: one or two words

    <<<<<<< SEARCH
    whole lines, copied from the program
    =======
    what replaces them
    >>>>>>> REPLACE

Several such blocks, or the whole program in one code fence. An answer is taken as it stands or
refused, never guessed at: a line that looks like a marker and is none refuses the answer, because
skipping a block would train a program that nobody wrote. A cut between two blocks leaves no trace
in the text, so the caller looks at the stop reason first.

Source: the form is that of aider, https://aider.chat/docs/more/edit-formats.html, "diff".
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from mutate.genome import ProgramError, parse

NO_HYPOTHESIS = "(no hypothesis given)"
MAX_HYPOTHESIS = 300
MAX_CATEGORY = 40
MAX_BLOCKS = 100
MAX_FENCES = 64
MAX_CLOSINGS = 8
"""Lines that are tried as the end of one code fence: each costs a parse of the program."""

_MARKER = re.compile(r"[ \t]*(?:[<>]{5,}|[<>]{2,}[ \t]*(?:SEARCH|REPLACE)[ \t]*$)")
_OPEN = re.compile(r"([ \t]*)<{5,9}[ \t]*SEARCH[ \t]*$", re.IGNORECASE)
_DIVIDER = re.compile(r"([ \t]*)={5,9}[ \t]*$")
_CLOSE = re.compile(r"[ \t]*>{5,9}[ \t]*REPLACE[ \t]*$", re.IGNORECASE)
_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})([^`]*)$")
_HEADER = re.compile(r"[\W\d_]*(hypothesis|category)[ \t*_`]*[:：](.*)", re.IGNORECASE)


class EditError(ValueError):
    """An answer cannot be used; the message says why, to the model that wrote it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One block: whole lines of a program, and the lines in their place (none: they go)."""

    search: str
    replace: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer says. Either there are `edits`, or `whole` is the new program.

    Attributes:
        hypothesis: one printable line of at most 300 letters, never empty.
        category: at most 40 of a-z, 0-9, blank, `_` and `-`, never empty.
    """

    hypothesis: str
    category: str
    edits: tuple[Edit, ...] = ()
    whole: str | None = None

    def __post_init__(self) -> None:
        if bool(self.edits) == (self.whole is not None):
            raise ValueError("a reply holds either edits or a whole program")


def read_reply(answer: str) -> Reply:
    """Return what a complete answer says. Where it has blocks, they count and fences do not.

    Raises:
        EditError: it holds neither form, or one that is malformed, cut short or ambiguous.
    """
    lines = bare_lines(answer)
    markers = [n for n, line in enumerate(lines) if _MARKER.match(line)]
    if markers:
        spans = list(zip_longest(markers[::2], markers[1::2]))
        if len(spans) > MAX_BLOCKS:
            raise EditError(f"{len(spans)} blocks are too many: give the whole program")
        edits = tuple(_block(lines, number, *span) for number, span in enumerate(spans, 1))
        return Reply(*_headers(_outside(lines, spans)), edits)
    first, last = _program(lines)
    return Reply(
        *_headers(_outside(lines, [(first, last)])), whole=_text(_fenced(lines, first, last))
    )


def bare_lines(text: str) -> list[str]:
    """Return the lines without their ends, which may be those of any system."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def shown(line: str) -> str:
    """Return a line as a message can quote it: short, and in letters that no terminal minds."""
    return ascii(line.strip()[:80])


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _outside(lines: list[str], spans: Iterable[tuple[int, int]]) -> Iterable[str]:
    start = 0
    for first, last in [*spans, (len(lines), 0)]:
        yield from lines[start:first]
        start = last + 1


def _headers(prose: Iterable[str]) -> tuple[str, str]:
    """Return hypothesis and category, each from the first line that gives it."""
    found: dict[str, str] = {}
    for line in prose:
        if header := _HEADER.match(line):
            printable = "".join(c if c.isprintable() else " " for c in header[2])
            if text := " ".join(printable.split()).strip(" *_`"):
                found.setdefault(header[1].lower(), text)
    words = re.sub(r"[^a-z0-9_-]+", " ", found.get("category", "").lower())
    hypothesis = found.get("hypothesis", NO_HYPOTHESIS)[:MAX_HYPOTHESIS].strip()
    return hypothesis, words.strip()[:MAX_CATEGORY].strip() or "other"


def _block(lines: list[str], number: int, first: int, last: int | None) -> Edit:
    """Return the block between two marker lines. Raises EditError."""
    where = f"block {number}, line {first + 1} of the answer"
    opening = _OPEN.match(lines[first])
    if not opening:
        raise EditError(f"{where}: {shown(lines[first])} stands where <<<<<<< SEARCH is due")
    if last is None:
        raise EditError(f"{where}: no >>>>>>> REPLACE ends it; the answer seems to be cut short")
    if not _CLOSE.match(lines[last]):
        raise EditError(f"{where}: {shown(lines[last])} stands where >>>>>>> REPLACE is due")
    # A heading in an indented docstring is no divider of a block that begins at the margin.
    found = [(n, _DIVIDER.match(lines[n])) for n in range(first + 1, last)]
    dividers = [n for n, match in found if match and len(match[1]) <= len(opening[1])]
    if not dividers:
        raise EditError(f"{where}: no ======= line parts what is searched from what replaces it")
    if len(dividers) > 1:
        at = ", ".join(str(n + 1) for n in dividers[:5])
        raise EditError(
            f"{where}: it has {len(dividers)} ======= lines ({at}), so that one may belong to the "
            "program; keep such lines out of the block, or give the whole program"
        )
    middle = dividers[0]
    return Edit(_text(lines[first + 1 : middle]), _text(lines[middle + 1 : last]))


def _program(lines: list[str]) -> tuple[int, int]:
    """Return the lines of the code fence around the longest fenced text. Raises EditError."""
    fences = [(n, match) for n, line in enumerate(lines) if (match := _FENCE.match(line))]
    if len(fences) > MAX_FENCES:
        raise EditError(f"{len(fences)} code fences are too many to tell which is the program")
    found: list[tuple[int, int, int, bool]] = []  # letters, first, last, whether certain
    waiting = fences
    while waiting:
        (first, opening), *waiting = waiting
        closings = [n for n, match in waiting if _closes(match, opening)]
        if closings:
            last, python = _closing(lines, first, closings)
            letters = sum(len(line.strip()) for line in lines[first + 1 : last])
            alone = sum(match[2].startswith(opening[2]) for _, match in fences) == 2
            found.append((letters, first, last, python or alone))
            waiting = [fence for fence in waiting if fence[0] > last]
        elif any(line.strip() for line in lines[first + 1 :]):
            raise EditError(
                f"the code fence of line {first + 1} of the answer is never closed; "
                "the answer seems to be cut short"
            )
    letters, first, last, certain = max(found, key=lambda one: one[0], default=(0, 0, 0, False))
    if not letters:
        raise EditError(
            "the answer holds neither a SEARCH/REPLACE block nor the whole program in a code fence"
        )
    if not certain:  # it may be one half of a program that has fence lines
        raise EditError(
            "the longest code fence of the answer holds no Python program, and others are like it: "
            "give the whole program in the only fence, or in one of four backticks"
        )
    return first, last


def _fenced(lines: list[str], first: int, last: int) -> list[str]:
    """Return the lines within a code fence, moved to the margin where all of it is indented."""
    indent = " " * (len(lines[first]) - len(lines[first].lstrip(" ")))
    inner = lines[first + 1 : last]
    if all(line.startswith(indent) or not line.strip() for line in inner):
        return [line.removeprefix(indent) for line in inner]
    return inner


def _closes(fence: re.Match[str], opening: re.Match[str]) -> bool:
    return not fence[3].strip() and fence[2].startswith(opening[2])


def _closing(lines: list[str], first: int, closings: Sequence[int]) -> tuple[int, bool]:
    """Return the line that closes a fence, and whether Python stands between. Raises EditError.

    A Python program can hold a fence line only within triple quotes, and does not parse when it is
    cut there: the first closing line that gives a program is the right one.
    """
    reason = ""
    for last in closings[:MAX_CLOSINGS]:
        try:
            parse(_text(_fenced(lines, first, last)))
        except ProgramError as error:
            reason = str(error)
            if "triple-quoted" not in reason:
                if last == closings[0]:
                    return last, False
                break
        else:
            return last, True
    raise EditError(
        f"wherever the code fence of line {first + 1} of the answer ends, it holds no program "
        f"({reason}); put a program that has ``` lines into a fence of four backticks"
    )
