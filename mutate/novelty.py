"""Turns a new source into a checked proposal: parsed, within bounds, and not seen before."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mutate.checks import Checks
from mutate.genome import fingerprint, structure, values
from population.individual import Change, Genome, Individual
from population.ports import History, Proposal


@dataclass(frozen=True, slots=True)
class Offer:
    """What an operator made, before anybody has looked at it."""

    operator: str
    parents: Sequence[Individual]
    source: str
    changes: tuple[Change, ...]


def checked(offer: Offer, checks: Checks, history: History) -> Proposal:
    """Return the offer as a proposal, with `refusal` set where a check fails."""
    digest = fingerprint(offer.source, python=checks.python)
    twin = history.fingerprints.get(digest)
    reason = checks.refusal(offer.source)
    if not reason and twin is not None:
        reason = f"it does the same as individual {twin}"
    if reason:
        return refused(offer.operator, offer.parents, reason)
    return Proposal(
        operator=offer.operator,
        parents=tuple(parent.id for parent in offer.parents),
        genome=Genome(offer.source),
        structure=structure(offer.source) if checks.python else digest,
        fingerprint=digest,
        constants=values(offer.source) if checks.python else {},
        changes=offer.changes,
    )


def refused(operator: str, parents: Sequence[Individual], reason: str) -> Proposal:
    """Return a proposal that offers nothing, with the reason."""
    return Proposal(operator, tuple(parent.id for parent in parents), None, refusal=reason)


def normalised_diff(before: str, after: str) -> str:
    """Return a unified diff without positions and context: equal edits give equal texts."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(line.rstrip() for line in lines if not line.startswith(("---", "+++", "@@")))
