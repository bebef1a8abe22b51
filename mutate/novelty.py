"""Turns a new source into a checked proposal: parsed, within bounds, and not seen before."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mutate.calls import misfits
from mutate.checks import Checks
from mutate.genome import fingerprint, structure, values
from population.history import History
from population.individual import Change, Genome, Individual
from population.ports import ACCEPTED, Attempt, Proposal


@dataclass(frozen=True, slots=True)
class Offer:
    """What an operator made, before anybody has looked at it.

    Attributes:
        changes: against the first parent. attempts: what it took, this offer included.
    """

    operator: str
    parents: Sequence[Individual]
    source: str
    changes: tuple[Change, ...]
    attempts: tuple[Attempt, ...] = ()


def checked(offer: Offer, checks: Checks, history: History) -> Proposal:
    """Return the offer as a proposal, refused where a check fails or a twin exists."""
    reason = twin(offer.source, checks, history) or checks.refusal(offer.source)
    reason = reason or (ill_called(offer.source, offer.parents) if checks.python else "")
    if reason:
        return refused(offer.operator, offer.parents, reason, offer.attempts)
    digest = fingerprint(offer.source, python=checks.python)
    return Proposal(
        operator=offer.operator,
        parents=tuple(parent.id for parent in offer.parents),
        genome=Genome(offer.source),
        structure=structure(offer.source) if checks.python else digest,
        fingerprint=digest,
        constants=values(offer.source) if checks.python else {},
        changes=offer.changes,
        attempts=offer.attempts,
    )


def ill_called(source: str, parents: Sequence[Individual]) -> str:
    """Return a sentence about a call that cannot succeed and is new; empty where there is none."""
    before = [misfits(parent.genome.source) for parent in parents]
    for name, line in misfits(source).items():
        if not any(name in known for known in before):
            return f"line {line} calls {name} with other arguments than it takes"
    return ""


def first_accepted(what: str, proposals: Iterable[Proposal]) -> Proposal:
    """Return the first proposal that passes, else the last one, with what became of each.

    Args:
        what: names each in `Attempt`.
        proposals: at least one; made one by one, as they are needed.
    """
    attempts: list[Attempt] = []
    for proposal in proposals:
        attempts.append(Attempt(what, proposal.refusal or ACCEPTED))
        if proposal.genome is not None:
            break
    return replace(proposal, attempts=tuple(attempts))


def twin(source: str, checks: Checks, history: History) -> str:
    """Return a sentence that names the individual which does the same, empty when there is none."""
    owner = history.fingerprints.get(fingerprint(source, python=checks.python))
    return "" if owner is None else f"it does the same as individual {owner}"


def refused(
    operator: str, parents: Sequence[Individual], reason: str, attempts: Sequence[Attempt] = ()
) -> Proposal:
    """Return a proposal that offers nothing, with the reason."""
    ids = tuple(parent.id for parent in parents)
    return Proposal(operator, ids, None, refusal=reason, attempts=tuple(attempts))


def normalised_diff(before: str, after: str) -> str:
    """Return a unified diff without positions and context: equal edits give equal texts."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))
    return "\n".join(line.rstrip() for line in lines[2:] if not line.startswith("@@"))
