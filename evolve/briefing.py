"""What of a task every prompt tells a language model."""

import re
from pathlib import Path

from evaluate.evaluator import described
from evolve.taskfile import format_budget
from mutate.prompt import Brief
from population.errors import TaskError
from population.task import Task

_ELSEWHERE = {"cpu": "On a GPU", "gpu": "On a processor"}
"""Headings of a contract whose sections do not concern programs of this size."""
_SECTION = re.compile(r"^(?=## )", re.MULTILINE)


def brief_of(task: Task, place: str = "") -> Brief:
    """Return what of the task every prompt tells.

    Args:
        task: of the run.
        place: where its programs run, as `place_of` tells it.

    Raises:
        TaskError: its contract cannot be read.
    """
    contract = ""
    if task.contract is not None:
        try:
            contract = task.contract.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"{task.contract} cannot be read ({error}); correct it") from error
    budget = format_budget(task.budget.whole) if task.trains else ""
    told = contract_for(contract, task.scale)
    return Brief(task.artifact, task.metric, task.direction, budget, told, task.kind, place)


def contract_for(contract: str, scale: str) -> str:
    """Return the contract without the section that is about machines of another size."""
    heading = f"## {_ELSEWHERE[scale]}"
    parts = _SECTION.split(contract)
    return "".join(part for part in parts if part.partition("\n")[0].strip() != heading)


def place_of(task: Task, data: Path | None, kind: str) -> str:
    """Return what a program finds where it runs: its share of the machine, sizes, the data.

    Args:
        task: of the run.
        data: what is prepared for it; None: nothing, or not yet.
        kind: name of the devices.
    """
    if not task.trains:
        return ""
    gpus = f"{task.gpus:g} GPU ({kind})" if task.gpus else "no GPU"
    cores = f"{task.cores} core" + "s" * (task.cores > 1)
    memory = f"{task.limits.memory_bytes / 2**30:.3g} GiB of the machine's memory"
    return f"Each program has {cores} of a processor, {memory} and {gpus}.\n{described(task, data)}"
