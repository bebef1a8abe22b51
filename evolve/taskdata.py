"""Where a task's data lies, and that no candidate reads what it must not."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluate.evaluator import calling, load
from evaluate.namespaces import SHARED_MEMORY
from evaluate.sandbox import exposed
from population.errors import DataError, SandboxError
from population.task import EvaluatorKind, Task


def cache_folder(given: Path | None) -> Path:
    """Return where prepared data lies: as given, else `EVOLVE_CACHE`, else a user cache folder."""
    named = given or Path(os.environ.get("EVOLVE_CACHE") or "~/.cache/evolve-train")
    return named.expanduser().resolve()


def data_folder(task: Task, cache: Path) -> Path | None:
    """Return where the task's data lies, prepared or not; None for a task without data."""
    if task.data is None or task.kind is EvaluatorKind.COMMAND:
        return None
    if task.self_reported:
        return Path(task.data)
    evaluator = load(task.evaluator)
    with calling(evaluator):
        return evaluator.data_dir(task.data, cache, **_sized(task))


def candidates_read(task: Task) -> tuple[str, ...]:
    """Return the paths that candidates read themselves: the data of a task that they score."""
    return (task.data,) if task.self_reported and task.data else ()


def prepared(task: Task, cache: Path) -> Path | None:
    """Prepare the task's data where it is missing and return its folder; None without data.

    Data that programs read themselves is taken as it lies there.

    Raises:
        DataError: the source is unusable, the download fails, the disk is full.
        SandboxError: every candidate could read the source or what is prepared, or more than the
            data that it shall read.
    """
    if task.data is None or task.kind is EvaluatorKind.COMMAND:
        return None
    if task.self_reported:
        return _readable(task, Path(task.data), cache)
    out_of_reach(cache, "name another folder with --cache or EVOLVE_CACHE")
    for source in (Path(task.data), *_links(Path(task.data))):
        if source.exists():
            out_of_reach(source, "move the text elsewhere")
    if (mirror := os.environ.get("EVOLVE_MIRROR")) and Path(mirror).exists():
        out_of_reach(Path(mirror), "name another folder in EVOLVE_MIRROR")
    evaluator = load(task.evaluator)
    with calling(evaluator):
        return evaluator.prepare(task.data, cache, **_sized(task))


def prepared_before(task: Task, cache: Path) -> Path | None:
    """Return the folder of a model task's data if an earlier call has prepared it, else None."""
    if task.data is None or task.kind is not EvaluatorKind.MODEL:
        return None
    data = data_folder(task, cache)
    assert data is not None
    return data if (data / "train").is_dir() else None


def _sized(task: Task) -> dict[str, Any]:
    """Return how an evaluator is told the scale: one without a GPU's need not know the word."""
    return {} if task.scale == "cpu" else {"scale": task.scale}


def _readable(task: Task, data: Path, cache: Path) -> Path:
    """Return data that programs read themselves, once nothing else lies in it."""
    named = "name the file or folder that holds the data in `[data] source` or with --data"
    if not data.exists():
        raise DataError(f"the data of {task.name} is to lie in {data}, where nothing is: {named}")
    hidden = Path(SHARED_MEMORY)
    if task.device != "cpu" and data.is_relative_to(hidden):
        raise DataError(f"{hidden} is not that of a candidate on {task.device}: move {data}")
    besides = {
        "the task": task.root,
        "your home": Path.home(),
        "temporary files": Path(tempfile.gettempdir()),
        "what other tasks have prepared": cache,
        "all processes": Path("/proc/self"),
    }
    for what, place in besides.items():
        if place.resolve().is_relative_to(data):
            raise SandboxError(f"{data} holds {what}, too, which no candidate may read: {named}")
    return data


def _links(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that are links: what they lead to is read as data."""
    for root, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(root, name)).is_symlink())


def out_of_reach(folder: Path, remedy: str, data: Path | None = None) -> None:
    """Raise SandboxError where every candidate can read a folder, whatever the sandbox holds.

    Args:
        folder: that is to be out of reach.
        remedy: what to do where it is not.
        data: that candidates read by themselves.
    """
    if data is not None and folder.resolve().is_relative_to(data):
        raise SandboxError(f"{folder} lies in {data}, which every candidate reads: {remedy}")
    if within := exposed(folder):
        raise SandboxError(f"{folder} lies in {within}, which every candidate can read: {remedy}")
