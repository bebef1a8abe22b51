import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutate.checks import Checks
from mutate.genome import values
from mutate.recombination import Recombination, exchangeable, other_values, untried
from mutate.units import definitions, unresolved
from population.history import History
from population.ports import Proposal
from tests.mutate.programs import BASE, CHECKS, DONOR, history, standing

OPERATOR = Recombination(CHECKS)
SEEDS = Path(__file__).resolve().parents[2] / "seeds"


def pair(base: str, donor: str) -> History:
    return history([standing(1, base, 1.0), standing(2, donor, 0.9)], (1, 2))


def propose(known: History, seed: int = 0, operator: Recombination = OPERATOR) -> Proposal:
    parents = [known.standings[one].individual for one in known.survivors]
    return operator.propose(parents, known, np.random.default_rng(seed))


def test_what_differs_can_be_exchanged() -> None:
    assert exchangeable(BASE, DONOR) == ["norm", "Mixer", "Head"]
    assert other_values(BASE, DONOR) == {"WIDTH": 32, "LR": 0.05, "DEPTH": 4}


def test_a_value_of_another_kind_or_no_choice_of_the_base_is_not_taken() -> None:
    base = "A = 1  # 0..4\nB = 8  # one of 8, 16\nC = True\n"
    assert other_values(base, "A = True\nB = 32  # one of 8, 32\nC = 3\n") == {}
    assert other_values(base, "A = 2.6\nB = 16\nC = False\n") == {"A": 3, "B": 16, "C": False}


def with_every_single_exchange(known: History) -> History:
    """The history once each definition was exchanged alone."""
    while True:
        proposal = propose(known)
        if len(proposal.changes) != 1 or proposal.changes[0].category == "constant":
            return known
        assert proposal.genome is not None
        born = standing(len(known.standings) + 1, proposal.genome.source, 0.5)
        known = history([*known.standings.values(), born], (1, 2))


def test_each_definition_is_exchanged_alone_once_before_anything_else() -> None:
    known = with_every_single_exchange(pair(BASE, DONOR))
    assert len(known.standings) == 4  # norm and Mixer; Head needs what nobody has
    for seed in range(20):
        changes = propose(pair(BASE, DONOR), seed).changes
        assert [change.category for change in changes] in (["function"], ["class"])


def test_a_definition_counts_as_tried_at_whatever_constants() -> None:
    known = with_every_single_exchange(pair(BASE, DONOR))
    other = BASE.replace("LR = 0.02", "LR = 0.03")
    assert untried(other, DONOR, ["norm", "Mixer", "Head"], known) == []


def test_children_hold_constants_or_units_of_both_parents() -> None:
    known = with_every_single_exchange(pair(BASE, DONOR))
    proposals = [propose(known, seed) for seed in range(60)]
    offered = [one for one in proposals if one.genome is not None]
    assert len(offered) > 50  # the others drew what exists 20 times in a row
    categories = {change.category for one in offered for change in one.changes}
    assert categories == {"constant", "function", "class"}
    assert all(one.parents == (1, 2) for one in offered)
    assert max(len(one.changes) for one in offered) > 1


def test_each_exchanged_unit_is_one_change_with_its_own_diff() -> None:
    known = with_every_single_exchange(pair(BASE, DONOR))
    proposals = (propose(known, seed) for seed in range(100))
    wanted = ["function norm as in the second parent", "class Mixer as in the second parent"]
    both = next(one for one in proposals if [c.hypothesis for c in one.changes] == wanted)
    assert "+    return x" in both.changes[0].diff
    assert "Mixes otherwise" not in both.changes[0].diff
    assert "Mixes otherwise" in both.changes[1].diff


def test_a_constant_is_one_change_that_names_both_values() -> None:
    known = pair(BASE, BASE.replace("LR = 0.02", "LR = 0.05").replace("DEPTH = 2", "DEPTH = 3"))
    change = propose(known).changes[0]
    assert change.category == "constant"
    assert change.hypothesis in (
        "LR 0.02 -> 0.05, as in the second parent",
        "DEPTH 2 -> 3, as in the second parent",
    )
    assert change.diff.count("\n") == 1


@pytest.mark.parametrize(
    ("donor", "reason"),
    [
        (BASE + "# only a comment\n", "differ in nothing"),
        ("x = 1; y = 2\n", "cannot be taken apart: line 1"),
        ("x = (\n", "cannot be taken apart: line 1"),
        (BASE.replace("0.02", "0.05"), "does the same as individual 2"),
        (BASE.replace("return x\n", "return mystery(x)\n"), "mystery"),
    ],
)
def test_parents_with_nothing_to_exchange_are_refused_with_the_reason(
    donor: str, reason: str
) -> None:
    proposal = propose(pair(BASE, donor))
    assert proposal.genome is None
    assert reason in proposal.refusal
    assert proposal.parents == (1, 2)


def test_a_definition_that_is_called_otherwise_is_not_exchanged() -> None:
    base = "class Model:\n    def __init__(self, size):\n        self.size = size\n\n\nModel(3)\n"
    donor = base.replace("size):", "size, depth):").replace("Model(3)", "Model(3, 4)")
    assert exchangeable(base, donor) == ["Model"]
    assert untried(base, donor, ["Model"], pair(base, donor)) == []
    with_default = donor.replace("depth):", "depth=2):")
    assert untried(base, with_default, ["Model"], pair(base, with_default)) == ["Model"]


def test_only_python_is_taken_apart() -> None:
    operator = Recombination(Checks("kernel.cu"))
    assert "only Python" in propose(pair("a", "b"), operator=operator).refusal


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.permutations(sorted(SEEDS.glob("*.py"))))
def test_children_of_the_founders_parse_resolve_and_keep_every_name(
    seed: int, files: list[Path]
) -> None:
    base, donor = (file.read_text(encoding="utf-8") for file in files[:2])
    operator = Recombination(Checks(required_calls=("register", "deliver")))
    proposal = propose(pair(base, donor), seed, operator)
    assert (proposal.genome is None) == bool(proposal.refusal)
    if proposal.genome is not None:
        ast.parse(proposal.genome.source)
        assert unresolved(proposal.genome.source) <= unresolved(base)
        assert set(definitions(base)) <= set(definitions(proposal.genome.source))
        assert proposal.constants == values(proposal.genome.source)
    assert propose(pair(base, donor), seed, operator) == proposal
