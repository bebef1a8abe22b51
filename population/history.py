"""What is known when a proposal is made: how every individual stands, and what was learnt."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from population.individual import (
    Failed,
    Genome,
    Individual,
    IndividualId,
    Measurement,
    ProposalId,
)

NO_PROPOSAL = ProposalId(0)
NOBODY = IndividualId(0)


@dataclass(frozen=True, slots=True)
class Report:
    """What the latest settled evaluation of an individual showed besides its score.

    Attributes:
        failure: why it has no score, None where it has one. log: the end of what it printed,
            kept of failures only: untrusted text.
        curve: as in `Result`.
    """

    failure: Failed | None = None
    log: str = ""
    measurements: tuple[Measurement, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """How often an operator or a model was asked, and how often what it offered was refused."""

    proposals: int = 0
    refused: int = 0

    def plus(self, refused: bool) -> "Tally":
        """Return it with one more proposal."""
        return Tally(self.proposals + 1, self.refused + refused)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one individual stands when parents or survivors are selected.

    Attributes:
        fitness: shrunken mean, larger is better; None while nothing of it is scored.
        standard_error: of that mean, in units of the metric.
        evaluations: scored evaluations that count. failures: failed ones.
        lost: those that our side lost for good.
        in_flight: evaluations that run now.
        held: in quarantine, or refused by it: it neither breeds nor leads.
        report: of its latest settled evaluation, None while there is none.
        model: the language model that wrote it, empty where none did.
        known_to: whoever has this id or a later one was born when its score was known.
        stopped: a short training was all that it got, since others did better in theirs.
        expected: the fitness that this foretells; None where it does not.
        pinned: somebody wants it among the survivors.
    """

    individual: Individual
    fitness: float | None
    standard_error: float
    evaluations: int
    failures: int
    in_flight: int
    held: bool = False
    report: Report | None = None
    lost: int = 0
    model: str = ""
    known_to: IndividualId = NOBODY
    stopped: bool = False
    expected: float | None = None
    pinned: bool = False

    @property
    def ranks(self) -> bool:
        """Whether it has a score, and one that is believed: who ranks may breed and lead."""
        return self.fitness is not None and not self.held

    @property
    def is_void(self) -> bool:
        """Whether it was evaluated and tells nothing: lost, of another key, or not believed.

        So is one that was stopped, as long as nothing follows from that.
        """
        if self.stopped:
            return self.expected is None
        settled = self.report is not None and not self.failures
        return self.held or (settled and self.fitness is None)


@dataclass(frozen=True, slots=True)
class Precedent:
    """A program of an earlier run. Its score there ranks nobody here.

    Attributes:
        individual: its id there. structure, fingerprint: as in `Individual`.
        fitness: its mean there, larger is better; None where the scores of that run are withheld.
        founds: it is a founder here, and scored anew as such.
    """

    individual: IndividualId
    genome: Genome
    structure: str
    fingerprint: str
    fitness: float | None
    founds: bool = False


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left to this one, as it was when this one was born.

    Attributes:
        run: its name. memory: its notes and what its changes were worth, in lines: untrusted text.
        withheld: why its scores inform no operator here, in a few words; empty where they do.
    """

    run: str
    memory: str
    precedents: tuple[Precedent, ...]
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A version of program.md, as it was read for a proposal."""

    text: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """All that is known when a proposal is made. Operators read it and change nothing.

    Attributes:
        standings: every individual of the run, by id, founders first.
        survivors: ids of the present survivor set, best first.
        fingerprints: normalised syntax trees that exist already, as digests, with their owner.
        sigma: standard deviation of one evaluation, in units of the metric.
        tallies: of each operator that was asked. models: of each language model.
        notes: the latest that were distilled.
        tried: individuals that a proposal has named as a parent or is about to.
        proposal: the number of the proposal that is made. program: what it is made under.
        earlier: what this run was born from: it informs operators and ranks nobody.
        beside: how many slow proposals are being made already when this one begins.
    """

    standings: dict[IndividualId, Standing]
    survivors: tuple[IndividualId, ...]
    fingerprints: dict[str, IndividualId]
    sigma: float
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    models: Mapping[str, Tally] = field(default_factory=dict)
    notes: str = ""
    tried: Set[IndividualId] = frozenset()
    proposal: ProposalId = NO_PROPOSAL
    program: Program = Program()
    earlier: tuple[Earlier, ...] = ()
    beside: int = 0

    @property
    def breeders(self) -> tuple[IndividualId, ...]:
        """Who may breed: the survivors, before there are any whoever ranks, else the founders.

        Founders that have failed are not among them.
        """
        known = self.standings.items()
        ranked = [one for one, s in known if s.ranks]
        founders = [one for one, s in known if not s.individual.parents and not s.failures]
        return self.survivors or tuple(ranked or founders)
