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
import copy
import hashlib
import io
import re
import tokenize
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

    @property
    def domain(self) -> tuple[object, ...]:
        """What two programs must agree on before they share results about this constant."""
        return self.name, self.kind, self.low, self.high, self.log, self.choices


@lru_cache(maxsize=4096)
def constants(source: str) -> tuple[Constant, ...]:
    """Return the tunable constants in the order of the text; none where it does not parse."""
    try:
        tree = ast.parse(source)
        comments = _comments(source)
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError):
        return ()
    offsets = _line_offsets(source)
    found: dict[str, Constant] = {}
    repeated: set[str] = set()
    for node in tree.body:
        name, value = _binding(node)
        if name is None or value is None:
            continue
        if name in found:
            repeated.add(name)
        start = _offset(source, offsets, value.lineno, value.col_offset)
        end = _offset(source, offsets, value.end_lineno or 0, value.end_col_offset or 0)
        literal = ast.literal_eval(value)
        constant = _constant(name, literal, (start, end), comments.get(node.end_lineno or 0, ""))
        if constant is not None:
            found[name] = constant
    return tuple(c for c in found.values() if c.name not in repeated)


def _binding(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    """Return (name, literal) of a top-level binding of an upper-case name, else Nones."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None, None
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    if not isinstance(target, ast.Name) or not _NAME.fullmatch(target.id):
        return None, None
    value = node.value
    plain = value.operand if isinstance(value, ast.UnaryOp) else value
    negative = isinstance(value, ast.UnaryOp) and not isinstance(value.op, ast.USub)
    if negative or not isinstance(plain, ast.Constant) or _SEED_NAME.search(target.id):
        return None, None
    if not isinstance(plain.value, bool | int | float | str):
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
    if head.split(maxsplit=1)[:1] == ["fixed"]:
        return None
    if head.startswith("one of "):
        words = [word.strip() for word in head.removeprefix("one of ").split(",")]
        choices = tuple(dict.fromkeys([_literal(word) for word in words if word] or [value]))
        if not any(_same(value, choice) for choice in choices):
            choices = (value, *choices)
        return Constant(name, value, "choice", *span, choices=choices)
    if isinstance(value, bool):
        return Constant(name, value, "choice", *span, choices=(False, True))
    if isinstance(value, str):
        return None
    return _number(name, value, span, _RANGE.match(head))


def _number(
    name: str, value: int | float, span: tuple[int, int], match: re.Match[str] | None
) -> Constant | None:
    kind = "int" if isinstance(value, int) else "float"
    if match is None:
        if value <= 0:
            return None
        low, high, log = value / DEFAULT_SPAN, value * DEFAULT_SPAN, True
    else:
        try:
            low, high, log = float(match[2]), float(match[3]), match[1] is not None
        except ValueError:
            return None
        if kind == "int" and not (low.is_integer() and high.is_integer()):
            kind = "float"
    low, high = min(low, value), max(high, value)
    if kind == "int":
        low, high = max(round(low), 1) if log else round(low), round(high)
    if log and low <= 0:
        return None
    return Constant(name, value, kind, *span, low=low, high=high, log=log)


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
    """Return a literal for the text: floats with four significant digits."""
    if isinstance(value, float):
        return repr(float(f"{value:.4g}"))
    if isinstance(value, str):
        return '"' + repr(value)[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    return repr(value)


def rounded(value: Value) -> Value:
    """Return the value as it reads back from the text."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


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
        tree = _Normal(blank).visit(copy.deepcopy(ast.parse(source)))
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
        target = node.targets[0]
        if isinstance(target, ast.Name) and (
            target.id in self._blank or _SEED_NAME.search(target.id)
        ):
            node.value = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else None
        name = function.id if isinstance(function, ast.Name) else name
        if name in _SEED_CALLS and all(isinstance(a, ast.Constant) for a in node.args):
            node.args = []
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
    lines = source.splitlines(keepends=True)
    result, floor = [], 0
    for node in tree.body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
        while first > floor and lines[first - 1].lstrip().startswith("#"):
            first -= 1
        last = node.end_lineno or node.lineno
        floor = last
        start, end = offsets[first], offsets[last]
        result.append(
            Unit(
                _names(node), type(node).__name__, start, end, source[start:end],
                _unit_digest(node), _references(node),
            )
        )  # fmt: skip
    return tuple(result)


def _unit_digest(node: ast.stmt) -> str:
    normal = _Normal(frozenset()).visit(copy.deepcopy(node))
    return hashlib.sha256(ast.dump(normal).encode()).hexdigest()


def _names(node: ast.stmt) -> tuple[str, ...]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return (node.name,)
    if isinstance(node, ast.Import | ast.ImportFrom):
        return tuple((a.asname or a.name).split(".")[0] for a in node.names)
    stored = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return tuple(dict.fromkeys(n.id for n in stored if isinstance(n.ctx, ast.Store)))


def _references(node: ast.stmt) -> frozenset[str]:
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return frozenset(n.id for n in names if isinstance(n.ctx, ast.Load))
