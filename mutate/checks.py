"""Static checks: what a program must pass before it costs a device. Pure, in milliseconds."""

import ast
import io
import tokenize
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mutate.genome import ProgramError, parse, quiet
from population.task import EvaluatorKind, Task

MAX_STRING_BYTES = 2 << 10
MAX_LITERAL_BYTES = 8 << 10
MAX_PROSE_BYTES = 8 << 10
MAX_TRAILING_BLANKS = 1 << 10
MAX_NAME_BYTES = 16 << 10
MAX_NAME_LENGTH = 64
MAX_NUMBERS = 2_000
MAX_ELEMENTS = 256
MAX_INTEGER_BITS = 256
MAX_PACKED_BYTES = 16 << 10
"""What a program may hold in all, whatever it hides it in: this, or an eighth of the task's limit
on its text where that is more. A train.py of 26 KB packs into 8 KB."""
PASTED = "knowledge is learned, not pasted"
MODEL_CALLS = ("register", "batches", "deliver")
"""What a program of a model task must call somewhere: without it nothing is handed in."""


@dataclass(frozen=True, slots=True)
class Checks:
    """The rules of one task.

    Attributes:
        artifact: file name; only a `.py` file is parsed.
        source_bytes: limit on the text.
        required_calls: names of methods or functions that the program must call somewhere.
    """

    artifact: str = "train.py"
    source_bytes: int = 128 << 10
    required_calls: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Task) -> "Checks":
        """Return the rules of a task."""
        calls = MODEL_CALLS if task.kind is EvaluatorKind.MODEL else ()
        return cls(task.artifact, task.limits.source_bytes, calls)

    @property
    def python(self) -> bool:
        """Whether the artifact is a Python program."""
        return self.artifact.endswith(".py")

    def refusal(self, source: str) -> str:
        """Return why the program is refused, in a sentence; empty when it passes."""
        size = len(source.encode(errors="surrogatepass"))
        if size > self.source_bytes:
            return f"the program has {size} bytes, more than {self.source_bytes}"
        if not source.strip():
            return "the program is empty"
        if not self.python:
            return ""
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(source.encode()).readline)
            if encoding not in ("utf-8", "utf-8-sig"):
                return f"it declares the encoding {encoding}: a program is read as UTF-8"
            tree = parse(source)
            with quiet():
                compile(source, self.artifact, "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"it does not compile: line {error.lineno}: {error.msg}"
        except (ValueError, RecursionError, MemoryError) as error:
            kind = "parse" if isinstance(error, ProgramError) else "compile"
            return f"it does not {kind}: {error}"
        packed = max(MAX_PACKED_BYTES, self.source_bytes // 8)
        return _pasted(tree) or _written(source, tree, packed) or self._missing_call(tree)

    def _missing_call(self, tree: ast.Module) -> str:
        called = {_called(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        missing = [name for name in self.required_calls if name not in called]
        return f"it never calls {', '.join(missing)}" if missing else ""


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _pasted(tree: ast.Module) -> str:
    """Return why its literal data is too much.

    Texts count by their bytes, collections by the literals in them at any depth, numbers by their
    bits. A docstring may be long; all of them count as prose (`_written`).
    """
    documentation = {id(node) for node in _docstrings(tree)}
    total, counted = 0, set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            if isinstance(node.value, int) and node.value.bit_length() > MAX_INTEGER_BITS:
                return f"line {node.lineno} holds an integer of {node.value.bit_length()} bits"
            if _size(node) > MAX_STRING_BYTES:
                return f"line {node.lineno} holds a text of {_size(node)} bytes: {PASTED}"
            total += _size(node)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            if id(node) in counted:
                continue
            within = list(ast.walk(node))
            counted.update(map(id, within))  # whatever lies inside counts with its whole
            elements = sum(isinstance(inner, ast.Constant) for inner in within)
            if elements > MAX_ELEMENTS:
                return f"line {node.lineno} holds a table of {elements} literals: {PASTED}"
    if total > MAX_LITERAL_BYTES:
        return f"its literals hold {total} bytes, more than {MAX_LITERAL_BYTES}: {PASTED}"
    return ""


def _written(source: str, tree: ast.Module, max_packed: int) -> str:
    """Return why what the interpreter passes over is too much: a program can read its own file."""
    prose = sum(map(_size, _docstrings(tree)))
    numbers, names = 0, set[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            prose += len(token.string.encode(errors="surrogatepass"))
        elif token.type == tokenize.NUMBER:
            numbers += 1
        elif token.type == tokenize.NAME:
            if len(token.string) > MAX_NAME_LENGTH:
                return (
                    f"line {token.start[0]} holds a name of {len(token.string)} letters: {PASTED}"
                )
            names.add(token.string)
    blanks = sum(len(line) - len(line.rstrip()) for line in source.splitlines())
    packed = len(zlib.compress(source.encode(errors="surrogatepass"), 9))
    for what, found, most in (
        ("comments and docstrings hold {} bytes", prose, MAX_PROSE_BYTES),
        ("names hold {} bytes", sum(len(name.encode()) for name in names), MAX_NAME_BYTES),
        ("numbers are {}", numbers, MAX_NUMBERS),
        ("line ends hold {} blanks", blanks, MAX_TRAILING_BLANKS),
        ("text packs into {} bytes", packed, max_packed),
    ):
        if found > most:
            return f"its {what.format(found)}, more than {most}: {PASTED}"
    return ""


def _size(node: ast.Constant) -> int:
    if isinstance(node.value, str):
        return len(node.value.encode(errors="surrogatepass"))
    return len(node.value) if isinstance(node.value, bytes) else 0


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, owners) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value
