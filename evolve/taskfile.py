"""Reads a task folder: `task.toml` and the files that it names become a validated Task."""

import re
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Any

from evaluate.device import accelerator
from evolve.locked import PREPARE, helpers_of, text_of
from evolve.tomlfile import Table
from population.errors import TaskError
from population.task import (
    PLACEHOLDERS,
    Budget,
    BudgetKind,
    Direction,
    EvaluatorKind,
    Limits,
    Task,
)

EFFORTS = ("low", "medium", "high", "xhigh", "max")
SHARDS = ("selection", "confirmation", "exam")
REPOSITORY = Path(__file__).resolve().parent.parent
_BUDGET = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*(s|seconds?|steps?|tokens?)", re.IGNORECASE)


def find_task() -> Path:
    """Return the current folder if it holds a task, else the repository's root.

    Raises:
        TaskError: neither does.
    """
    for folder in (Path.cwd(), REPOSITORY):
        if (folder / "task.toml").is_file():
            return folder
    raise TaskError(f"no task.toml in {Path.cwd()}; name a task folder with --task")


def parse_budget(text: str, budget: Budget) -> Budget:
    """Return `budget` with the kind and amount that `text` names: `10s`, `200steps`, `1e6tokens`.

    `2s,10s` names a rung, too: newcomers train 2 s, the best of them 10 s.

    Raises:
        TaskError: the text names neither, or a rung of another kind or not below the budget.
    """
    first, comma, last = text.rpartition(",")
    whole = _amount(last, budget)
    if not comma:
        return whole
    short = _amount(first, budget)
    if short.kind is not whole.kind or not short.amount < whole.amount:
        raise TaskError(
            f"--budget {text}: the first training must be shorter than the second and of the same "
            "kind, such as 2s,10s"
        )
    return replace(whole, rung=short.amount)


def _amount(text: str, budget: Budget) -> Budget:
    match = _BUDGET.fullmatch(text.strip())
    try:
        amount = float(match[1]) if match else 0.0
    except ValueError:
        amount = 0.0
    if match is None or not 0 < amount < float("inf"):
        raise TaskError(
            "--budget must be like 10s, 200steps or 1e6tokens, or 2s,10s with a short training "
            f"first; got {text!r}"
        )
    kind = next(kind for kind in BudgetKind if kind.value.startswith(match[2].lower()))
    wall_limit_s = budget.wall_limit_s
    if kind is BudgetKind.SECONDS:
        wall_limit_s = max(wall_limit_s, amount + 60.0)
    return replace(budget, kind=kind, amount=amount, wall_limit_s=wall_limit_s, rung=None)


def format_budget(budget: Budget) -> str:
    """Return kind, amount and rung as `parse_budget` reads them."""
    unit = "s" if budget.kind is BudgetKind.SECONDS else budget.kind.value
    rung = "" if budget.rung is None else f"{budget.rung:.12g}{unit},"
    return f"{rung}{budget.amount:.12g}{unit}"


def scale_of(device: str) -> str:
    """Return the name of the table of `task.toml` that a device is described by."""
    return "cpu" if device == "cpu" else "gpu"


def usual_device(folder: Path) -> str:
    """Return where a task trains unless it is told: an accelerator that it knows, if there is one.

    Raises:
        TaskError: as `load_task`.
    """
    known = Table.load(folder.resolve() / "task.toml").has("gpu")
    return accelerator() if known else "cpu"


