"""Runs one candidate until it hands in or fails; nothing of it lives afterwards."""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluate import wire
from evaluate.bounds import Bounds
from evaluate.diagnosis import diagnose, sentence
from evaluate.feeder import feeder_jail
from evaluate.gauges import Gauges, account
from evaluate.sandbox import Jail
from evaluate.spec import TrialSpec
from evaluate.startup import Computing
from evaluate.tail import Tail
from evaluate.tree import Tree, anonymous_bytes
from evaluate.warm import Exit, Warm
from population.errors import EvaluatorError, EvolveError, SandboxError
from population.individual import Failed, Measurement, Pace, Stage
from population.task import BudgetKind, EvaluatorKind

KILL_PATIENCE_S = 60.0
FEEDER_ENDS = frozenset({"delivered", "hopeless", "broken", "gone", "closed", "unfit"})
"""Events after which a feeder tells no more."""
GRACE_S = 2.0
"""Wall clock beyond the budget after which a candidate that is still silent is ended."""
DEATH_S, DEATH_SHARE = 0.25, 0.01
"""How long after its end, in seconds and as a share of the training, a candidate that handed in may
be dead at the latest, since it can write into what it handed in until then. The larger one holds;
honest ones are dead 0.05 to 0.1 s after they handed in, most of which is their memory's return."""
DEATH_ON_A_DEVICE_S = 1.0
"""The former where a driver has to give an accelerator's memory back."""


class TreeSurvivedError(EvolveError):
    """A killed process tree is still alive: this machine is not safe to go on with."""


class FeederError(EvolveError):
    """No candidate can be fed on this machine: its evaluator or its data cannot be read."""


