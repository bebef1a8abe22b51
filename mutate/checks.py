"""Static checks: what a program must pass before it costs a device. Pure, in milliseconds."""

import ast
import warnings
from dataclasses import dataclass

MAX_STRING = 2_000
MAX_ELEMENTS = 256
MAX_LITERAL_BYTES = 16_000


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

    @property
    def python(self) -> bool:
        """Whether the artifact is a Python program."""
        return self.artifact.endswith(".py")

    def refusal(self, source: str) -> str:
        """Return why the program is refused, in a sentence; empty when it passes."""
        size = len(source.encode())
        if size > self.source_bytes:
            return f"the program has {size} bytes, more than {self.source_bytes}"
        if not source.strip():
            return "the program is empty"
        if not self.python:
            return ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
                compile(tree, self.artifact, "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            return f"it does not parse: {error}" + (f" (line {line})" if line else "")
        return _pasted(tree) or self._missing_call(tree)

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
    """Return why its literal data is too much: knowledge is learned, not pasted."""
    docstrings = {id(node) for node in _docstrings(tree)}
    total = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            size = _size(node.value)
            if isinstance(node.value, int) and node.value.bit_length() > 256:
                return f"line {node.lineno} holds an integer of {node.value.bit_length()} bits"
            if isinstance(node.value, str | bytes) and size > MAX_STRING:
                return f"line {node.lineno} holds a text of {size} characters: learn, do not paste"
            total += size
        elements = len(getattr(node, "elts", None) or getattr(node, "keys", None) or [])
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict) and elements > MAX_ELEMENTS:
            return f"line {node.lineno} holds a table of {elements} elements: learn, do not paste"
    if total > MAX_LITERAL_BYTES:
        return f"its literals hold {total} bytes, more than {MAX_LITERAL_BYTES}"
    return ""


def _size(value: object) -> int:
    """Return about how many bytes a literal can teach."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        return (value.bit_length() + 7) // 8
    return 8 if isinstance(value, float | complex) else 0


def _docstrings(tree: ast.Module) -> list[ast.Constant]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, owners) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                found.append(first.value)
    return found
