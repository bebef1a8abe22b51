"""One call of `evolve run`: a search started or continued, followed, its best program kept."""

import queue
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from evaluate.device import device_name, require_device
from evaluate.outside import Outside
from evolve.announcing import announce, summarise
from evolve.breeding import Breeders, breeders
from evolve.briefing import place_of
from evolve.composition import Trainers, founders, identity, local_slots, pool, search_config
from evolve.config import RunConfig, reserved
from evolve.console import Display, display
from evolve.control import Control, forget_stale
from evolve.estimate import breeding_lines
from evolve.evidence import best_founder, export, keep_apart
from evolve.inheriting import born, brought_founders, brought_to
from evolve.interrupts import INTERRUPTED, interruptible
from evolve.invigilating import Invigilation
from evolve.live import Watch, ended_in_the_end, leader, write_live
from evolve.reading import Reading
from evolve.taskdata import cache_folder, out_of_reach, prepared
from evolve.verdict import verdict
from evolve.writing import write_text
from mutate.checks import Checks
from mutate.spending import Spent
from population.errors import EvolveError, PoolError, RunError, TaskError
from population.history import Program
from population.individual import Individual, IndividualId
from population.lineage import DuckLineage
from population.orders import Reply
from population.ports import Record
from population.search import Search
from population.state import State
from population.task import Task


class Follower:
    """What has to happen after each record: display, `live.json`, best file, publication."""

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        lineage: DuckLineage,
        watch: Watch,
        shown: Display,
        bred_by: Breeders,
    ) -> None:
        self._folder = config.folder
        self._bred_by = bred_by
        self._best_file = config.folder / "best" / task.artifact
        self.lineage = lineage
        self._watch = watch
        self._display = shown
        self._best: IndividualId | None = None
        self.state: State | None = None  # as of the latest record
        self.has_followed = False
        self._program = task.program
        text = task.program.read_text("utf-8")
        self._kept = Program(text, lineage.keep_program(text))
        self._show(None)  # from now on `live.json` is this driver's

    def program(self) -> Program:
        """Keep program.md as it reads now and return it; the last version while it is away."""
        with suppress(OSError, UnicodeDecodeError):
            text = self._program.read_text("utf-8")
            if text != self._kept.text:
                self._kept = Program(text, self.lineage.keep_program(text))
        return self._kept

    def observe(self, record: Record, state: State) -> None:
        """Follow one record; called by the search."""
        self.state, self.has_followed = state, True
        self._watch.see(record, state, time.time())
        if self._bred_by.purse is not None:
            self._watch.spend(self._bred_by.purse.spent.usd, self._bred_by.purse.limit_usd)
        self._show(self._watch.line)
        if self._watch.turn is not None:
            self.tell(self._watch.turn)
        self.keep_best(state)
        self.publish_if_due()

    def publish_if_due(self) -> None:
        """Publish what is new, at most as often as publishing may cost."""
        ranks = self.state.ranks if self.state is not None else None
        self.lineage.publish_if_due(time.monotonic(), ranks)

    def pass_on(self) -> None:
        """Show what the operators have to say, once each."""
        while True:
            try:
                notice = self._bred_by.notices.get_nowait()
            except queue.Empty:
                return
            self.tell(notice)

    def count_calls(self) -> None:
        """Show how many calls of language models are under way, whenever that changes."""
        desk = self._bred_by.desk
        if desk is not None and self._watch.note_calls(desk.under_way, time.time()):
            self._show(None)

    def keep_best(self, state: State) -> None:
        """Write the best program to `best/` whenever another one leads, apart from old evidence."""
        champion = leader(state)
        if champion is None or champion.id == self._best:
            return
        keep_apart(self._best_file.parent, champion.genome.sha256)
        write_text(self._best_file, champion.genome.source)
        self._best = champion.id

    def end(self, state: State | None, exam: int | None = None) -> None:
        """Bring everything up to date for the last time.

        Args:
            state: after the last record, None where there was none.
            exam: in so many pairs at most follows; None: none does.
        """
        if state is not None:
            self._watch.look(state, time.time())
            self.keep_best(state)
        self._watch.end(time.time())
        if state is not None and exam is not None:
            champion, founder = leader(state), best_founder(state)
            if champion and founder and champion.id != founder.id:  # else nobody is compared
                self._watch.examine(champion.id, founder.id, exam, state, time.time())
        self._show(None)
        self.lineage.publish(state.ranks() if state is not None else None)

    def answer(self, command: str, reply: Reply) -> None:
        """Show what came of a command, also to whoever has given it."""
        self._watch.answer(command, reply)
        self._show(reply.says)

    def hold(self, paused: bool) -> None:
        """Let nothing new be asked of a language model while the run is paused."""
        self._bred_by.hold(paused)
        self._watch.pause(paused)

    def tell(self, line: str) -> None:
        """Show a line about something that is no record."""
        self._display.show(self._watch.snapshot, line)

    def _show(self, line: str | None) -> None:
        write_live(self._folder / "live.json", self._watch.snapshot)
        self._display.show(self._watch.snapshot, line)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a search has ended.

    Attributes:
        state: after its last record, None where there was none.
        stopped: by Ctrl-C or `evolve stop`. error: what has ended it before a limit, None where a
            limit did.
    """

    state: State | None
    stopped: bool
    error: EvolveError | None = None

    @property
    def examinable(self) -> State | None:
        """The state, where all that was begun has ended and someone leads: an exam may be held."""
        state = self.state
        if self.stopped or isinstance(self.error, PoolError) or state is None:
            return None
        return None if state.jobs.in_flight or leader(state) is None else state

    @property
    def code(self) -> int:
        """The exit code of the command, except where a machine has to be mended."""
        if self.stopped:
            return INTERRUPTED
        return 1 if self.error is not None or self.examinable is None else 0


def run(config: RunConfig, unnamed: bool = False) -> int:
    """Start or continue a run and return the exit code of the command.

    Args:
        config: of the run.
        unnamed: its name is only the next free one, which another call may take meanwhile.

    Raises:
        EvolveError: the run cannot be started or continued, or this machine cannot go on training.
    """
    task = config.load_task()
    if config.address is None:
        require_device(task.device)
    if config.address is None and config.slots is None:
        config = replace(config, slots=local_slots(task))
    data = prepared(task, cache_folder(config.cache))
    read = data if task.self_reported else None
    out_of_reach(config.folder, "name another folder with --runs", read)
    breeders(config.breeding, task, Spent()).require_usable()  # before a run is born of it
    founders(task)  # nor is one born of what is no program
    if not unnamed:
        return _driven(config, task, data)
    with reserved(config, task) as own:
        return _driven(own, task, data)


def _driven(config: RunConfig, task: Task, data: Path | None) -> int:
    """Search in a run's own folder, and return the exit code of the command."""
    known = identity(config, task, data)
    with born(config, task, known) as lineage:
        forget_stale(config.folder, Checks.of(task))
        brought = brought_to(lineage)
        individuals = [*founders(task), *brought_founders(brought, known.program_sha256)]
        if task.trains:
            print("starting Ray ...", flush=True)
        with closing(pool(config, task, data)) as trainers:
            place = place_of(task, data, trainers.kind or device_name(task.device))
            bred_by = breeders(config.breeding, task, Spent(*lineage.spent()), place)
            if bred_by.desk is not None:
                bred_by.desk.remember(lineage.dearest())
            announce(config, task, data, trainers, brought)
            print(breeding_lines(config, task, bred_by, individuals, trainers.slots), flush=True)
            watch = Watch(
                config.evaluations,
                trainers.slots,
                time.time(),
                self_reported=task.self_reported,
            )
            with ended_in_the_end(config.folder / "live.json", watch):
                metric = task.metric + " (self-reported)" * task.self_reported
                with display(metric, config.plain) as shown:
                    follower = Follower(config, task, lineage, watch, shown, bred_by)
                    ending = _search(config, task, trainers, individuals, follower, bred_by)
                summarise(config, task, data, watch)
                if isinstance(ending.error, PoolError) and not ending.stopped:
                    raise ending.error
                stopped = ending.examinable is not None and not _exported(
                    config, task, lineage, trainers, ending.examinable, watch
                )
    return INTERRUPTED if stopped else ending.code


