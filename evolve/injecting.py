"""`evolve inject`: a program that a person or an agent wrote, put into a run and followed there."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evolve.commands import Inject, to_json
from evolve.control import (
    attempt_name,
    largest_command,
    rejected_file,
    send,
    waiting_file,
)
from evolve.live import is_running, read_live
from evolve.printing import SELF_REPORTED, caveats
from evolve.reading import Reading
from evolve.steering import require_known
from evolve.text import call, number, one_line
from mutate.checks import Checks
from mutate.genome import fingerprint
from population.errors import RunError, TaskError
from population.limits import SearchConfig
from population.publishing import PUBLISHED

LOOK_S = 0.5
PATIENCE_S = 30.0
"""How long a run may seem to be over: one that starts tells nothing of itself until Ray has."""
MOST_ATTEMPTS = SearchConfig().contended_retries + 1
"""After so many disturbed evaluations the latest is taken as it is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an injected program, as far as it is published.

    Attributes:
        injection: name of the command; empty where nothing was sent.
        state: `refused`, `waiting` (for the driver), `taken` (in training or about to be),
            `scored` or `failed`.
        value: mean of its scores. gain: over its parent, above 0 is better.
        sigma: noise of one evaluation, None while unknown.
        unprotected: how many of its scores were made within reach of the validation data.
        disturbed: how many while others used the machine.
        reason: why it was refused, or stage, reason and detail of its failure.
        next: what happens now, or how to go on, in a sentence.
    """

    run: str
    state: str
    injection: str = ""
    running: bool = False
    individual: int | None = None
    metric: str = ""
    value: float | None = None
    gain: float | None = None
    sigma: float | None = None
    rank: int | None = None
    evaluations: int = 0
    quarantine: str = ""
    self_reported: bool = False
    unprotected: int = 0
    disturbed: int = 0
    reason: str = ""
    next: str = ""


def read_wish(file: Path, hypothesis: str, category: str, parent: int | None) -> Inject:
    """Return the wish to inject what a file holds.

    Raises:
        TaskError: the file cannot be read as text.
        RunError: hypothesis or category are not what they should be.
    """
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{file} cannot be read as a program ({error}); name a file") from error
    try:
        return Inject(source, hypothesis, category, parent)
    except ValueError as error:
        raise RunError(f"{file} cannot be put in: {error}") from error


def inject_program(folder: Path, wish: Inject, wait_s: float | None) -> Answer:
    """Check a program and leave it for the driver of the run in `folder`.

    Args:
        folder: of the run.
        wish: the program and what is said of it.
        wait_s: follow it for at most so long; None: do not wait.

    Raises:
        RunError: the run has no such parent.
        LineageError: it cannot be read.
        EvolveError: the task's folder or the control folder is at fault.
    """
    if wish.parent is not None:
        require_known(folder, wish.parent)
    with Reading(folder) as reading:
        reason = _refusal(reading, wish)
    if reason:
        return Answer(folder.name, "refused", running=_lives(folder), reason=reason, next=MEND)
    name = send(folder, wish)
    return look(folder, name) if wait_s is None else _follow(folder, name, wait_s)


MEND = "nothing was put in: mend the program and inject it again"


def _refusal(reading: Reading, wish: Inject) -> str:
    """Return why the driver would refuse it, as far as this can be told from outside."""
    checks = Checks.of(reading.task())
    if reason := checks.refusal(wish.source):
        return reason
    if len(to_json(wish).encode()) > largest_command(checks):
        return f"its command is longer than {largest_command(checks)} bytes"
    digest = fingerprint(wish.source, python=checks.python)
    twins = reading.query("SELECT min(id) FROM individual WHERE fingerprint = ?", [digest]).rows
    return f"it does the same as individual {twins[0][0]}" if twins[0][0] else ""


def look(folder: Path, name: str) -> Answer:
    """Return what became of the command `name` so far."""
    lives = _lives(folder)
    answer = Answer(folder.name, "waiting", name, lives, next=_promise(folder, lives))
    if waiting_file(folder, name).exists():
        return answer
    if (aside := rejected_file(folder, name)).exists():
        return replace(answer, state="refused", reason=f"it lies in {aside} now", next=MEND)
    with Reading(folder) as reading:
        return _published(reading, answer)


def _follow(folder: Path, name: str, wait_s: float) -> Answer:
    """Look again and again until the program has its outcome, the run is over or time is up."""
    begun = alive_at = time.monotonic()
    seen, answer = None, look(folder, name)
    while answer.state in ("waiting", "taken"):
        now = time.monotonic()
        alive_at = now if _lives(folder) else alive_at
        if now - begun >= wait_s or now - alive_at >= PATIENCE_S:
            return look(folder, name)
        time.sleep(min(LOOK_S, wait_s))
        # Reading costs the candidates' cores something: only where there is something new.
        state = waiting_file(folder, name).exists(), (folder / PUBLISHED).stat().st_mtime_ns
        if state != seen:
            seen, answer = state, look(folder, name)
    return answer


def _lives(folder: Path) -> bool:
    """Whether a driver searches: one that holds an exam takes no program."""
    live = read_live(folder / "live.json")
    return is_running(live) and not (live or {}).get("exam")


def _promise(folder: Path, lives: bool) -> str:
    live = read_live(folder / "live.json")
    if lives and live and live.get("paused"):
        return "the run is paused: `evolve resume` lets the driver take it"
    if lives:
        return "the driver takes it within a second and trains it before anything newly bred"
    why = "holds an exam now" if is_running(live) else "is not running"
    return f"the run {why}: {call('run', folder)} takes it first"


_PROPOSAL = """
    SELECT p.individual, p.refusal FROM attempt a JOIN proposal p ON p.id = a.proposal
    WHERE a.what = ? ORDER BY p.seq LIMIT 1
