"""A program as the operators see it: tunable constants, named units, digests. Pure functions.

A tunable constant is an upper-case name that is bound to a literal at the top level, with an
optional range behind it (a remark may follow after a semicolon or in parentheses):

    MATRIX_LR = 0.02  # log 0.002..0.2; peak of the schedule
    DEPTH = 2  # 1..4
    WINDOW_PATTERN = "SSSL"  # one of SSSL, SSLL, LLLL
    VOCAB = 256  # fixed

Without a range a positive number gets a quarter to four times its value on a log scale, a bool
both values; other constants are left alone. Seeds are never constants.
"""

import ast
import hashlib
import io
import json
import math
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

Value = bool | int | float | str

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_SEED_NAME = re.compile(r"(^|_)SEED(S|_|$)")
_RANGE = re.compile(r"(log\s+)?([-+.\deE_]+)\s*\.\.\s*([-+.\deE_]+)")
_SEED_CALLS = frozenset({"manual_seed", "manual_seed_all", "seed", "default_rng", "Random"})
DEFAULT_SPAN = 4.0


@dataclass(frozen=True, slots=True)
class Constant:
    """One tunable constant.

    Attributes:
        kind: `float`, `int` or `choice`. low, high, log: of a number's range.
        choices: of a `choice`. start, end: where the literal stands in the text, as characters.
        declared: the range or the choices as the comment gives them, before they are widened to
            hold the value; empty for the range that a number has by default.
    """

    name: str
    value: Value
    kind: str
    start: int
    end: int
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Value, ...] = ()
    declared: tuple[Value, ...] = ()

    @property
    def domain(self) -> tuple[object, ...]:
        """What two programs must agree on before they share results about this constant."""
        return self.name, self.kind, self.log, self.declared

    def holds(self, value: Value) -> bool:
        """Return whether a value lies in the range or is one of the choices."""
        if self.kind == "choice":
            return any(_same(value, choice) for choice in self.choices)
        return not isinstance(value, str) and self.low <= value <= self.high


@lru_cache(maxsize=4096)
def constants(source: str) -> tuple[Constant, ...]:
    """Return the tunable constants in the order of the text; none where it does not parse."""
    try:
        tree = ast.parse(source)
        comments = _comments(source)
        bound = Counter(name for node in tree.body for name in _bound(node))
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError):
        return ()
    offsets = _line_offsets(source)
    found: list[Constant] = []
    for node in tree.body:
        name, value = _binding(node)
        if name is None or value is None or bound[name] > 1:
            continue
        start = _offset(source, offsets, value.lineno, value.col_offset)
        end = _offset(source, offsets, value.end_lineno or 0, value.end_col_offset or 0)
        literal = ast.literal_eval(value)
        constant = _constant(name, literal, (start, end), comments.get(node.end_lineno or 0, ""))
        if constant is not None:
            found.append(constant)
    return tuple(found)


