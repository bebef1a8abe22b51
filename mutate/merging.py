"""Carrying an edit from the program that it was made on to another one, definition by definition.

A three-way merge whose parts are the top-level statements of a program: what the edit touched has
to stand in the other program as it stood where the edit was made.
"""

from collections.abc import Mapping
from functools import lru_cache

from mutate.genome import constants, lines_of
from mutate.units import Unit, units, unresolved

Key = frozenset[str] | str
"""The names that a statement binds; its shape where it binds none."""


class MergeError(ValueError):
    """An edit has no place in a program; the message is a clause that says why."""


@lru_cache(maxsize=1024)
def touched(before: str, after: str) -> frozenset[Key]:
    """Return the statements that an edit changed, added or removed, values of constants aside.

    Raises:
        ProgramError, MergeError: a program cannot be taken apart.
    """
    old, new = _parts(before), _parts(after)
    tunable = _tunable(before) & _tunable(after)
    return frozenset(
        key
        for key in {*old, *new} - tunable
        if key not in old or key not in new or old[key].shape != new[key].shape
    )


def merged(base: str, before: str, after: str) -> str:
    """Return the base with what differs between `before` and `after`, all of it.

    Values of constants that all three declare stay the base's: they were tuned there.

    Raises:
        ProgramError: a program does not parse.
        MergeError: what the edit replaces or removes is not as it was, what it adds is there
            already, or a name would be bound nowhere.
    """
    own, old, new = _parts(base), _parts(before), _parts(after)
    tunable = _tunable(before) & _tunable(base)
    edits: list[tuple[int, int, str]] = []
    for key in touched(before, after):
        stands = key in own and (key in tunable or _same(key, own, old))
        if key in old and not stands:
            raise MergeError(f"{_named(key)} is not what the edit was made on")
        if key not in old and key in own:
            raise MergeError(f"{_named(key)} is there already")
        text = new[key].text if key in new else ""
        if key in own:
            edits.append((own[key].first, own[key].end, text))
        else:
            place = _place(key, new, own)
            edits.append((place, place, text))
    child = _edited(base, edits)
    missing = unresolved(child) - unresolved(base)
    if missing:
        raise MergeError(f"it would use {', '.join(sorted(missing))} where nothing binds it")
    return child


def _parts(source: str) -> dict[Key, Unit]:
    found: dict[Key, Unit] = {}
    for unit in units(source):
        key: Key = unit.binds or unit.shape
        if key in found:
            raise MergeError(f"{_named(key)} stands there twice")
        found[key] = unit
    return found


def _tunable(source: str) -> frozenset[Key]:
    return frozenset(frozenset({constant.name}) for constant in constants(source))


def _place(key: Key, new: Mapping[Key, Unit], own: Mapping[Key, Unit]) -> int:
    """Return the line behind the nearest statement above that both programs have."""
    place = 0
    for other in new:
        if other == key:
            break
        if other in own:
            place = own[other].end
    return place


def _edited(source: str, edits: list[tuple[int, int, str]]) -> str:
    lines = lines_of(source)
    for first, end, text in sorted(edits, reverse=True):
        lines[first:end] = [text]
    return "".join(lines)


def _same(key: Key, one: Mapping[Key, Unit], other: Mapping[Key, Unit]) -> bool:
    return key in one and key in other and one[key].shape == other[key].shape


def _named(key: Key) -> str:
    return "a statement" if isinstance(key, str) else ", ".join(sorted(key))
