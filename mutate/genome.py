"""A program as the operators see it: its tunable constants and its digests. Pure functions.

A tunable constant is an upper-case name that is bound once, at the top level, to a literal; the
comment behind it may give its range (`mutate/ranges.py`):

    MATRIX_LR = 0.02  # log 0.002..0.2; peak of the schedule
    WINDOW_PATTERN = "SSSL"  # one of SSSL, SSLL, LLLL

Two programs with one fingerprint do the same: layout, comments, docstrings and the choice of a
seed do not count. Programs with one structure differ in the values of constants alone. Digests
compare within one version of Python.
"""

import ast
import hashlib
import io
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from mutate.ranges import Range, Value, range_of

_SEED_NAME = re.compile(r"(?:^|_)seeds?(?:_|$)", re.IGNORECASE)
_SEED_CALLS = frozenset({"manual_seed", "manual_seed_all", "seed", "default_rng", "Random"})
_WARNINGS = threading.Lock()
REMEMBERED = 1 << 14
"""Programs whose constants and digests are kept: more than a run has individuals."""


class ProgramError(ValueError):
    """The text is no Python program; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Constant:
    """One tunable constant. `start`, `end`: where its literal stands, counted in characters."""

    name: str
    value: Value
    range: Range
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Reading:
    constants: tuple[Constant, ...]
    fingerprint: str
    structure: str


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Python from warning about a program that it reads. One thread at a time."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(source: str) -> ast.Module:
    """Return the syntax tree. Raises ProgramError with the line."""
    try:
        with quiet():
            return ast.parse(source)
    except SyntaxError as error:
        raise ProgramError(f"line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ProgramError(str(error) or "it is nested too deeply") from error


def lines_of(source: str) -> list[str]:
    """Return the lines as Python counts them, with their ends."""
    return list(io.StringIO(source, newline=""))


def constants(source: str) -> tuple[Constant, ...]:
    """Return the tunable constants in the order of the text; none where it does not parse."""
    try:
        return _read(source).constants
    except ProgramError:
        return ()


def values(source: str) -> dict[str, Value]:
    """Return the tunable constants of a program with their values."""
    return {constant.name: constant.value for constant in constants(source)}


def fingerprint(source: str, *, python: bool = True) -> str:
    """Return the digest of what a program does.

    Args:
        source: the text.
        python: False for other languages, where only white space is set aside.
    """
    try:
        return _read(source).fingerprint if python else _sha256(" ".join(source.split()))
    except ProgramError:
        return _sha256(source)


def structure(source: str) -> str:
    """Return the digest of the program with the values of its tunable constants blanked."""
    try:
        return _read(source).structure
    except ProgramError:
        return _sha256(source)


def rewrite(source: str, changed: Mapping[str, Value]) -> str:
    """Return the text with these constants set; nothing else of it changes by a byte.

    Raises:
        KeyError: a name that the program does not declare as tunable.
    """
    declared = {constant.name: constant for constant in constants(source)}
    chosen = [(declared[name], value) for name, value in changed.items()]
    for constant, value in sorted(chosen, key=lambda pair: -pair[0].start):
        source = source[: constant.start] + render(value) + source[constant.end :]
    return source


def render(value: Value) -> str:
    """Return the literal of a value."""
    if isinstance(value, str) and value.isprintable() and not set(value) & set('"\\'):
        return f'"{value}"'
    return repr(value)


def normalise(tree: ast.Module) -> ast.Module:
    """Take docstrings and other statements that do nothing out of a tree, and blank its seeds."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [statement for statement in block if not _is_idle(statement)])
        _blank_seed(node)
    return tree


@lru_cache(maxsize=REMEMBERED)
def _read(source: str) -> _Reading:
    tree = parse(source)
    found = tuple(_constants(source, tree))
    try:
        whole = ast.dump(normalise(tree))
        tunable = {constant.name for constant in found}
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and _target(node) in tunable:
                node.value = ast.Constant(None)
        return _Reading(found, _sha256(whole), _sha256(ast.dump(tree)))
    except RecursionError as error:
        raise ProgramError("it is nested too deeply") from error


def _constants(source: str, tree: ast.Module) -> Iterator[Constant]:
    lines = lines_of(source)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    bound = _bound(tree)
    for node in tree.body:
        name = _target(node)
        if name is None or bound.count(name) > 1 or not name.isupper() or _SEED_NAME.search(name):
            continue
        assert isinstance(node, ast.Assign | ast.AnnAssign)
        expression = node.value
        value = _literal(expression)
        if expression is None or value is None or expression.lineno != expression.end_lineno:
            continue
        line, start = lines[expression.lineno - 1], starts[expression.lineno - 1]
        first, last = (
            _characters(line, column or 0)
            for column in (expression.col_offset, expression.end_col_offset)
        )
        closing = lines[(node.end_lineno or 1) - 1]
        rest = closing[_characters(closing, node.end_col_offset or 0) :].strip()
        found = range_of(value, rest if rest.startswith("#") else "")
        if found is not None:
            yield Constant(name, value, found, start + first, start + last)


def _bound(tree: ast.Module) -> list[str]:
    """Return the names that the module binds, as often as it does, wherever that stands."""
    found: list[str] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.append(node.id)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            declared = (inner for inner in ast.walk(node) if isinstance(inner, ast.Global))
            found.extend(name for statement in declared for name in statement.names)
            found.append(getattr(node, "name", ""))
        elif isinstance(node, ast.alias):
            found.append(node.asname or node.name)
        else:
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _target(node: ast.AST) -> str | None:
    """Return the name that a simple assignment binds."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def _literal(node: ast.AST | None) -> Value | None:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    plain = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    value = plain.value if isinstance(plain, ast.Constant) else None
    if not isinstance(value, bool | int | float | str):
        return None
    if not negative:
        return value
    return None if isinstance(value, bool | str) else -value


def _characters(line: str, column: int) -> int:
    """Turn the syntax tree's column, in bytes of UTF-8, into characters."""
    return len(line.encode()[:column].decode())


def _is_idle(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass)


def _blank_seed(node: ast.AST) -> None:
    blanked: list[ast.AST | None] = []
    if isinstance(node, ast.Call):
        called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
        blanked = [word.value for word in node.keywords if _SEED_NAME.search(word.arg or "")]
        if called in _SEED_CALLS:
            blanked += [*node.args, *(word.value for word in node.keywords)]
    elif isinstance(node, ast.Assign | ast.AnnAssign) and _SEED_NAME.search(_target(node) or ""):
        blanked = [node.value]
    for part in blanked:
        for inner in ast.walk(part) if part is not None else ():
            if isinstance(inner, ast.Constant):
                inner.value = None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
