"""The task's evaluator module: the one way in which this package reaches `prepare.py`."""

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import numpy.typing as npt

from population.errors import DataError, EvaluatorError, EvolveError
from population.task import EvaluatorKind, Task


class Settings(Protocol):
    """Sizes that belong to the prepared data."""

    sequence_length: int
    vocab_size: int
    evaluation_batch: int


class Evaluator(Protocol):
    """What a model task's module provides; docs/evaluators.md says what each part promises."""

    MINIMAL_PROGRAM: str

    def data_dir(self, source: str, cache: Path, scale: str = "cpu") -> Path: ...  # noqa: D102
    def prepare(  # noqa: D102
        self, source: str, cache: Path, progress: bool = True, scale: str = "cpu"
    ) -> Path: ...
    def data_sha256(self, directory: Path) -> str: ...  # noqa: D102
    def settings(self, directory: Path) -> Settings: ...  # noqa: D102
    def batch_source(  # noqa: D102
        self, directory: Path, seed: int
    ) -> Callable[[int], npt.NDArray[Any]]: ...
    def evaluation_rows(self, directory: Path, shard: str) -> npt.NDArray[Any]: ...  # noqa: D102
    def metric(  # noqa: D102
        self, log_probs: Callable[[Any], Any], directory: Path, shard: str
    ) -> float: ...


REQUIRED = [
    *Evaluator.__annotations__,
    *(name for name in vars(Evaluator) if not name.startswith("_")),
]


def load(path: Path) -> Evaluator:
    """Import an evaluator from its file, under a name of its own; it may import files beside it.

    Its folder comes first while it is imported, and last in this process from then on.

    Raises:
        EvaluatorError: the file cannot be imported or lacks a part of the contract.
    """
    name = "evolve_task_evaluator"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise EvaluatorError(f"{path} cannot be imported as a Python file: is it the evaluator?")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise EvaluatorError(
            f"the evaluator {path.name} does not import: {error}{_line(error, path)}; install it "
            "where evolve is installed, or put a file of that name beside the evaluator"
        ) from error
    except Exception as error:
        where = _line(error, path)
        raise EvaluatorError(
            f"the evaluator {path.name} does not import: {type(error).__name__}: {error}{where}"
        ) from error
    finally:
        sys.path.remove(str(path.parent))
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
    missing = [part for part in REQUIRED if not hasattr(module, part)]
    if missing:
        raise EvaluatorError(
            f"the evaluator {path.name} lacks {', '.join(missing)}: docs/evaluators.md says what a "
            "model task provides"
        )
    return cast(Evaluator, module)


def check_rows(part: str, rows: npt.NDArray[Any], settings: Settings, multiple: int = 1) -> None:
    """Refuse rows that are not what docs/evaluators.md promises of an evaluator's `part`.

    Raises:
        EvaluatorError: they are no (N, T + 1) tokens below V, N a multiple of `multiple`, not 0.
    """
    width, V = settings.sequence_length + 1, settings.vocab_size
    fits = rows.ndim == 2 and rows.shape[1] == width and rows.size and not len(rows) % multiple
    if not fits or rows.dtype.kind not in "ui":
        many = f"a multiple of {multiple}" if multiple > 1 else "at least one"
        raise EvaluatorError(
            f"`{part}` of the evaluator gave {rows.dtype} {rows.shape}; expected whole numbers "
            f"(N, T + 1) = (N, {width}), N {many}. Were its data prepared for other sizes?"
        )
    if not 0 <= rows.min() <= rows.max() < V:
        raise EvaluatorError(
            f"`{part}` of the evaluator gave tokens {rows.min()}..{rows.max()}; its vocabulary has "
            f"0..{V - 1}"
        )


@contextmanager
def calling(evaluator: Evaluator) -> Iterator[None]:
    """Raise what the module's code raises as an error of ours, told as a message everywhere.

    Raises:
        DataError: its own error of that name, or one of the system: of files, network, memory.
        EvaluatorError: any other, with the line.
    """
    try:
        yield
    except EvolveError:
        raise
    except (getattr(evaluator, "DataError", OSError), OSError, MemoryError) as error:
        raise DataError(str(error) or "the evaluator has too little memory") from error
    except Exception as error:
        path = Path(str(getattr(evaluator, "__file__", "")))
        raise EvaluatorError(raised(error, path)) from error


def raised(error: BaseException, path: Path) -> str:
    """Return what an evaluator's code raised, and where."""
    where = _line(error, path)
    return f"the evaluator {path.name} raised {type(error).__name__}: {error}{where}"


def _line(error: BaseException, path: Path) -> str:
    """Return the last line of the file that an error passed, in parentheses; empty for none."""
    passed = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
    return f" ({path.name}, line {passed[-1].lineno})" if passed else ""


def described(task: Task, data: Path | None) -> str:
    """Return what a model task's programs find in their data, for people and prompts.

    Empty without data, and of other tasks.

    Raises:
        EvaluatorError: as `load`, or its code fails.
        DataError: the prepared data is damaged.
    """
    if data is None or task.kind is not EvaluatorKind.MODEL:
        return ""
    evaluator = load(task.evaluator)
    describe: Callable[[Path], str] = getattr(evaluator, "describe", lambda _: "")
    with calling(evaluator):
        sizes, text = evaluator.settings(data), describe(data)
        return (
            f"T = {sizes.sequence_length}, V = {sizes.vocab_size}, "
            f"forwards of E = {sizes.evaluation_batch} rows are scored. {text}"
        ).strip()


def data_sha256(task: Task, data: Path | None) -> str:
    """Return the identity of a task's data, empty without data.

    Raises:
        EvaluatorError: as `load`, or its code fails.
        DataError: as `listing_sha256`.
    """
    if data is None:
        return ""
    if task.self_reported:
        return listing_sha256(data)
    evaluator = load(task.evaluator)
    with calling(evaluator):
        return evaluator.data_sha256(data)


def listing_sha256(data: Path) -> str:
    """Return the digest of the names and sizes of all files below a folder, or of one file.

    Not of what they hold: data that nobody prepared may be too much to read at each start.

    Raises:
        DataError: a part of it cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise error

    top, files = data.parent, [data]
    try:
        if not data.is_file():
            walk = os.walk(data, onerror=refuse)
            top, files = data, [Path(at, name) for at, _, names in walk for name in names]
        sizes = {str(file.relative_to(top)): file.lstat().st_size for file in files}
    except OSError as error:
        raise DataError(f"the data in {data} cannot be listed ({error}); mend that") from error
    told = "".join(f"{name}\0{size}\n" for name, size in sorted(sizes.items()))
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
