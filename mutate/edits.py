"""What a model's answer makes of a program: the whole of the edit or nothing. Pure functions."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise, takewhile

from mutate.genome import lines_of
from mutate.replies import Edit, EditError, Reply, bare_lines, read_reply, shown

__all__ = ["Edit", "EditError", "Reply", "apply_reply", "read_reply"]

MAX_PROBLEMS = 3
"""Blocks whose faults one message names: a model gets one turn to repair them all."""
MAX_QUOTED_LINES = 40
MAX_QUOTED_LETTERS = 2_000
MAX_SOUGHT_LINES = 64
MAX_COMPARED_LINES = 4_000
MAX_COMPARED_LETTERS = 400

_WORD = re.compile(r"\w+")
_COMMENT = re.compile(r"(?:\.{3}\s*)?(?:#|//)(.*)")
_GAP = re.compile(
    r"""
    [\s([<*-]*(?:\.{3}|…)  # dots first: "... existing code ..."
      (?:[\W_]*|.*\b(?:unchanged|rest|remain\w*|existing|omitted|elided|same|as\ before)\b.*)
    | \W*(?:the\ )?(?:rest|remainder|everything\ else)  # "the rest of the class is unchanged"
      (?:\ of\ (?:the\ |this\ )?(?:code|file|program|script|class|function|method|model|module))?
      (?:\W+(?:(?:is|are|stays?|remains?|left|kept|goes)\ )?
         (?:unchanged|the\ same|same|here|as\ is|as\ before|omitted)(?:\ as\ before)?
        |\ ?(?:\.{3}|…))\W*
    | \W*(?:unchanged|(?:the\ )?same\ as\ before|existing\ code)\W*
    """,
    re.IGNORECASE | re.VERBOSE,
)


def apply_reply(source: str, reply: Reply) -> str:
    """Return the program with the reply carried out, which differs from the source.

    Each SEARCH has to match whole lines in one place of the source as it is: exactly, else but for
    blanks at line ends, else but for one change of indentation, which its replacement then makes
    as well. Line ends, and whether the last line has one, stay the source's.

    Raises:
        EditError: some block has no place or several, two overlap, a comment stands for lines that
            were left out, or nothing changes.
    """
    newline = "\r\n" if 2 * source.count("\r\n") > source.count("\n") else "\n"
    if reply.whole is None:
        result = _edited(source, reply.edits, newline)
    else:
        _refuse_gap("the program", reply.whole, source)
        result = "".join(line + newline for line in bare_lines(reply.whole))
    if source and not source.endswith(("\n", "\r")):
        result = result.removesuffix(newline)
    if result == source:
        raise EditError("the answer changes nothing: the program would be what it was")
    return result


def _edited(source: str, edits: Sequence[Edit], newline: str) -> str:
    """Return the source with the blocks applied, all of them or none."""
    kept = lines_of(source)
    bare = [line.rstrip("\r\n") for line in kept]
    places: list[tuple[int, int, int, list[str]]] = []  # first line, end, number, replacement
    problems: list[str] = []
    for number, edit in enumerate(edits, 1):
        try:
            _refuse_gap("its REPLACE", edit.replace, source)
            first, replacement = _placed(bare, bare_lines(edit.search), bare_lines(edit.replace))
            places.append((first, first + len(bare_lines(edit.search)), number, replacement))
        except EditError as error:
            problems.append(f"block {number}: {error}")
            if len(problems) == MAX_PROBLEMS:
                break
    if problems:
        raise EditError("\n".join(problems))
    places.sort()
    for (_, end, number, _), (first, _, other, _) in pairwise(places):
        if first < end:
            raise EditError(
                f"blocks {min(number, other)} and {max(number, other)} both change line "
                f"{first + 1} of the program: give one block for both"
            )
    for first, end, _, replacement in reversed(places):
        kept[first:end] = [line + newline for line in replacement]
    return "".join(kept)


def _placed(lines: list[str], search: list[str], replace: list[str]) -> tuple[int, list[str]]:
    """Return the line where a block applies, and its replacement. Raises EditError."""
    if not any(line.strip() for line in search):
        raise EditError("its SEARCH is empty: copy the lines that it replaces, or adds to")
    trimmed, sought = [line.rstrip() for line in lines], [line.rstrip() for line in search]
    if found := _occurrences(lines, search) or _occurrences(trimmed, sought):
        return _only(found), replace
    alike = _occurrences([line.strip() for line in lines], [line.strip() for line in search])
    windows = {n: trimmed[n : n + len(search)] for n in alike}
    found = [n for n, window in windows.items() if _flush(window) == _flush(sought)]
    if not found:
        raise EditError(
            "its SEARCH is not in the program; it has to copy whole lines, as they were before any "
            f"block. {_nearest(lines, search)}"
        )
    return _only(found), _moved(replace, _margin(sought), _margin(windows[found[0]]))


def _occurrences(lines: list[str], search: list[str]) -> list[int]:
    head, size = search[0], len(search)
    return [n for n, line in enumerate(lines) if line == head and lines[n : n + size] == search]


def _only(found: list[int]) -> int:
    if len(found) > 1:
        at = ", ".join(str(n + 1) for n in found[:5]) + (" ..." if len(found) > 5 else "")
        raise EditError(
            f"its SEARCH occurs {len(found)} times in the program, from lines {at}: "
            "add lines around it until only one place fits"
        )
    return found[0]


def _margin(lines: Iterable[str]) -> str:
    """Return the indentation that all lines share which are not blank."""
    indents = [line[: len(line) - len(line.lstrip())] for line in lines if line.strip()]
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*indents, strict=False))
    return "".join(column[0] for column in columns)


def _flush(lines: list[str]) -> list[str]:
    margin = len(_margin(lines))
    return [line[margin:] for line in lines]


def _moved(lines: list[str], old: str, new: str) -> list[str]:
    """Return the lines moved as the SEARCH has to be, from its margin to the program's."""
    gone, added = old, new
    if new.endswith(old):
        gone, added = "", new.removesuffix(old)
    elif old.endswith(new):
        gone, added = old.removesuffix(new), ""
    if any(line.strip() and not line.startswith(gone) for line in lines):
        raise EditError(
            "its SEARCH is indented otherwise than the program, and its REPLACE cannot be moved "
            "along: copy the indentation"
        )
    return [added + line.removeprefix(gone) if line.strip() else line for line in lines]


def _nearest(lines: Sequence[str], search: Sequence[str]) -> str:
    """Return a sentence that quotes the passage whose lines share most words with a SEARCH.

    Each pair of lines that has half of its words in common votes for where the passage begins.
    """
    program, sought = _words(lines[:MAX_COMPARED_LINES]), _words(search[:MAX_SOUGHT_LINES])
    votes: defaultdict[int, float] = defaultdict(float)
    for k, own in enumerate(sought):
        for n, theirs in enumerate(program):
            if not own.isdisjoint(theirs):
                share = 2 * len(own & theirs) / (len(own) + len(theirs))
                votes[n - k] += share if share >= 0.5 else 0
    if not any(votes.values()):
        return "Nothing in the program resembles it."
    best = min(votes, key=lambda n: (-votes[n], n))
    near = [n for n in range(best - 3, best + 4) if votes.get(n, 0) >= votes[best] / 3]
    first, end = max(0, near[0]), near[-1] + len(search)  # a SEARCH that lost a line fits twice
    quote = "\n".join(lines[first:end][:MAX_QUOTED_LINES])[:MAX_QUOTED_LETTERS]
    last = first + 1 + quote.count("\n")
    text = quote.encode(errors="replace").decode()
    return f"Nearest to it are lines {first + 1} to {last} of the program:\n{text}"


def _words(lines: Iterable[str]) -> list[frozenset[str]]:
    return [frozenset(_WORD.findall(line[:MAX_COMPARED_LETTERS])) for line in lines]


def _refuse_gap(what: str, text: str, source: str) -> None:
    """Refuse a text where a comment or dots stand for lines, unless the program has them."""
    comments = [
        line.strip() for line in bare_lines(text) if line.lstrip().startswith(("#", "//", "..."))
    ]
    own = {line.strip() for line in lines_of(source)} if comments else set()
    for line in comments:
        comment = _COMMENT.match(line[:200])
        gap = line == "..." or (comment and _GAP.fullmatch(comment[1]))
        if gap and line not in own:
            raise EditError(f"{what} leaves lines out behind {shown(line)}: write all lines")
