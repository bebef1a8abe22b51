"""What `evolve run` prints around a search: what it is about, and what it has found."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from evaluate.awaited import waiting_folder
from evaluate.device import device_name, utilisation_share
from evaluate.evaluator import load
from evaluate.sandbox import probe, protects_data
from evolve.composition import Trainers, local_slots
from evolve.config import RunConfig
from evolve.console import best_line
from evolve.estimate import BESIDE_S, COMPILED_S, newcomer_s
from evolve.inheriting import brought_line
from evolve.live import Snapshot, Watch
from evolve.printing import SELF_REPORTED, leaderboard
from evolve.reading import Reading
from evolve.taskdata import candidates_read
from evolve.taskfile import format_budget
from evolve.text import call_of, count, number, one_line
from population.ports import Brought
from population.task import Task

LONG_S = 45.0
"""Of a budget that is so long it is told how long it takes."""
_DETECTABLE = (
    "SELECT max(m.value) FROM measurement m JOIN evaluations e USING (evaluation) "
    "WHERE e.individual = ? AND e.value IS NOT NULL AND m.name = 'detectable_nats'"
)

_ANSWERS = (
    "SELECT count(*), count(*) FILTER (stop_reason <> ''), max_by(outcome, (proposal, ordinal)) "
    "FROM calls WHERE stop_reason <> '' OR outcome NOT LIKE 'stopped:%'"  # those were not begun
)


def announce(
    config: RunConfig, task: Task, data: Path | None, trainers: Trainers, brought: Brought | None
) -> None:
    """Print what a run is about, where it trains, until when, and what is missing for that."""
    stop = [
        f"{value:g} {name}"
        for name in ("evaluations", "generations", "hours")
        if (value := getattr(config, name)) is not None
    ]
    print(f"run      {config.folder}  (task {task.name}, {task.metric}: {task.direction})")
    if task.trains:
        _announce_machine(config, task, trainers)
        prepared_in = "" if task.self_reported else f" in {data}"
        print(f"data     {f'{task.data}{prepared_in}' if data else 'none'}")
        if task.self_reported:
            print(f"score    {SELF_REPORTED}")
    else:
        print(f"results  from outside, {trainers.slots} programs wait at once: `evolve record`")
        print(f"         {waiting_folder(config.folder)}")
    if brought is not None:
        print(f"from     {brought_line(brought)}")
    print(f"until    {' or '.join(stop) or 'interrupted'}; Ctrl-C ends it cleanly")
    if task.trains:
        _announce_sandbox(config, task, data)
    print(flush=True)


def _announce_machine(config: RunConfig, task: Task, trainers: Trainers) -> None:
    budget = format_budget(task.budget)
    kind = f"{task.device}: {trainers.kind or device_name(task.device)}"
    print(f"machine  {kind}, {trainers.slots} at once, budget {budget} each")
    if config.address is None and (config.slots or 0) > (room := local_slots(task)):
        print(
            f"slots    {config.slots} at once, but this machine has room for {room}: they slow one "
            "another down. A run keeps its number; a new one takes it from --slots"
        )
    seconds = newcomer_s(task, asks=bool(config.breeding.models))
    if seconds is not None and task.budget.amount >= LONG_S:
        beside = BESIDE_S[task.scale] + COMPILED_S[task.scale]
        first = (task.budget.amount + beside) / 60
        rate = 3600 / seconds * trainers.slots
        print(f"time     the first score in about {first:.0f} minutes, then {rate:.0f} an hour")


def _announce_sandbox(config: RunConfig, task: Task, data: Path | None) -> None:
    here = config.address is None  # else other machines train, whose cards are not looked at
    layers = probe(task.device, candidates_read(task), computes=here)
    missing = [layer for layer in layers if not layer.active]
    if missing:
        names = ", ".join(layer.name for layer in missing)
        print(f"sandbox  not on this machine: {names}; `evolve doctor` explains")
    if task.device == "cuda" and config.address is None and utilisation_share("cuda") is None:
        print("start-up nothing here tells when the card computes: before the clock it is free")
    secret = data and not task.self_reported
    if secret and not protects_data([layer.name for layer in layers if layer.active]):
        print("sandbox  candidates can read validation data here: every score is marked so")


def summarise(config: RunConfig, task: Task, data: Path | None, watch: Watch) -> None:
    """Print how a search has ended: counts, leaders, the best program, how to go on."""
    snapshot = watch.snapshot
    print(
        f"\n{snapshot.counted} evaluations, {snapshot.failed} failed, "
        f"{snapshot.individuals} individuals, generation {snapshot.generation}, "
        f"noise of one evaluation {number(snapshot.sigma)}"
    )
    if snapshot.best is not None:
        with Reading(config.folder) as reading:
            print(leaderboard(reading.top(8), reading.doubts()))
            for line in (*_leak_lines(reading, task, data, snapshot), *silence_lines(reading)):
                print(line)
        print(f"best {task.metric} {best_line(snapshot.best)}")
        print(f"     {config.folder / 'best' / task.artifact}")
    print(f"continue with: {call_of('run', config.folder)}", flush=True)


def silence_lines(reading: Reading) -> list[str]:
    """Tell where language models were asked and none has ever answered; nothing elsewhere."""
    ((calls, answered, last),) = reading.query(_ANSWERS).rows
    if answered or not calls:
        return []
    asked = count(calls, "call")
    return [f"no language model has ever answered in this run: {asked}, {one_line(last, 200)}"]


def _leak_lines(
    reading: Reading, task: Task, data: Path | None, snapshot: Snapshot
) -> Iterator[str]:
    """Tell what could have been missed in the best program, where the metric says what it is."""
    if data is None or snapshot.best is None:
        return
    ((nats,),) = reading.query(_DETECTABLE, [snapshot.best.individual]).rows
    if nats is None:
        return
    from evaluate.worth import compared, worth_of_a_nat  # torch, which not every task needs

    with TemporaryDirectory() as folder:  # the file may have been edited since
        locked = Path(folder) / task.evaluator.name
        locked.write_bytes(task.evaluator_source.encode())
        nat = worth_of_a_nat(load(locked), data, task.shards[0])
    if nat is not None:
        yield f"probes: {compared(nats, nat, snapshot.sigma, task.metric)}"
