"""The nouns: genome, individual, outcome, evaluation."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

IndividualId = NewType("IndividualId", int)
EvaluationId = NewType("EvaluationId", int)
ProposalId = NewType("ProposalId", int)


@dataclass(frozen=True, slots=True)
class Genome:
    """The source text of one artifact. Equal texts are equal genomes."""

    source: str

    @property
    def sha256(self) -> str:
        """Hex digest of the UTF-8 text: the name under which the lineage stores it."""
        return hashlib.sha256(self.source.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Change:
    """One edit that a proposal makes to its first parent.

    Attributes:
        diff: normalised unified diff. hypothesis: why it should help. category: what it touches,
            for example `constant`, `optimizer`, `attention`.
    """

    diff: str
    hypothesis: str
    category: str


@dataclass(frozen=True, slots=True)
class Individual:
    """A genome with its descent. Without a scored outcome it is a candidate.

    Attributes:
        id: counted from 1 in order of birth within a run; founders come first.
        parents: ids; the first is the one whose text was changed. Empty for a founder.
        operator: name of the variation, `founder` or `inject`.
        structure: digest of the syntax tree with its tunable constants blanked: individuals that
            share it differ in constants only.
        fingerprint: digest of the normalised syntax tree: layout and comments do not count.
        constants: the tunable constants that the text declares.
        proposal: the proposal that it came from; 0 for founders.
    """

    id: IndividualId
    genome: Genome
    parents: tuple[IndividualId, ...] = ()
    operator: str = "founder"
    name: str = ""
    structure: str = ""
    fingerprint: str = ""
    constants: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    proposal: ProposalId = ProposalId(0)
    program_sha256: str = ""


class Stage(StrEnum):
    """Where a candidate failed."""

    STARTUP = "startup"
    TRAINING = "training"
    HANDIN = "handin"
    SCORING = "scoring"
    INFRASTRUCTURE = "infrastructure"
    """Ours, not the candidate's: a lost node, a full disk. Such an evaluation is tried again."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A finished evaluation. `value` is the metric as the task's evaluator computed it."""

    value: float


KILLED = "killed"
"""`Failed.reason` of an evaluation that somebody has ended."""
EVALUATOR = "evaluator"
"""`Failed.reason` where the task's evaluator failed, which is no program's fault."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A candidate that earned no score; stored like a score.

    Attributes:
        reason: one word for tables, such as `crash`, `out_of_memory`, `late`, `not_finite`.
        detail: one sentence that names cause and remedy.
    """

    stage: Stage
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.stage} {self.reason}, {self.detail}"

    @property
    def by_hand(self) -> bool:
        """Whether somebody has ended it, so that nothing is known of the candidate."""
        return self.reason == KILLED


Outcome = Scored | Failed

LARGEST_SCORE = 1e100
"""In size. Means and squares of such scores are numbers still; of 1e200, no longer."""


def checked(outcome: Outcome) -> Outcome:
    """Return an outcome, as a failure where its score is no number that can be reckoned with."""
    if isinstance(outcome, Scored) and not abs(outcome.value) <= LARGEST_SCORE:  # NaN, too
        says = f"its score is {outcome.value}; none counts but numbers up to {LARGEST_SCORE:g}"
        return Failed(Stage.SCORING, "not_finite", says)
    return outcome


LINE, SHARE = "line_", "share"
"""Name and unit of a measurement that tells a share of the training's time: `line_120`."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Any other number about an evaluation: tokens/s, steps, peak memory. Never a fitness."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Comparability:
    """What two scores must share before they may be ranked against each other."""

    device: str
    driver: str
    torch: str
    candidates_per_host: int
    evaluator_sha256: str
    data_sha256: str

    @property
    def key(self) -> str:
        """Short digest over all fields."""
        text = "\n".join(str(getattr(self, name)) for name in self.__slots__)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def differences(self, other: "Comparability") -> str:
        """Return what differs, for a message: `torch 2.13.0, not 2.12.1`."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return ", ".join(
            f"{name.replace('_', ' ')} {own or 'none'}, not {its or 'none'}"
            for name, own, its in pairs
            if own != its
        )


class Purpose(StrEnum):
    """Why an evaluation was made; only `screen` and `race` rank individuals."""

    RUNG = "rung"
    """A shorter schedule, which tells whether to train it in full."""
    SCREEN = "screen"
    RACE = "race"
    CONFIRM = "confirm"
    EXAM = "exam"
    TRY = "try"


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a program's training came within the budget, on devices of one comparability key."""

    steps: float
    tokens: float
    comparability: str


@dataclass(frozen=True, slots=True)
class Request:
    """An evaluation that is asked for.

    Attributes:
        id: unique within a run.
        pace: of its parents; whoever falls far behind it may be ended early. None: nobody is.
    """

    id: EvaluationId
    individual: IndividualId
    genome: Genome
    seed: int
    shard: str
    purpose: Purpose
    attempt: int = 1
    pace: Pace | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """An evaluation that has ended.

    Attributes:
        log: bounded head and tail of what the candidate printed: untrusted text.
        curve: (fraction of the budget, reported training loss), at most 64 points, untrusted.
        contended: the reference workload ran more than the tolerated share off its norm.
        host, device, sandbox: where it ran and which layers held it.
        started_at, ended_at: UNIX seconds.
    """

    request: EvaluationId
    outcome: Outcome
    comparability: Comparability
    measurements: tuple[Measurement, ...] = ()
    log: str = ""
    curve: tuple[tuple[float, float], ...] = ()
    contended: bool = False
    host: str = ""
    device: str = ""
    sandbox: tuple[str, ...] = ()
    started_at: float = 0.0
    ended_at: float = 0.0

    def measured(self, name: str) -> float | None:
        """Return the measurement of that name, None where there is none."""
        return next((m.value for m in self.measurements if m.name == name), None)
