"""From a hand-in to its score, in a jailed process of its own; the candidate is dead by now."""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from evaluate import wire
from evaluate.bounds import Bounds
from evaluate.diagnosis import diagnose, sentence
from evaluate.feeder import readable_data
from evaluate.sandbox import Jail
from evaluate.spec import TrialSpec
from evaluate.tail import TAIL_BYTES, Tail
from evaluate.training import jail_data, see_gone
from evaluate.tree import Tree, anonymous_bytes
from evaluate.warm import Warm
from population.errors import EvaluatorError, EvolveError
from population.individual import Failed, Measurement, Outcome, Scored, Stage
from population.task import PLACEHOLDERS, BudgetKind

FORWARD_S, FORWARD_SHARE = 0.3, 0.03
"""What a forward may take, in seconds or as a share of the budget, whichever is more."""
LOOK_S = 0.2
"""Between two looks at what a scorer uses, at most."""
SHOWN_CHARACTERS = 200
"""Of a command or of what it printed, where a failure quotes it."""
SCORE_UNITS = {
    "score_s": "s",
    "forwards": "1",
    "forward_s": "s",
    "detectable_nats": "nats/token",
    "parameters": "1",
    "flops_per_token": "1",
}
"""What a scorer measures."""


class ScorerError(EvolveError):
    """No hand-in can be scored on this machine: its evaluator or its data cannot be read."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Scores the hand-ins of one trial.

    Attributes:
        jail: like the candidate's, with another directory to write to.
        evaluator: this trial's trusted copy of the task's file, beside what that builds on.
        handed_in: the candidate's directory, which a scoring command may read.
    """

    spec: TrialSpec
    warm: Warm
    jail: Jail
    evaluator: Path
    handed_in: Path

    def model(self, graph: int, tensors: int) -> tuple[Outcome, list[Measurement], str]:
        """Score a graph and its tensors; returns the outcome, measurements and the log."""
        assert self.spec.data is not None
        rows = readable_data(self.spec.data, self.spec.request.shard)
        readable = (*self.jail.readable, str(self.evaluator.parent), *rows)
        spec = {
            "jail": jail_data(replace(self.jail, readable=readable)),
            "evaluator": str(self.evaluator),
            "data": self.spec.data,
            "shard": self.spec.request.shard,
            "device": self.spec.device,
            "max_tensor_bytes": self.spec.max_tensor_bytes,
            "forward_limit_s": forward_limit_s(self.spec),
        }
        ours, theirs = socket.socketpair()
        log_read, log_write = log_pipe()
        number = self.warm.fork("scorer", spec, [theirs.fileno(), graph, tensors, log_write])
        theirs.close()
        os.close(log_write)
        log = Tail(log_read)
        deadline = time.monotonic() + self.spec.limits.scoring_s
        watch = self._watch(number)
        try:
            answer = self._answer(ours, log, deadline, watch)
            if ready := answer is not None:
                known = answer.keys() & {"reason", "fault"}
                answer = answer if known else self._answer(ours, log, deadline, watch)
        finally:
            if number not in self.warm.exits:
                self.warm.kill(number)
            try:
                ended = see_gone(self.warm, number, self.spec)
            finally:
                log.drain()
                ours.close()
                os.close(log_read)
        if answer is not None and "fault" in answer:
            raise EvaluatorError(answer["fault"])
        if not ready:
            last = (log.text().strip().splitlines() or ["it printed nothing"])[-1]
            raise ScorerError(f"no hand-in can be scored on this machine: {last}")
        if answer is not None:
            return outcome_of(answer), _measured(answer), log.text()
        if time.monotonic() < deadline:
            return diagnose(Stage.SCORING, ended, log.text(), None), [], log.text()
        return self._late("the evaluation forward is too slow"), [], log.text()

    def _late(self, remedy: str) -> Failed:
        limit_s = self.spec.limits.scoring_s
        detail = f"could not be scored within {limit_s:g} s: {remedy}"
        return Failed(Stage.SCORING, "scoring_limit", detail)

    def _watch(self, number: int) -> Callable[[], dict[str, object] | None]:
        """Return a function that looks at the memory of a forked tree: an answer, once too much.

        The kernel's own limit is that of a process, and there is none on an accelerator's host.
        """
        bounds = Bounds(self.spec.limits, Path(self.jail.workdir))

        def look() -> dict[str, object] | None:
            self.warm.poll(0.0)
            if bounds.tree is None and number in self.warm.pids:
                shared = anonymous_bytes(self.warm.process.pid)
                bounds.tree = Tree(self.warm.pids[number], shared)
            passed = bounds.passed()
            return None if passed is None else dict(zip(("reason", "detail"), passed, strict=True))

        return look

    def _answer(
        self,
        ours: socket.socket,
        log: Tail,
        deadline: float,
        watch: Callable[[], dict[str, object] | None],
    ) -> dict[str, object] | None:
        while time.monotonic() < deadline:
            if passed := watch():
                return passed
            ready = wire.readable([ours, *([log.descriptor] if log.open else [])], LOOK_S)
            if log.descriptor in ready:
                log.drain()
            if ours in ready:
                try:
                    return wire.receive_event(ours)[0]
                except wire.ClosedError:
                    return None
        return None

    def command(self) -> tuple[Outcome, list[Measurement], str]:
        """Run the task's command over what the candidate left; its last line is JSON."""
        request = self.spec.request
        filled = sys.executable, self.evaluator, self.handed_in, request.shard, request.seed
        fill = dict(zip(PLACEHOLDERS, filled, strict=True))
        argv = [part.format_map(fill) for part in self.spec.command]
        readable = (*self.jail.readable, str(self.evaluator.parent), str(self.handed_in))
        out_read, out_write = log_pipe()
        log_read, log_write = log_pipe()
        spec = {"jail": jail_data(replace(self.jail, readable=readable)), "argv": argv}
        number = self.warm.fork("command", spec, [out_write, log_write])
        os.close(out_write)
        os.close(log_write)
        out, log = Tail(out_read), Tail(log_read)
        deadline = time.monotonic() + self.spec.limits.scoring_s
        watch, passed = self._watch(number), None
        while number not in self.warm.exits and time.monotonic() < deadline and not passed:
            sources = [self.warm.control, *(t.descriptor for t in (out, log) if t.open)]
            wire.readable(sources, LOOK_S)
            out.drain()
            log.drain()
            passed = watch()
        late = number not in self.warm.exits
        if late:
            self.warm.kill(number)
        try:
            ended = see_gone(self.warm, number, self.spec)
        finally:
            out.drain()
            log.drain()
            os.close(out_read)
            os.close(log_read)
        printed = "\n".join(text for tail in (out, log) if (text := tail.text().rstrip()))
        if late:
            return outcome_of(passed) if passed else self._late(self._slow_command()), [], printed
        if ended.code != 0:
            return diagnose(Stage.SCORING, ended, printed, None), [], printed
        return outcome_of(_last_json(out.text())), [], printed

    def _slow_command(self) -> str:
        named = _shown(" ".join(self.spec.command))
        return (
            f"the command {named} did not end; make it quicker, or raise `scoring_s` in task.toml"
        )


