"""Feeds one candidate and keeps its clock.

The data is the clock: no training token leaves this process before the budget starts, none after
the bell, and the tensors must have arrived when the budget ends. They stay in the memory that was
lent, where the candidate could change them until it is dead: so whoever ends it judges the moment
of its death, too (`training.py`). The candidate's messages are untrusted: bounded, parsed, answered
or refused.
"""

import json
import math
import os
import socket
import struct
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluate import wire
from evaluate.clock import Clock
from evaluate.container import MAX_GRAPH_BYTES, HandInError, parse
from evaluate.curve import Curve
from evaluate.evaluator import calling, check_rows, load
from evaluate.pruning import HopelessError, Seen, check_losses, check_pace
from evaluate.sandbox import Jail
from population.individual import Pace

MAX_BATCH_TOKENS = 1 << 26
MAX_REQUEST_BYTES = 1 << 10
MAX_REGISTRATIONS = 16
MOST_LINES, MOST_LINE = 8, 1_000_000
"""Lines that may be told of, and the largest number of one."""
MAX_REPORTS, REPORTS_PER_BATCH = 1_000, 4
"""Losses that may be reported before the clock, and for each batch: reading them is work."""
MEMORY_BYTES = 2 << 30
"""For batches and for reading a graph; the training rows are mapped and come on top."""
UID_OFFSET = 1_000
LOOK_S = 0.5
"""A candidate that says nothing for so long is looked at."""
COPY_BYTES_PER_S, COPY_SHARE = 1e9, 0.5
"""What the copy of a hand-in is given, and the share of a budget that it may take at most."""


