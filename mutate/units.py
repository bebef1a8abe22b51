"""The top-level statements of a program: which names each binds and needs, and moving them."""

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mutate.genome import ProgramError, constants, lines_of, normalise, parse, quiet

DEFINITIONS = frozenset({"class", "function"})
_GIVEN = frozenset(dir(builtins)) | {"__file__", "__annotations__", "__builtins__"}


class TransplantError(ValueError):
    """A unit cannot be moved; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One top-level statement with the comment lines that stand directly above it.

    Attributes:
        kind: `class`, `function`, `import`, `assignment` or `other`.
        first, end: its lines, counted from 0, `end` excluded. text: those lines.
        binds: names that it gives the module.
        at_once: module names that must exist when it is executed. later: others that it uses.
        imports: for each name that an import binds, the statement that imports it alone.
        shape: the normalised syntax tree, as text.
    """

    kind: str
    first: int
    end: int
    text: str
    binds: frozenset[str]
    at_once: frozenset[str]
    later: frozenset[str]
    imports: tuple[tuple[str, str], ...]
    shape: str

    @property
    def needs(self) -> frozenset[str]:
        """All module names that it uses, its own among them where it refers to itself."""
        return self.at_once | self.later


@lru_cache(maxsize=256)
def units(source: str) -> tuple[Unit, ...]:
    """Return the top-level statements in order. Raises ProgramError."""
    tree, lines = parse(source), lines_of(source)
    found: list[Unit] = []
    floor = 0
    for node in tree.body:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorators)]) - 1
        if first < floor:
            raise ProgramError(f"line {first + 1} holds several statements")
        while first > floor and lines[first - 1].startswith("#"):
            first -= 1
        floor = node.end_lineno or node.lineno
        found.append(_unit(node, first, floor, "".join(lines[first:floor])))
    return tuple(found)


def definitions(source: str) -> dict[str, Unit]:
    """Return the classes and functions that are bound once, by name."""
    every = units(source)
    names = [name for unit in every for name in unit.binds]
    return {
        name: unit
        for unit in every
        if unit.kind in DEFINITIONS
        for name in unit.binds
        if names.count(name) == 1
    }


def unresolved(source: str) -> frozenset[str]:
    """Return the names that the program uses at module level or in its units and never has.

    A name that a statement needs at once must be bound above it.
    """
    every = units(source)
    everything = _GIVEN.union(*(unit.binds for unit in every))
    known, missing = set(_GIVEN), set[str]()
    for unit in every:
        missing |= unit.at_once - known - unit.binds
        known |= unit.binds
        missing |= unit.later - everything
    return frozenset(missing)


def transplant(base: str, donor: str, name: str) -> str:
    """Return the base with the donor's definition of `name` in place of its own.

    Whatever this uses and the base lacks comes along, directly used or not. Classes and functions
    that both have stay the base's; tunable constants that a moved definition reads travel with it,
    value and range, because they were tuned for each other.

    Args:
        base: the program that changes.
        donor: the program that gives.
        name: a class or function that both define once.

    Raises:
        ProgramError: one of them does not parse.
        TransplantError: a name that is used would be bound nowhere, or too late, or twice.
    """
    unit, replaced = definitions(donor)[name], definitions(base)[name]
    have = frozenset().union(*(own.binds for own in units(base)))
    imports, brought = _needed(unit, donor, have)
    literal = _constant_units(donor).values()
    place = replaced.first
    top = _end_of((own for own in units(base) if own.kind == "import"), place)
    edits = [(top, top, f"{text}\n") for text in imports]
    for new in brought:
        at = _end_of(_constant_units(base).values(), place) if new in literal else place
        edits.append((at, at, _spaced(new)))
    edits.append((place, replaced.end, unit.text))
    edits += _tuned_constants(base, donor, [unit, *brought])
    child = _edited(base, edits)
    missing = unresolved(child) - unresolved(base)
    if missing:
        raise TransplantError(f"it would use {', '.join(sorted(missing))} where nothing binds it")
    return child