def forward_limit_s(spec: TrialSpec) -> float | None:
    """Return how long a forward may take, in seconds of the device; None where none is counted.

    The evaluation forward could train, too, on text that lies in a buffer: what it does costs no
    budget, so it may be no more than a small share of one. Budgets in steps or tokens bound no
    work.
    """
    if spec.budget.kind is not BudgetKind.SECONDS:
        return None
    devices = max(spec.cores, 1) if spec.device == "cpu" else 1
    return max(FORWARD_S, FORWARD_SHARE * spec.budget.amount) * devices


def log_pipe() -> tuple[int, int]:
    """Return (read, write) ends of a pipe whose reading end does not block."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    return read, write


def outcome_of(answer: dict[str, object]) -> Outcome:
    """Turn a scorer's answer into an outcome."""
    if "reason" in answer:
        detail = sentence(answer.get("detail", ""))
        return Failed(Stage.SCORING, sentence(answer["reason"])[:40], detail)
    value = answer.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        says = sentence(f"the score {value!r:.{SHOWN_CHARACTERS}} is not a finite number")
        return Failed(Stage.SCORING, "not_finite", says)
    return Scored(float(value))


def _is_finite(value: float) -> bool:
    return abs(value) <= sys.float_info.max  # JSON knows whole numbers that no float can hold


def self_reported(log: Tail, metric: str) -> Outcome:
    """Return what a program said of itself last: `METRIC: NUMBER` on a line of its own."""
    says = re.compile(rf"\s*{re.escape(metric)}\s*:\s*(\S+)\s*")
    for line in reversed(log.last_lines()):
        if match := says.fullmatch(line):
            with suppress(ValueError):
                return outcome_of({"value": float(match[1])})
    where = f"in the last {TAIL_BYTES >> 10} KiB of what it printed " if log.dropped else ""
    return Failed(
        Stage.SCORING,
        "no_score",
        f"no line {where}reads `{metric}: NUMBER`: print({metric!r} + ':', value) at the end",
    )


def _measured(answer: dict[str, object]) -> list[Measurement]:
    return [
        Measurement(name, float(value), unit)
        for name, unit in SCORE_UNITS.items()
        if isinstance(value := answer.get(name), int | float)
    ]


def _last_json(text: str) -> dict[str, object]:
    """Return what the last line of a scoring command says, or why that is no score."""
    last = (text.strip().splitlines() or [""])[-1].strip()
    try:
        answer = json.loads(last)
    except (ValueError, RecursionError):
        answer = None
    came = f"it was {_shown(last)}" if last else "it printed nothing"
    if isinstance(answer, dict) and answer:
        if not answer.keys().isdisjoint(("value", "reason")):
            return answer
        came = f"the key `value` is missing, what came has {_shown(', '.join(answer))}"
    says = f'the last line that the scoring command prints must be {{"value": NUMBER}}; {came}'
    return {"reason": "no_score", "detail": says}


def _shown(text: str) -> str:
    return f"`{text[:SHOWN_CHARACTERS]}`" + ("..." if len(text) > SHOWN_CHARACTERS else "")