def _search(
    config: RunConfig,
    task: Task,
    trainers: Trainers,
    individuals: list[Individual],
    follower: Follower,
    bred_by: Breeders,
) -> Ending:
    """Run the search and return how it has ended; says why where no limit has ended it."""
    stopped, ending = False, Ending(None, False)
    checks = Checks.of(task)
    control = Control(config.folder, checks, follower.tell, follower.answer, follower.hold)
    if isinstance(trainers, Outside):
        trainers.tell = follower.tell
    with interruptible() as interrupted:

        def stop_now() -> bool:
            nonlocal stopped
            follower.publish_if_due()
            follower.pass_on()
            follower.count_calls()
            stopped = interrupted() or control.stopped
            return stopped

        search = Search(
            config=search_config(config, task),
            direction=task.direction,
            lineage=follower.lineage,
            evaluation=trainers,
            portfolio=bred_by.portfolio,
            founders=individuals,
            shards=task.shards,
            observer=follower.observe,
            program=follower.program,
            on_end=bred_by.ask_no_more,
            on_stop=bred_by.give_up,
            injections=control,
            steering=control,
        )
        try:
            follower.state = search.run(stop_now)
            ending = Ending(follower.state, stopped or interrupted())
        except (TaskError, RunError, PoolError) as error:
            ending = Ending(follower.state, stopped or interrupted(), error)
        finally:
            bred_by.give_up()
            follower.pass_on()
            if isinstance(trainers, Outside):
                trainers.tell = print  # the display ends
            examined = ending.examinable is not None and not task.self_reported
            follower.end(follower.state, config.pairs if examined else None)
        if ending.code == 0 and not follower.has_followed:
            follower.tell("its limits lie behind this run: nothing to do; raise them to go on")
        if isinstance(ending.error, TaskError | RunError):  # a PoolError ends the command
            print(f"error: {ending.error}", file=sys.stderr)
        return replace(ending, stopped=ending.stopped or interrupted())


def _exported(
    config: RunConfig,
    task: Task,
    lineage: DuckLineage,
    trainers: Trainers,
    state: State,
    watch: Watch,
) -> bool:
    """Hold the exam and export, where that was asked for; return False where it was stopped."""
    if config.pairs is None:
        return True
    print()
    finalists = Invigilation(config.folder, task, lineage, watch).hold(
        state, trainers, config.pairs
    )
    if finalists is None:
        return False
    with Reading(config.folder) as reading:
        print(verdict(export(reading, task, finalists, config.folder / "best")))
    return True