@dataclass(slots=True)
class Training:
    """The state of one candidate's run. `events` fills from the feeder.

    `held` are the layers of the sandbox that the candidate was in, known afterwards; `on_start`
    is called when the first batch was asked for and nothing was told yet.
    """

    spec: TrialSpec
    warm: Warm
    jail: Jail
    evaluator: Path
    log: Tail
    startup_allowance_s: float | None
    pace: Pace | None = None
    began: float = 0.0
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)
    failure: Failed | None = None
    exit: Exit | None = None
    held: tuple[str, ...] = ()
    wall_s: float = 0.0
    on_start: Callable[[], object] | None = None
    gauges: Gauges = field(init=False)
    bounds: Bounds = field(init=False)
    computing: Computing = field(init=False)

    def __post_init__(self) -> None:
        self.gauges = Gauges(self.spec.device, self.jail.cores)
        self.computing = Computing(self.spec.device)
        self.bounds = Bounds(self.spec.limits, Path(self.jail.workdir))

    def run(self, log: int) -> Failed | None:
        """Train the candidate; afterwards its process tree is gone. Returns None on a hand-in.

        Args:
            log: the end of the log's pipe that the candidate writes to; closed here.
        """
        pairs: list[socket.socket] = []
        self.began = time.monotonic()
        self.gauges.begin()
        forked: list[int] = []
        feed: socket.socket | None = None
        connection: list[int] = []
        unready = False
        if self.spec.kind is EvaluatorKind.MODEL:
            pairs = [*socket.socketpair(), *socket.socketpair()]
            ours, theirs, feed, feeder_end = pairs
            ends = [theirs.fileno(), feeder_end.fileno()]
            forked.append(self.warm.fork("feeder", self._feeder_spec(), ends))
            connection = [ours.fileno()]
        spec = {
            "jail": jail_data(self.jail),
            "artifact": self.spec.artifact,
            "seed": self.spec.request.seed,
        }
        told_read, told_write = os.pipe()
        candidate = self.warm.fork("candidate", spec, [*connection, log, told_write])
        forked.append(candidate)
        os.close(log)
        os.close(told_write)
        for end in pairs:
            if end is not feed:
                end.close()
        try:
            if feed is not None and self.computing.device != "cpu":
                self.computing.watch()
            self._watch(candidate, feed)
            if "closed" in self.events and "ready" not in self.events:
                unready = self.warm.wait(forked[0], 1.0) is not None
        finally:
            self.computing.end()
            ended = self.events.keys() & {"closed"}
            self._end(forked)
            self.wall_s = time.monotonic() - self.began
            self.exit = self.warm.exits.get(candidate)
            with os.fdopen(told_read) as told:
                self.held = tuple(told.read().split())
            if self.exit is not None:
                self.gauges.end(self.wall_s, self._own_s(forked))
            if feed is not None:
                self._read_events(feed, 0.0)
                feed.close()
            if not ended:
                self.events.pop("closed", None)  # it was we who ended it
        self._check_machine(unready)
        return self._judge()

    def _check_machine(self, unready: bool) -> None:
        """Raise EvolveError where what went wrong happened before any of the candidate's code.

        Args:
            unready: the feeder ended by itself before it was ready.
        """
        if self.events.get("unfit", {}).get("fault"):
            raise EvaluatorError(self.events["unfit"]["detail"])
        if "unfit" in self.events:
            raise FeederError(f"no candidate can be fed here: {self.events['unfit']['detail']}")
        if unready:
            raise FeederError("the feeder ended before it was ready; its error is in Ray's logs")
        if not self.held:
            last = (self.log.text().strip().splitlines() or ["it printed nothing"])[-1]
            raise SandboxError(f"the candidate could not be jailed: {last}")

    def _own_s(self, forked: list[int]) -> float:
        """Return the seconds of a processor that the candidate and its feeder took.

        What the feeder did for it counts as its own, though perhaps not on these cores: who makes
        it work would look disturbed otherwise, and be given another try.
        """
        assert self.exit is not None
        exits = [self.warm.exits[number] for number in forked if number in self.warm.exits]
        fed_s = sum(one.cpu_s for one in exits if one is not self.exit)
        return self.bounds.cpu_s(self.exit.cpu_s) + fed_s

    def _feeder_spec(self) -> dict[str, Any]:
        budget = self.spec.budget
        lent_bytes = self.spec.max_tensor_bytes
        jail = feeder_jail(self.jail, self.evaluator, str(self.spec.data), lent_bytes)
        return {
            "jail": jail_data(jail),
            "evaluator": str(self.evaluator),
            "data": self.spec.data,
            "device": self.spec.device,
            "seed": self.spec.request.seed,
            "forked_at": self.began,
            "budget": {"kind": str(budget.kind), "amount": budget.amount, "room_s": budget.room_s},
            "startup_allowance_s": self.startup_allowance_s,
            "max_tensor_bytes": lent_bytes,
            "pace": None if self.pace is None else asdict(self.pace),
            "waits": self.on_start is not None or self.computing.device != "cpu",
        }

    def _watch(self, candidate: int, feed: socket.socket | None) -> None:
        """Wait for the hand-in, the candidate's end or the first limit."""
        while self.failure is None:
            sources: list[Any] = [self.warm.control]
            if self.log.open:
                sources.append(self.log.descriptor)
            if feed is not None and not self._feeder_done():
                sources.append(feed)
            ready = wire.readable(sources, 0.1)
            if self.log.descriptor in ready:
                self.log.drain()
            if feed in ready and feed is not None:
                self._read_events(feed, 0.0)
            self.warm.poll(0.0)
            if candidate in self.warm.exits:
                if feed is not None and not self._feeder_done():
                    self._read_events(feed, 1.0)
                    self._answer_start(feed)  # it ended at once, and its hand-in waits for that
                    self._read_events(feed, 1.0)
                return
            if not self.events.keys().isdisjoint(FEEDER_ENDS - {"gone"}):
                return
            if self.bounds.tree is None and candidate in self.warm.pids:
                shared = anonymous_bytes(self.warm.process.pid)
                self.bounds.tree = Tree(self.warm.pids[candidate], shared)
            self.failure = self._limit()
            self._answer_start(feed)
            if "started" in self.events:
                self.gauges.look_at_device()

    def _answer_start(self, feed: socket.socket | None) -> None:
        """Call `on_start` while the feeder holds the first batch back, then let it begin."""
        if feed is None or self.events.pop("asked", None) is None:
            return
        if self.on_start is not None:
            self.on_start()
        wire.send_event(feed, billed_s=self.computing.billed_s())  # the copy took a moment, too

    def _feeder_done(self) -> bool:
        return not self.events.keys().isdisjoint(FEEDER_ENDS)

    def _read_events(self, feed: socket.socket, timeout_s: float) -> None:
        while not self._feeder_done() and wire.readable([feed], timeout_s):
            try:
                event, fds = wire.receive_event(feed, max_fds=2)
            except (wire.ClosedError, wire.OversizedError):
                self.events["closed"] = {}
                return
            self.descriptors += fds
            event["at"] = time.monotonic()
            self.events[event["event"]] = event
            if event["event"] == "registered":  # whatever was refused before, it has found a way
                self.events.pop("refused", None)

    def _limit(self) -> Failed | None:
        """Return which limit is passed now, None while all hold."""
        limits, budget, now = self.spec.limits, self.spec.budget, time.monotonic()
        if self.log.total > limits.log_bytes:
            return Failed(self._stage(), "log_limit", f"printed more than {limits.log_bytes} bytes")
        if passed := self.bounds.passed():
            return Failed(self._stage(), *passed)
        if self.spec.kind is not EvaluatorKind.MODEL:
            if now - self.began > budget.amount:
                return Failed(
                    Stage.TRAINING, "timeout", f"did not end within its {budget.amount:g} s"
                )
            return None
        started = self.events.get("started")
        if started is None:
            if now - self.began > limits.startup_s:
                return Failed(
                    Stage.STARTUP,
                    "startup_limit",
                    f"asked for no batch within {limits.startup_s:g} s: shorten what comes before "
                    "run.batches()",
                )
            return None
        wall = budget.wall_limit_s
        if budget.kind is BudgetKind.SECONDS:
            wall = budget.amount + GRACE_S
        if now - started["at"] > wall:
            return self._late()
        return None

    def _late(self) -> Failed:
        if "bell" in self.events:
            return Failed(
                Stage.HANDIN,
                "late",
                "the bell rang and nothing arrived until its time was over: call "
                "run.deliver(model) right after the loop",
            )
        return Failed(
            Stage.TRAINING,
            "hang",
            "asked for no further batch until its time was over: a step takes too long (use a "
            "smaller batch) or the program waits for something",
        )

    def _stage(self) -> Stage:
        if "bell" in self.events:
            return Stage.HANDIN
        batchless = self.spec.kind is not EvaluatorKind.MODEL  # such a budget runs from the start
        return Stage.TRAINING if batchless or "started" in self.events else Stage.STARTUP

    def _end(self, forked: list[int]) -> None:
        """Kill what is left, the candidate first, and see it gone."""
        for number in reversed(forked):
            if number not in self.warm.exits:
                self.warm.kill(number)
        for number in forked:
            see_gone(self.warm, number, self.spec)
        self.log.drain()

    def _judge(self) -> Failed | None:
        # SIGTERM is ours; a guard that takes it sees its tree die, however early it comes.
        if self.exit is not None and self.exit.code < 0 and self.exit.code != -signal.SIGTERM:
            return Failed(
                self._stage(),
                "guard_killed",
                f"the process that guards it was ended by signal {-self.exit.code}: nobody saw "
                "its tree die, so nothing that it left counts",
            )
        failed = self.failure or self._ended_badly()
        if failed is not None:
            return failed
        assert self.exit is not None
        cores = max(len(self.jail.cores), 1)
        passed = self.bounds.cpu(self.exit.cpu_s, cores, self.wall_s) or self.bounds.left()
        return None if passed is None else Failed(Stage.TRAINING, *passed)

    def _ended_badly(self) -> Failed | None:
        delivered = self.events.get("delivered")
        if delivered is not None:
            return self._arrived_late(delivered)
        if "hopeless" in self.events:
            hopeless = self.events["hopeless"]
            return Failed(Stage.TRAINING, hopeless["reason"], sentence(hopeless["detail"]))
        if "broken" in self.events:
            return Failed(self._stage(), "protocol", sentence(self.events["broken"]["detail"]))
        if "closed" in self.events:
            return Failed(
                self._stage(), "protocol", "what it sent ended the process that feeds candidates"
            )
        assert self.exit is not None
        if self.spec.kind is not EvaluatorKind.MODEL and self.exit.code == 0:
            return None
        return diagnose(self._stage(), self.exit, self.log.text(), self.events.get("refused"))

    def _arrived_late(self, delivered: dict[str, Any]) -> Failed | None:
        """Judge a hand-in by its arrival, and by the death of whoever could write into it still."""
        assert self.exit is not None
        if delivered["late"]:
            return Failed(Stage.HANDIN, "late", self._why_late(delivered))
        least_s = DEATH_S if self.spec.device == "cpu" else DEATH_ON_A_DEVICE_S
        patience_s = max(least_s, DEATH_SHARE * delivered["train_s"])
        if delivered["ends"] is None or self.exit.at <= delivered["ends"] + patience_s:
            return None
        return Failed(
            Stage.HANDIN,
            "late",
            f"it was dead {self.exit.at - delivered['ends']:.2f} s after its time was over, and "
            "could have changed until then what it had handed in: call run.deliver(model) right "
            "after the loop, and leave no processes at work",
        )

    def _why_late(self, delivered: dict[str, Any]) -> str:
        """Return why the tensors were late: start-up that was billed, or how the training ended."""
        budget, billed_s = self.spec.budget, delivered["billed_s"]
        arrived = f"the tensors arrived after {delivered['used']:.2f} of {budget.amount:g} "
        arrived += budget.kind
        if billed_s > 0.0:
            arrived += f", of which {billed_s:.2f} s were billed for start-up beyond what is free"
            if not delivered["steps"]:
                return f"{arrived}: shorten what comes before the first batch"
        return (
            f"{arrived}: the step in hand and the copy must fit into the "
            f"{delivered['room_s']:.2f} s after the bell; use a smaller batch or model"
        )

    def measurements(self) -> list[Measurement]:
        """Return what was measured about the training, whether it succeeded or not."""
        cpu_s = 0.0 if self.exit is None else self.bounds.cpu_s(self.exit.cpu_s)
        return self.gauges.measurements(self.events, self.exit, cpu_s, self.computing.device_s)

    def account(self) -> dict[str, Any]:
        """Return what the training came to as its feeder said; empty where it did not say."""
        return account(self.events)


def see_gone(warm: Warm, number: int, spec: TrialSpec) -> Exit:
    """Wait for a process that has ended or was killed, and return how it ended.

    Raises:
        TreeSurvivedError: it still lives.
    """
    ended = warm.wait(number, KILL_PATIENCE_S)
    if ended is None:
        raise TreeSurvivedError(
            f"a process of evaluation {spec.request.id} outlived SIGKILL by {KILL_PATIENCE_S:g} s: "
            "look for it with ps, then start the run again"
        )
    return ended


def jail_data(jail: Jail) -> dict[str, Any]:
    """Return a jail as plain data, for the way to the forked process."""
    return {name: getattr(jail, name) for name in jail.__slots__}