def _needed(unit: Unit, donor: str, have: frozenset[str]) -> tuple[list[str], list[Unit]]:
    """Return the import statements and the units that come along, in the donor's order."""
    every = units(donor)
    imports: set[str] = set()
    brought: dict[int, Unit] = {}
    waiting = [unit]
    while waiting:
        for name in sorted(waiting.pop().needs - have):
            for other in every:
                if other.kind == "import":
                    imports |= {text for bound, text in other.imports if bound == name}
                elif name in other.binds and other.first not in brought:
                    if other.binds & have:
                        both = ", ".join(sorted(other.binds & have))
                        raise TransplantError(f"{name} comes with {both}, which both have")
                    brought[other.first] = other
                    waiting.append(other)
    alone = [text for other in every for _, text in other.imports if text in imports]
    return alone, [brought[first] for first in sorted(brought)]


def _tuned_constants(base: str, donor: str, moved: Iterable[Unit]) -> list[tuple[int, int, str]]:
    """Return the edits that take over the constants which the moved units read."""
    read = frozenset().union(*(unit.needs for unit in moved))
    own, theirs = _constant_units(base), _constant_units(donor)
    return [
        (own[name].first, own[name].end, theirs[name].text)
        for name in own
        if name in theirs and name in read and own[name].shape != theirs[name].shape
    ]


def _constant_units(source: str) -> dict[str, Unit]:
    names = {constant.name for constant in constants(source)}
    return {name: unit for unit in units(source) for name in unit.binds if name in names}


def _end_of(found: Iterable[Unit], place: int) -> int:
    """Return the line behind the last of these units that stands above `place`, else `place`."""
    return max((unit.end for unit in found if unit.end <= place), default=place)


def _spaced(unit: Unit) -> str:
    return _ended(unit.text) + ("\n\n" if unit.kind in DEFINITIONS else "")


def _ended(text: str) -> str:
    return text if text.endswith(("\n", "\r")) or not text else text + "\n"


def _edited(source: str, edits: Sequence[tuple[int, int, str]]) -> str:
    """Return the text with ranges of lines replaced; what goes to one place keeps its order."""
    lines = [_ended(line) for line in lines_of(source)]
    for first, end, text in reversed(sorted(edits, key=lambda edit: edit[:2])):
        lines[first:end] = [_ended(text)]
    return "".join(lines)


def _unit(node: ast.stmt, first: int, end: int, text: str) -> Unit:
    imports = tuple(_imports(node))
    try:
        with quiet():
            table = symtable.symtable(text, "<unit>", "exec")
        shape = ast.dump(normalise(ast.Module([node], [])))
    except (SyntaxError, RecursionError) as error:
        raise ProgramError(f"line {first + 1}: {error}") from error
    symbols = list(table.get_symbols())
    binds = {one.get_name() for one in symbols if one.is_assigned() or one.is_imported()}
    at_once = {one.get_name() for one in symbols if one.is_referenced()}
    later: set[str] = set()
    for inner, waits in _inner(table):
        for one in inner.get_symbols():
            if one.is_global() and one.is_referenced():
                (later if waits else at_once).add(one.get_name())
            if one.is_declared_global() and one.is_assigned():
                binds.add(one.get_name())
    return Unit(
        _kind(node), first, end, text, frozenset(binds), frozenset(at_once), frozenset(later),
        imports, shape,
    )  # fmt: skip


def _inner(
    table: symtable.SymbolTable, waits: bool = False
) -> Iterator[tuple[symtable.SymbolTable, bool]]:
    """Yield the scopes inside, each with whether it is executed later than its statement."""
    for child in table.get_children():
        later = waits or not isinstance(child, symtable.Class)
        yield child, later
        yield from _inner(child, later)


def _kind(node: ast.stmt) -> str:
    if isinstance(node, ast.ClassDef):
        return "class"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return "function"
    if isinstance(node, ast.Import | ast.ImportFrom):
        return "import"
    return "assignment" if isinstance(node, ast.Assign | ast.AnnAssign) else "other"


def _imports(node: ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            alone = ast.unparse(
                ast.Import([alias])
                if isinstance(node, ast.Import)
                else ast.ImportFrom(node.module, [alias], node.level)
            )
            yield (alias.asname or alias.name.split(".")[0]), alone