def _binding(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    """Return (name, literal) of a top-level binding of an upper-case name, else Nones."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None, None
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    if not isinstance(target, ast.Name) or not _NAME.fullmatch(target.id):
        return None, None
    value = node.value
    negative = isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub)
    plain = value.operand if isinstance(value, ast.UnaryOp) and negative else value
    if not isinstance(plain, ast.Constant) or _SEED_NAME.search(target.id):
        return None, None
    if not isinstance(plain.value, bool | int | float | str):
        return None, None
    if negative and isinstance(plain.value, bool | str):
        return None, None
    return target.id, value


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def _line_offsets(source: str) -> list[int]:
    offsets, position = [0], 0
    for line in io.StringIO(source, newline=""):
        position += len(line)
        offsets.append(position)
    return offsets


def _offset(source: str, offsets: list[int], line: int, column: int) -> int:
    """Turn the syntax tree's position (UTF-8 bytes in a line) into a position in the text."""
    start = offsets[line - 1]
    prefix = source[start : offsets[line]].encode()[:column]
    return start + len(prefix.decode())


def _constant(name: str, value: Value, span: tuple[int, int], comment: str) -> Constant | None:
    head = re.split(r"[;(]", comment, maxsplit=1)[0].strip()
    if re.match(r"fixed\b", head):
        return None
    if head.startswith("one of "):
        words = [word.strip() for word in head.removeprefix("one of ").split(",")]
        listed = tuple(dict.fromkeys([_literal(word) for word in words if word] or [value]))
        known = any(_same(value, choice) for choice in listed)
        choices = listed if known else (value, *listed)
        return Constant(name, value, "choice", *span, choices=choices, declared=listed)
    if isinstance(value, bool):
        return Constant(name, value, "choice", *span, choices=(False, True))
    if isinstance(value, str):
        return None
    return _number(name, value, span, _RANGE.match(head))


def _number(
    name: str, value: int | float, span: tuple[int, int], match: re.Match[str] | None
) -> Constant | None:
    kind = "int" if isinstance(value, int) else "float"
    declared: tuple[Value, ...] = ()
    try:
        if match is None:
            low, high, log = float(value) / DEFAULT_SPAN, float(value) * DEFAULT_SPAN, True
        else:
            low, high, log = float(match[2]), float(match[3]), match[1] is not None
            declared = (low, high)
    except (ValueError, OverflowError):
        return None
    if not (math.isfinite(low) and math.isfinite(high)) or (log and value <= 0):
        return None
    if kind == "int" and match and not (low.is_integer() and high.is_integer()):
        kind = "float"
    low, high = min(low, high, value), max(low, high, value)
    if kind == "int":
        low, high = max(round(low), 1) if log else round(low), round(high)
    if log and low <= 0:
        return None
    return Constant(name, value, kind, *span, low=low, high=high, log=log, declared=declared)


def _literal(word: str) -> Value:
    try:
        value = ast.literal_eval(word)
    except (SyntaxError, ValueError):
        return word
    return value if isinstance(value, bool | int | float | str) else word


def _same(first: Value, second: Value) -> bool:
    return type(first) is type(second) and first == second


def values(source: str) -> dict[str, Value]:
    """Return the tunable constants of a program with their values."""
    return {constant.name: constant.value for constant in constants(source)}


def rewrite(source: str, changed: dict[str, Value]) -> str:
    """Return the text with these constants set; nothing else of it changes by a byte."""
    for constant in sorted(constants(source), key=lambda c: -c.start):
        if constant.name in changed:
            literal = render(changed[constant.name])
            source = source[: constant.start] + literal + source[constant.end :]
    return source


def render(value: Value) -> str:
    """Return a literal that reads back as this value."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def rounded(value: float) -> float:
    """Return the value with four significant digits: more of a sampled one is noise."""
    return float(f"{value:.4g}")


def structure(source: str) -> str:
    """Return the digest of the program with its tunable constants blanked."""
    return _digest(source, blank=frozenset(c.name for c in constants(source)))


def fingerprint(source: str, *, python: bool = True) -> str:
    """Return the digest of what a program does: layout, comments and seeds do not count."""
    if not python:
        return hashlib.sha256(" ".join(source.split()).encode()).hexdigest()
    return _digest(source, blank=frozenset())


def _digest(source: str, blank: frozenset[str]) -> str:
    try:
        tree = _Normal(blank).visit(ast.parse(source))
        text = ast.dump(tree, annotate_fields=False)
    except (SyntaxError, ValueError, RecursionError):
        text = source
    return hashlib.sha256(text.encode()).hexdigest()


class _Normal(ast.NodeTransformer):
    """Removes docstrings, blanks constants by name and the arguments that seed generators."""

    def __init__(self, blank: frozenset[str]) -> None:
        self._blank = blank

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and isinstance(body, list) and len(body) > 1:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:]
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if self._blanks(node.targets[0], node.value):
            node.value = ast.Constant(None)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if self._blanks(node.target, node.value):
            node.value = ast.Constant(None)
        return self.generic_visit(node)

    def _blanks(self, target: ast.expr, value: ast.expr | None) -> bool:
        if not isinstance(target, ast.Name):
            return False
        seed = _SEED_NAME.search(target.id.upper()) and isinstance(value, ast.Constant)
        return target.id in self._blank or bool(seed)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else None
        name = function.id if isinstance(function, ast.Name) else name
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        if name in _SEED_CALLS and all(isinstance(value, ast.Constant) for value in values):
            node.args, node.keywords = [], []
        return node


@dataclass(frozen=True, slots=True)
class Unit:
    """One top-level statement: its names, its text with leading comments, what it refers to."""

    names: tuple[str, ...]
    kind: str
    start: int
    end: int
    text: str
    digest: str
    references: frozenset[str]


@lru_cache(maxsize=1024)
def units(source: str) -> tuple[Unit, ...]:
    """Return the top-level statements in order. Raises SyntaxError."""
    tree, offsets = ast.parse(source), _line_offsets(source)
    result, floor = [], 0
    for node in tree.body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
        while first > floor and source[offsets[first - 1] :].lstrip(" \t\f").startswith("#"):
            first -= 1
        last = node.end_lineno or node.lineno
        floor = last
        start, end = offsets[first], offsets[last]
        names, references = tuple(dict.fromkeys(_bound(node))), _references(node)
        text = source[start:end].rstrip("\n") + "\n"
        kind, digest = type(node).__name__, _unit_digest(node)
        result.append(Unit(names, kind, start, end, text, digest, references))
    return tuple(result)


def _unit_digest(node: ast.stmt) -> str:
    """Return the digest of a statement; changes the node."""
    normal = _Normal(frozenset()).visit(node)
    return hashlib.sha256(ast.dump(normal).encode()).hexdigest()


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds in its own scope, once for each binding."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((a.asname or a.name).split(".")[0] for a in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, ast.Lambda | ast.comprehension):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


def _references(node: ast.stmt) -> frozenset[str]:
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return frozenset(n.id for n in names if isinstance(n.ctx, ast.Load))