@dataclass(slots=True)
class Feeder:
    """Serves one candidate over `candidate`, tells `trial` what happens."""

    candidate: socket.socket
    trial: socket.socket
    spec: dict[str, Any]
    clock: Clock
    curve: Curve = field(default_factory=Curve)
    reports: int = 0
    not_finite: int = 0
    graph: int | None = None
    memory: int | None = None
    registrations: int = 0
    lent_bytes: int = 0
    forked_at: float = 0.0
    pace: Pace | None = None

    def serve(self) -> None:
        """Answer the candidate until it delivers, breaks a rule or goes away."""
        evaluator = load(Path(self.spec["evaluator"]))
        directory = Path(self.spec["data"])
        with calling(evaluator):
            settings = evaluator.settings(directory)
            source = evaluator.batch_source(directory, self.spec["seed"])
            T, V, E = settings.sequence_length, settings.vocab_size, settings.evaluation_batch
            width, ahead = T + 1, source(1)
            check_rows("batch_source", ahead, settings)
        hello = {
            "sequence_length": T,
            "vocab_size": V,
            "evaluation_batch": E,
            "device": self.spec["device"],
            "seed": self.spec["seed"],
            "budget": {"kind": self.clock.kind, "amount": self.clock.amount},
            "dtype": ahead.dtype.str,
        }
        wire.send_event(self.trial, event="ready")  # before it the candidate could do nothing here
        wire.send(self.candidate, b"H", json.dumps(hello).encode())
        ready: Any = None
        sent: float | None = None
        while True:
            while not wire.readable([self.candidate], LOOK_S):
                self._look()
            kind, payload, _ = wire.receive(self.candidate, _longest)
            if kind == b"B":
                rows = _rows(payload, width)
                if sent is not None and self.clock.bell is None:
                    self.clock.finish(time.monotonic() - sent)
                    self._look()
                if self._bell(rows * (width - 1)):
                    wire.send(self.candidate, b"E")
                    continue
                if ready is None or len(ready) != rows:
                    ready = source(rows)
                head = struct.pack("<d", self.clock.progress())
                self.clock.send(rows * (width - 1))
                wire.send(self.candidate, b"X", head + ready.tobytes())
                sent = time.monotonic()
                ready = source(rows)
            elif kind == b"L":
                self._report(payload)
            elif kind == b"G":
                self._register(payload)
            elif kind == b"D":
                self._delivered(_lines(payload))
                return
            else:
                raise HandInError(f"the candidate sent a message of unknown kind {kind!r}")

    def _bell(self, tokens: int) -> bool:
        """Start the clock at the first batch; return whether the bell rings before this one.

        Under a budget in tokens no batch goes beyond it: a giant last one would be a gift.
        """
        self._start()
        beyond = self.clock.kind == "tokens" and self.clock.tokens + tokens > self.clock.amount
        if beyond and not self.clock.steps:
            raise HandInError(
                f"the first batch has {tokens} tokens, more than the whole budget of "
                f"{self.clock.amount:g}: use a smaller batch"
            )
        if self.clock.bell is None and (beyond or self.clock.progress() >= 1.0):
            self.clock.bell = time.monotonic()
            wire.send_event(self.trial, event="bell")
        return self.clock.bell is not None

    def _start(self) -> None:
        """Start the clock, once, and bill the start-up that is not free."""
        if self.clock.started is not None:
            return
        startup_s = time.monotonic() - self.forked_at
        allowance = self.spec["startup_allowance_s"]
        billed_s = 0.0 if allowance is None else max(0.0, startup_s - allowance)
        if self.spec["waits"]:  # what was compiled is taken before any data is told
            wire.send_event(self.trial, event="asked")
            answer, _ = wire.receive_event(self.trial)
            billed_s += answer["billed_s"]
        if self.clock.kind == "seconds":
            self.clock.billed_s = billed_s
        self.clock.started = time.monotonic()
        wire.send_event(self.trial, event="started", startup_s=startup_s)

    def _look(self) -> None:
        """Raise HopelessError where too little training fits into the rest of the budget."""
        clock, left_s = self.clock, self.clock.left_s()
        if left_s is None or not clock.runs():
            return
        fastest_s = max(min(clock.recent_s), 1e-9) if clock.recent_s else None
        check_pace(
            Seen(
                spent_s=clock.elapsed_s(),
                left_s=left_s,
                finished=clock.finished,
                steps=clock.steps,
                tokens=clock.tokens,
                largest=clock.largest,
                fastest_s=fastest_s,
            ),
            self.pace,
        )

    def _report(self, payload: bytes) -> None:
        """Take a reported loss into the curve."""
        if len(payload) != 8:
            raise HandInError("a report is one float64")
        self.reports += 1
        if self.reports > MAX_REPORTS + REPORTS_PER_BATCH * self.clock.steps:
            raise HandInError(
                f"more than {MAX_REPORTS} losses and {REPORTS_PER_BATCH} for each batch were "
                "reported: report one for each step"
            )
        (loss,) = struct.unpack("<d", payload)
        if not math.isfinite(loss):
            self.not_finite += self.clock.runs()
            check_losses(self.not_finite)
            return
        self.not_finite = 0
        self.curve.add(self.clock.progress(), loss)

    def _register(self, payload: bytes) -> None:
        """Check a graph at once, so that a refusal costs no training, and lend the memory."""
        if self.clock.bell is not None:
            raise HandInError("the model was registered after the bell: register it before")
        self.registrations += 1
        if self.registrations > MAX_REGISTRATIONS:
            raise HandInError(f"models were registered more than {MAX_REGISTRATIONS} times")
        left = self.spec["max_tensor_bytes"] - self.lent_bytes
        try:
            container = parse(payload, max_tensor_bytes=left)
        except HandInError as error:
            self._refuse(str(error))
            return
        copy_s = container.size / COPY_BYTES_PER_S
        if self.clock.kind == "seconds" and copy_s > COPY_SHARE * self.clock.amount:
            self._refuse(
                f"the tensors have {container.size} bytes, which are given {copy_s:.1f} s to be "
                f"handed in, of a budget of {self.clock.amount:g} s: use a smaller model"
            )
            return
        for old in (self.graph, self.memory):
            if old is not None:
                os.close(old)
        self.graph = wire.anonymous_file("graph")
        _write_all(self.graph, payload)
        self.memory = wire.memory_to_lend("tensors", container.size)
        self.clock.copy_s = copy_s
        self.lent_bytes += container.size  # whoever keeps what was lent before still holds it
        answer = json.dumps({"bytes": container.size}).encode()
        wire.send(self.candidate, b"M", answer, [self.memory])
        wire.send_event(self.trial, event="registered", bytes=container.size)

    def _refuse(self, why: str) -> None:
        wire.send_event(self.trial, event="refused", detail=why)
        wire.send(self.candidate, b"R", why.encode(errors="backslashreplace"))

    def _delivered(self, lines: list[tuple[int, float]]) -> None:
        """Judge whether the tensors are in time, and pass on the memory that they lie in.

        Nothing is copied here: the candidate still runs, so whatever takes time lets it train on.
        """
        if self.graph is None or self.memory is None:
            raise HandInError("the model was delivered before it was registered")
        self._start()
        now, bell = time.monotonic(), self.clock.bell
        wire.send_event(
            self.trial,
            fds=[self.graph, self.memory],
            event="delivered",
            late=self.clock.late(),
            used=self.clock.used(),
            arrived=now,
            ends=self.clock.ends(),
            room_s=self.clock.room(),
            handin_s=0.0 if bell is None else now - bell,
            lines=lines,
            **self.account(),
        )

    def account(self) -> dict[str, Any]:
        """Return what the training has come to up to now."""
        return {
            "train_s": self.clock.elapsed_s(),
            "billed_s": self.clock.billed_s,
            "steps": self.clock.steps,
            "tokens": self.clock.tokens,
            "curve": self.curve.told(),
        }


