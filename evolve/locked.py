"""What is locked with an evaluator: the files beside it that it imports, as text."""

import ast
from pathlib import Path

from population.errors import TaskError
from population.task import EvaluatorKind

PACKAGES = ("evaluate", "evolve", "mutate", "population")
PREPARE = "prepare.py"
"""The default task's evaluator, on which others may build: it holds what programs import."""


def text_of(locked: Path) -> str:
    """Return the evaluator's text, line ends included: it is hashed and written again."""
    try:
        return locked.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(
            f"the locked file {locked} cannot be read as text ({error}); save it as UTF-8"
        ) from error


def helpers_of(locked: Path, kind: EvaluatorKind, artifact: str, client: Path) -> dict[str, str]:
    """Return the files beside the evaluator that it imports, and those that they do, by name.

    A model task's without a `prepare.py` beside it means `client`, the default task's. A command
    that imports the artifact means the program that it scores. Of a recorded task nothing runs.

    Raises:
        TaskError: one has the name of a package of ours, which would be imported instead.
    """
    found: dict[str, str] = {}
    due = [] if kind is EvaluatorKind.RECORDED else [text_of(locked)]
    while due:
        for name in _imported(due.pop()):
            file = locked.with_name(f"{name}.py")
            if file.name == PREPARE and kind is EvaluatorKind.MODEL and not file.is_file():
                file = client
            if file.name == artifact and kind is EvaluatorKind.COMMAND:
                continue
            if file.is_file() and name in PACKAGES:
                raise TaskError(f"{file}: evolve has a package of that name; name it otherwise")
            if file.is_file() and file.name not in {locked.name, *found}:
                found[file.name] = text_of(file)
                due.append(found[file.name])
    return found


def _imported(source: str) -> list[str]:
    """Return the modules that a file imports, by the first part of their names."""
    try:
        nodes = list(ast.walk(ast.parse(source.removeprefix("\ufeff"))))
    except (SyntaxError, ValueError):
        return []  # its own import tells that, with the line
    plain = [one.name for node in nodes if isinstance(node, ast.Import) for one in node.names]
    parts = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [name.partition(".")[0] for name in plain + parts]
