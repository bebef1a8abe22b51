"""The exam of a run while it is held: how far it is, for all to see, and who may end it."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from evolve.console import LINE_WIDTH
from evolve.control import Control
from evolve.evidence import Finalists, hold_exam
from evolve.interrupts import interruptible
from evolve.live import Watch, exam_line, write_live
from evolve.text import call, one_line
from mutate.checks import Checks
from population.claims import ERROR_BUDGET, error_share, fewest_pairs
from population.individual import IndividualId
from population.lineage import DuckLineage
from population.orders import Reply
from population.ports import Ended, Evaluation, Started
from population.state import State
from population.task import Task


class Invigilation:
    """Holds the exam of a run, tells of it in `live.json` and in lines, and listens for a stop.

    It is the `Invigilator` of that exam.

    Args:
        folder: of the run.
        task: of the run.
        lineage: stores what happens, and is published now and then.
        watch: keeps the snapshot.
    """

    def __init__(self, folder: Path, task: Task, lineage: DuckLineage, watch: Watch) -> None:
        self._folder = folder
        self._task = task
        self._lineage = lineage
        self._watch = watch
        self._control = Control(folder, Checks.of(task), self._tell, self._answer, None)
        self._interrupted: Callable[[], bool] = lambda: False
        self._said = ""

    def hold(self, state: State, evaluation: Evaluation, pairs: int) -> Finalists | None:
        """Hold the exam, which Ctrl-C and `evolve stop` end.

        Args:
            state: of the run.
            evaluation: trains and scores.
            pairs: at most.

        Returns:
            Whom it compared; None where it was stopped: then it has said how to go on.

        Raises:
            RunError: nothing is scored yet.
            PoolError, LineageError: from the exam.
        """
        if not self._task.self_reported:  # else none is held
            fewest = fewest_pairs(ERROR_BUDGET * error_share(1))
            few = f", which can claim nothing: ask for {fewest} or more" if pairs < fewest else ""
            print(
                f"exam: the best program against the best founder, at most {pairs} pairs{few} ...",
                flush=True,
            )
        with interruptible() as self._interrupted:
            found = hold_exam(state, self._lineage, evaluation, self._task, pairs, self)
            if not self.stopped:
                return found
        print(
            "exam: stopped; what is complete is kept. "
            f"{call('export', self._folder)} goes on with it; with --pairs 0 it exports what is "
            "known so far",
            flush=True,
        )
        return None

    @property
    def stopped(self) -> bool:
        """Whether Ctrl-C or `evolve stop` has asked the exam to end."""
        return self._interrupted() or self._control.stopped

    def begin(self, champion: IndividualId, founder: IndividualId, most: int, state: State) -> None:
        """Let `live.json` tell of the exam."""
        self._watch.examine(champion, founder, most, state, time.time())
        self._show()

    def observe(self, record: Started | Ended, state: State) -> None:
        """Bring `live.json` up to the record, print each pair that has ended, publish if due."""
        self._watch.see(record, state, time.time())
        self._show()
        if self._watch.turn is not None:
            self._tell(self._watch.turn)
        self._lineage.publish_if_due(time.monotonic(), state.ranks)

    def _show(self) -> None:
        write_live(self._folder / "live.json", self._watch.snapshot)
        exam = self._watch.snapshot.exam
        if exam is not None and (line := exam_line(asdict(exam))) != self._said:
            self._said = line
            print(line, flush=True)

    def _tell(self, line: str) -> None:
        print(one_line(line, LINE_WIDTH), flush=True)

    def _answer(self, command: str, reply: Reply) -> None:
        self._watch.answer(command, reply)
        self._show()