def _longest(kind: bytes) -> int:
    """Return how many bytes a message of this kind may have."""
    return MAX_GRAPH_BYTES if kind == b"G" else MAX_REQUEST_BYTES


def _rows(payload: bytes, width: int) -> int:
    try:
        rows = json.loads(payload)["rows"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HandInError("a request for a batch was malformed") from error
    if type(rows) is not int or not rows >= 1 or rows * width > MAX_BATCH_TOKENS:
        raise HandInError(f"a batch of {rows!r} rows was asked for: 1 to {MAX_BATCH_TOKENS} tokens")
    return rows


def _lines(payload: bytes) -> list[tuple[int, float]]:
    """Return (line, share of the time) as a hand-in tells them, of which nothing has to be true."""
    try:
        told = {int(line): float(share) for line, share in json.loads(payload or b"{}")["lines"]}
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return []
    fits = len(told) <= MOST_LINES and all(0 < line <= MOST_LINE for line in told)
    return list(told.items()) if fits and all(0 <= one <= 1 for one in told.values()) else []


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def readable_data(data: str, part: str) -> tuple[str, ...]:
    """Return what of the prepared data can be read by whoever needs `train` or one shard."""
    files = (str(file) for file in Path(data).iterdir() if file.is_file())
    return (str(Path(data) / part), *files)


def feeder_jail(candidate: Jail, evaluator: Path, data: str, lent_bytes: int) -> Jail:
    """Return the jail of the process that feeds this candidate and reads what it sends.

    It can read the locked files, the training rows and the files that lie directly in the data's
    folder, but no shard; it writes nowhere but into the memory that it lends, and shares its uid
    with no candidate.
    """
    train = Path(data) / "train"
    mapped = sum(file.stat().st_size for file in train.rglob("*") if file.is_file())
    return replace(
        candidate,
        workdir="",
        readable=(str(evaluator.parent), *readable_data(data, "train")),
        cores=(),
        memory_bytes=MEMORY_BYTES + mapped,
        file_bytes=max(lent_bytes, MAX_GRAPH_BYTES),
        device="cpu",
        shared_bytes=0,
        uid=candidate.uid + UID_OFFSET,
        memfd=True,
    )


def main(spec: dict[str, Any], candidate: int, trial: int) -> None:
    """Run in a process of its own. Ends after the hand-in or the first broken rule."""
    clock = Clock(spec["budget"]["kind"], spec["budget"]["amount"], spec["budget"]["room_s"])
    feeder = Feeder(
        socket.socket(fileno=candidate),
        socket.socket(fileno=trial),
        spec,
        clock,
        forked_at=spec["forked_at"],
        pace=None if spec["pace"] is None else Pace(**spec["pace"]),
    )
    try:
        feeder.serve()
    except (HandInError, wire.OversizedError) as error:
        wire.send_event(feeder.trial, event="broken", detail=str(error))
    except HopelessError as error:
        wire.send_event(
            feeder.trial,
            event="hopeless",
            reason=error.reason,
            detail=str(error),
            saved_s=clock.left_s(),
            **feeder.account(),
        )
    except MemoryError:
        detail = "what it sent needs too much memory to be read"
        wire.send_event(feeder.trial, event="broken", detail=detail)
    except wire.ClosedError:
        started = clock.started is not None
        wire.send_event(feeder.trial, event="gone", started=started, rung=clock.bell is not None)
