"""The three ways of `evolve export`: a file with evidence, a table, a git branch."""

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from evaluate.device import require_device
from evolve.composition import identity, pool
from evolve.config import RunConfig, configure
from evolve.control import forget_stale
from evolve.evidence import (
    EVIDENCE,
    Finalists,
    export,
    published_finalists,
)
from evolve.export import git_branch, results_tsv
from evolve.interrupts import INTERRUPTED
from evolve.invigilating import Invigilation
from evolve.live import Watch, ended_in_the_end, exam_line, is_running, read_live
from evolve.reading import Reading
from evolve.taskdata import cache_folder, prepared
from evolve.text import call
from evolve.verdict import verdict
from evolve.writing import write_output
from mutate.checks import Checks
from population.errors import RunError
from population.lineage import DuckLineage
from population.ports import Abandoned
from population.state import State
from population.task import Task


def export_file(folder: Path, output: Path, pairs: int, said: Mapping[str, Any]) -> int:
    """Write the best program with its evidence, after an exam unless `pairs` is 0.

    Without an exam it works while the run searches, too.

    Args:
        folder: of the run.
        output: folder for program and evidence.
        pairs: of the exam, at most.
        said: how the exam trains (cache, address, require_sandbox), None where nothing was said.

    Returns:
        0, 1 where an exam was held and claims nothing, or 130 where it was stopped.

    Raises:
        EvolveError: the run has scored nothing, is held by its driver while an exam is asked, or
            holds one.
    """
    _require_no_exam(folder)
    with Reading(folder) as reading:
        task = reading.task()
        finalists = None if pairs else published_finalists(reading)
    if finalists is None:
        config = configure({"runs": folder.parent, "name": folder.name, **said})
        finalists = _examined(config, task, pairs)
        if finalists is None:
            return INTERRUPTED
    with Reading(folder) as reading:
        evidence = export(reading, task, finalists, output)
    print(verdict(evidence))
    print(f"{output / task.artifact}\n{output / EVIDENCE}")
    print(f"reproduce with: {evidence['reproduce']}")
    if evidence["reproduce_note"]:
        print(f"                ({evidence['reproduce_note']})")
    return 1 if pairs and not (evidence["claim"] or {}).get("better") else 0


def _require_no_exam(folder: Path) -> None:
    """Raise RunError while an exam is held: its driver writes the evidence, and half tells less."""
    live = read_live(folder / "live.json")
    if live is not None and is_running(live) and (exam := live.get("exam")):
        raise RunError(
            f"run {folder.name} holds an exam now ({exam_line(exam)}) and exports when that ends: "
            f"wait for it, or end it with {call('stop', folder)} and export again"
        )


def scored_itself(folder: Path) -> bool:
    """Whether the programs of a run report their own scores: then nothing is examined."""
    with Reading(folder) as reading:
        return reading.self_reported()


def _examined(config: RunConfig, task: Task, pairs: int) -> Finalists | None:
    """Hold the exam of a run that has ended; return None where it was stopped."""
    if config.address is None:
        require_device(task.device)
    data = prepared(task, cache_folder(config.cache))
    known = identity(config, task, data)
    with DuckLineage.open(config.folder, known, task.evaluator) as lineage:
        forget_stale(config.folder, Checks.of(task))
        state = State(task.direction)
        for record in lineage.replay():
            state.apply(record)
        for cut_off in map(Abandoned, list(state.jobs.in_flight)):
            lineage.record(cut_off)
            state.apply(cut_off)
        with closing(pool(config, task, data)) as trainers:
            watch = Watch(None, trainers.slots, time.time())
            with ended_in_the_end(config.folder / "live.json", watch):
                return Invigilation(config.folder, task, lineage, watch).hold(
                    state, trainers, pairs
                )


def export_tsv(folder: Path, output: Path | None) -> int:
    """Write `results.tsv` to a file, or to stdout."""
    with Reading(folder) as reading:
        write_output(output, results_tsv(reading))
    return 0


def export_git(folder: Path, output: Path) -> int:
    """Write the best individual's line of descent as a branch of the repository at `output`."""
    with Reading(folder) as reading:
        branch = git_branch(reading, reading.leader(), output)
    print(f"branch {branch} in {output}")
    return 0