"""
_OUTCOME = """
    SELECT e.*, (SELECT sigma FROM selection ORDER BY seq DESC LIMIT 1) AS sigma,
        l.mean, l.rank, l.evaluations, l.quarantine, g.gain
    FROM evaluations e
    LEFT JOIN leaderboard l ON l.individual = e.individual
    LEFT JOIN gains g ON g.individual = e.individual
    WHERE e.individual = ? AND e.status IN ('scored', 'failed') ORDER BY e.evaluation
"""


def _published(reading: Reading, answer: Answer) -> Answer:
    found = reading.query(_PROPOSAL, [attempt_name(answer.injection)]).objects()
    if not found:
        return replace(answer, state="taken", next="the driver has it and will publish it soon")
    individual, refusal = found[0]["individual"], found[0]["refusal"]
    if individual is None:
        return replace(answer, state="refused", reason=refusal, next=MEND)
    answer = replace(
        answer,
        state="taken",
        individual=individual,
        metric=str(reading.run()["metric"]),
        next=f"it waits for a slot or trains; `evolve show {individual}` tells more",
    )
    ended = reading.query(_OUTCOME, [individual]).objects()
    if answer.running and not _is_settled(ended):
        return answer
    return _outcome(replace(answer, **reading.doubts_of([individual])[individual]), ended)


def _is_settled(ended: list[dict[str, Any]]) -> bool:
    """Tell whether an evaluation counts: disturbed ones are made again."""
    clean = [row for row in ended if not row["contended"] and row["stage"] != "infrastructure"]
    return bool(clean) or len(ended) >= MOST_ATTEMPTS


def _outcome(answer: Answer, ended: list[dict[str, Any]]) -> Answer:
    if not ended:
        return answer
    last = ended[-1]
    if last["mean"] is None:
        reason = f"failed in {last['stage']}, {last['reason']}: {last['detail']}"
        log = f"`evolve show {answer.individual}` prints its log"
        return replace(answer, state="failed", reason=reason, next=log)
    held = last["quarantine"] == "held"
    return replace(
        answer,
        state="scored",
        value=last["mean"],
        gain=last["gain"],
        sigma=last["sigma"] or None,
        rank=last["rank"],
        evaluations=last["evaluations"],
        quarantine=last["quarantine"],
        next=SELF_REPORTED if answer.self_reported else HELD if held else SCORED,
    )


SCORED = "one score is no claim: contenders are trained again, and `evolve export` holds the exam"
HELD = "too good to be taken at once: it neither breeds nor leads until fresh trainings agree"


def describe(answer: Answer) -> str:
    """Return an answer for people."""
    who = "" if answer.individual is None else f"#{answer.individual} "
    match answer.state:
        case "scored":
            head = f"{who}scored: {answer.metric} {number(answer.value, 6)}"
            facts = [f"rank {answer.rank}"]
            if answer.gain is not None:
                facts.append(f"{answer.gain:+.4f} on its parent")
            facts.append(f"noise of one evaluation {number(answer.sigma)}")
            line = f"{head}  ({', '.join(facts)})"
        case "refused":
            line = f"refused: {one_line(answer.reason, 300)}"
        case "failed":
            line = f"{who}{one_line(answer.reason, 300)}"
        case state:
            line = f"{who}{state}: {answer.injection}"
    doubts = asdict(answer) | {"self_reported": False}  # `next` tells that
    return "\n".join([line, *caveats(doubts), answer.next])