def load_task(
    folder: Path, budget: str | None = None, data: str | None = None, device: str = "cpu"
) -> Task:
    """Read and validate a task folder.

    Args:
        folder: holds `task.toml` and the files that it names.
        budget: in place of the file's, as `parse_budget` reads it.
        data: in place of the file's source; a path is one of the current folder, not of the task's.
        device: where it will train; chooses the table `[cpu]` or `[gpu]`, whose `seeds` and `data`
            take the place of the task's.

    Raises:
        TaskError: naming file, key, expectation and what came.
    """
    folder = folder.resolve()
    top = Table.load(folder / "task.toml")
    scale = scale_of(device)
    if not top.has(scale) and (scale != "cpu" or top.has("gpu")):
        raise TaskError(
            f"{folder / 'task.toml'} has no table [{scale}], so {top.text('name')} does not train "
            f"on {device}: write one, or name another --device"
        )
    machine = top.table(scale)
    evaluator = top.table("evaluator")
    source = top.table("data")
    _llm(top.table("llm"))
    kind = EvaluatorKind(evaluator.choice("kind", tuple(EvaluatorKind)))
    reported = kind is EvaluatorKind.REPORTED
    fed = (kind is EvaluatorKind.MODEL or reported) and source.has("source")
    usual = source.text("source") if fed else ""
    usual = machine.text("data", usual) if machine.has("data") and fed else usual
    anchored = _path if reported else _anchored
    named = anchored(data, Path.cwd()) if data else anchored(usual, folder) if usual else None
    if kind is EvaluatorKind.MODEL and named is None:
        source.text("source")  # raises: it is missing
    mentions = top.texts("seeds")
    locked = evaluator.path("file", evaluator.text("file"))
    if kind is EvaluatorKind.RECORDED:
        _check_recorded(top, budget, data)
    helpers = helpers_of(locked, kind, _artifact(top), REPOSITORY / PREPARE)
    beside = kind in (EvaluatorKind.MODEL, EvaluatorKind.REPORTED)
    if beside and locked.name == _artifact(top):
        raise evaluator.wrong("file", "named otherwise than the artifact beside it", locked.name)
    if _artifact(top) in helpers:
        programs = f"a file that imports no {_artifact(top)}, as every program is called"
        raise evaluator.wrong("file", programs, locked.name)
    task = Task(
        name=top.text("name"),
        root=folder,
        artifact=_artifact(top),
        metric=top.text("metric"),
        direction=Direction(top.choice("direction", tuple(Direction))),
        kind=kind,
        evaluator=locked,
        evaluator_source=text_of(locked),
        helpers=tuple(helpers.items()),
        program=top.path("program", top.text("program")),
        seeds=tuple(top.path("seeds", seed) for seed in machine.texts("seeds", mentions)),
        budget=_budget(machine.table("budget")),
        limits=_limits(machine),
        command=_command(evaluator) if kind is EvaluatorKind.COMMAND else (),
        shards=SHARDS if reported else _shards(top),  # it reports on whatever it likes
        contract=_contract(top, helpers),
        data=named,
        device=device,
        scale=scale,
        cores=machine.whole("cores", 1),
        gpus=machine.positive("gpus", 1.0) if scale == "gpu" else 0.0,
    )
    _check_other(top, "cpu" if scale == "gpu" else "gpu")
    for table in (top, machine, evaluator, source):
        table.close()
    _check_seeds(task)
    if budget:
        task = replace(task, budget=parse_budget(budget, task.budget))
        least = task.budget.rung or task.budget.amount
        if task.budget.kind is BudgetKind.SECONDS and least <= task.budget.room_s:
            raise TaskError(
                f"--budget {budget} is not above the {task.budget.room_s:g} s that lie between the "
                "bell and the hand-in; give more, or lower `room_s` in task.toml"
            )
    scored = "reports its own score" if reported else "is scored by a command"
    if kind is not EvaluatorKind.MODEL and task.budget.kind is not BudgetKind.SECONDS:
        raise TaskError(f"{task.name} {scored}: its budget must be in seconds")
    if kind is not EvaluatorKind.MODEL and task.budget.rung is not None:
        raise TaskError(
            f"{task.name} {scored} and knows no shorter schedule: give its budget one amount, and "
            "no `rung` in task.toml"
        )
    return task


def _check_recorded(top: Table, budget: str | None, data: str | None) -> None:
    """Refuse what only a program that runs here has."""
    for key in ("cpu", "gpu", "data"):
        if top.has(key):
            raise top.wrong(key, "left out where results are recorded: nothing runs here", "it")
    if budget or data:
        option = f"--budget {budget}" if budget else f"--data {data}"
        raise TaskError(f"{option}: nothing of {top.text('name')} runs here; leave it out")


def conditions(task: Task) -> dict[str, Any]:
    """Return what of a task file decides scores, by the names that it has there, as plain data.

    Evaluator and data are left to their hashes; seeds, program, contract and the longest source
    say what is proposed and not what it is worth.
    """
    budget, limits = task.budget, task.limits
    of_machine = {
        "budget": format_budget(budget),
        "budget.room_s": budget.room_s,
        "cores": task.cores,
        "gpus": task.gpus,
        "memory": limits.memory_bytes,
        "disk": limits.disk_bytes,
        "startup_s": limits.startup_s,
        "scoring_s": limits.scoring_s,
        "processes": limits.processes,
        "file": limits.file_bytes,
        "log": limits.log_bytes,
    }
    if budget.kind is not BudgetKind.SECONDS:  # whose clock ends a training by itself
        of_machine["budget.wall_limit_s"] = budget.wall_limit_s
    of_task = {
        "evaluator.kind": str(task.kind),
        "evaluator.command": list(task.command),
        "shards": list(task.shards),
    }
    if not task.trains:
        return of_task
    return of_task | {f"{task.scale}.{name}": value for name, value in of_machine.items()}


def _contract(top: Table, helpers: dict[str, str]) -> Path | None:
    """Return the contract that a task names, else that of the default task's client."""
    if top.has("contract"):
        return top.path("contract", top.text("contract"))
    ours = REPOSITORY / "docs" / "contract.md"
    if PREPARE not in helpers or helpers[PREPARE] != text_of(REPOSITORY / PREPARE):
        return None
    return ours if ours.is_file() else None


