"""What proposals have told: who offers how much, which parents were tried, the latest notes."""

from population.history import Tally
from population.individual import Individual, IndividualId
from population.ports import ACCEPTED, NOTES, Proposal


class Offers:
    """The proposals of a run, counted; changed by `note` alone.

    Attributes:
        tallies: of each operator. models: of each language model.
        model_of: which of those an individual comes from.
        tried: whom a proposal named as parent.
        notes: the latest.
    """

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self.models: dict[str, Tally] = {}
        self.model_of: dict[IndividualId, str] = {}
        self.tried: frozenset[IndividualId] = frozenset()
        self.notes = ""

    def note(self, proposal: Proposal, individual: Individual | None) -> None:
        """Count one, and the individual that it became, None where it was refused."""
        refused = individual is None
        self.tallies[proposal.operator] = self.tallies.get(proposal.operator, Tally()).plus(refused)
        if proposal.model:
            self.models[proposal.model] = self.models.get(proposal.model, Tally()).plus(refused)
            if individual is not None:
                self.model_of[individual.id] = proposal.model
        if proposal.genome is not None or any(one.stop_reason for one in proposal.attempts):
            self.tried |= set(proposal.parents)  # else nobody was asked
        for attempt in proposal.attempts:
            if attempt.what == NOTES and attempt.outcome == ACCEPTED:
                self.notes = attempt.answer