def _check_other(top: Table, scale: str) -> None:
    """Validate the table of the machine that this is not: a typo must not wait for it."""
    machine = top.table(scale)
    _budget(machine.table("budget"))
    _limits(machine)
    machine.whole("cores", 1)
    if scale == "gpu":
        machine.positive("gpus", 1.0)
    for key in ("seeds", "data"):
        machine.has(key)
    machine.close()


def load_llm(folder: Path) -> dict[str, Any]:
    """Return what the `[llm]` table of a task says, by the names of `Breeding`'s fields.

    Raises:
        TaskError: as `load_task`.
    """
    return _llm(Table.load(folder.resolve() / "task.toml").table("llm"))


def _llm(table: Table) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if table.has("models"):
        said["models"] = table.texts("models")
    if table.has("effort"):
        said["effort"] = table.choice("effort", EFFORTS)
    if table.has("cost"):
        said["cost_usd"] = table.positive("cost", 0.0)
    if table.has("tokens"):
        said["tokens"] = table.whole("tokens", 1)
    table.close()
    return said


def _anchored(source: str, folder: Path) -> str:
    """Return a path, told by its slash or dot, as an absolute one; a name stays a name."""
    return str((folder / source).resolve()) if "/" in source or "." in source else source


def _path(source: str, folder: Path) -> str:
    """Return what is always a path as an absolute one."""
    return str((folder / Path(source).expanduser()).resolve())


def _artifact(top: Table) -> str:
    name = top.text("artifact")
    if Path(name).name != name or not name.endswith(".py"):
        raise top.wrong("artifact", "the name of a Python file, without a folder", name)
    return name


def _command(evaluator: Table) -> tuple[str, ...]:
    """Return the scoring command; each of its arguments can be filled in."""
    command = evaluator.texts("command")
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    for argument in command:
        if unknown := _unknown_placeholder(argument):
            raise evaluator.wrong(
                "command",
                f"arguments with no placeholders but {known} (a literal brace is doubled: {{{{ or "
                f"}}}}), so without {unknown}",
                argument,
            )
    return command


def _unknown_placeholder(argument: str) -> str | None:
    """Return the first part of an argument that nothing fills in, None where there is none."""
    try:
        parts = list(Formatter().parse(argument))
    except ValueError:
        return "a single brace"
    for _, name, wanted, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or wanted or conversion):
            asked = (f"!{conversion}" if conversion else "") + (f":{wanted}" if wanted else "")
            return f"{{{name}{asked}}}"
    return None


def _shards(top: Table) -> tuple[str, str, str]:
    shards = top.texts("shards", SHARDS)
    if len(set(shards)) != 3:
        raise top.wrong("shards", "three different names", list(shards))
    return shards[0], shards[1], shards[2]


def _budget(table: Table) -> Budget:
    usual = Budget()
    kind = BudgetKind(table.choice("kind", tuple(BudgetKind), usual.kind))
    amount = table.positive("amount", usual.amount)
    longest = max(usual.wall_limit_s, amount + 60.0 if kind is BudgetKind.SECONDS else 0.0)
    budget = Budget(
        kind=kind,
        amount=amount,
        room_s=table.positive("room_s", usual.room_s),
        wall_limit_s=table.positive("wall_limit_s", longest),
        rung=table.positive("rung", amount) if table.has("rung") else None,
    )
    table.close()
    least = budget.room_s if kind is BudgetKind.SECONDS else 0.0
    if budget.rung is not None and not least < budget.rung < amount:
        raise table.wrong("rung", f"between {least:g} and {amount:g}", budget.rung)
    if kind is BudgetKind.SECONDS and budget.wall_limit_s <= amount:
        raise table.wrong("wall_limit_s", f"above the budget of {amount:g} s", budget.wall_limit_s)
    if kind is BudgetKind.SECONDS and budget.room_s >= amount:
        raise table.wrong("room_s", f"below the budget of {amount:g} s", budget.room_s)
    return budget


def _limits(machine: Table) -> Limits:
    usual = Limits()
    return Limits(
        memory_bytes=machine.size("memory", usual.memory_bytes),
        disk_bytes=machine.size("disk", usual.disk_bytes),
        startup_s=machine.positive("startup_s", usual.startup_s),
        scoring_s=machine.positive("scoring_s", usual.scoring_s),
        processes=machine.whole("processes", usual.processes),
        file_bytes=machine.size("file", usual.file_bytes),
        log_bytes=machine.size("log", usual.log_bytes),
        source_bytes=machine.size("source", usual.source_bytes),
    )


def _check_seeds(task: Task) -> None:
    """Founders must be readable text: a founder that fails later is a result, this is a typo."""
    for seed in task.seeds:
        try:
            text = seed.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"seed {seed} cannot be read as text ({error}); correct it") from error
        if len(text.encode()) > task.limits.source_bytes:
            raise TaskError(
                f"seed {seed} has {len(text.encode())} bytes; the task allows "
                f"{task.limits.source_bytes}; shorten it or raise `{task.scale}.source`"
            )
