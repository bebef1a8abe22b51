from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mutate.llm import Unavailable
from mutate.llm_variation import LlmVariation
from mutate.notes import ENOUGH, NOTES_EVERY
from mutate.novelty import normalised_diff
from mutate.prompt import Brief, Intent
from population.history import History, Program, Report, Standing
from population.individual import Change, Failed, IndividualId, Stage
from population.ports import ACCEPTED, NOTES, Proposal, ProposalId, Variation
from population.task import Direction
from tests.mutate.families import child, with_
from tests.mutate.programs import BASE, CHECKS, DONOR, history, standing
from tests.mutate.scripted import EDITOR, WRITER, World, world

BRIEF = Brief("train.py", "loss", Direction.MINIMIZE, "300s", "Call deliver.")
TUNED = BASE.replace("0.02", "0.05")
WIDER = BASE.replace("return x\n", "return x + x\n")
THIRD = DONOR.replace("return x\n", "return 2 * x\n")
CRASH = Failed(Stage.TRAINING, "crash", "NameError: name 'maths' is not defined")


def edit(search: str, replace_: str, hypothesis: str = "wider heads help") -> str:
    return (
        f"Hypothesis: {hypothesis}\nCategory: head\n\n"
        f"<<<<<<< SEARCH\n{search}=======\n{replace_}>>>>>>> REPLACE\n"
    )


WIDEN = edit(
    "    def forward(self, x):\n        return x\n",
    "    def forward(self, x):\n        return x + x\n",
)
BREAK = edit("    deliver(Mixer(), Head(), LR, DEPTH, GATED)\n", "    pass\n")
SAME = edit("WIDTH = 64  # one of 32, 64, 128\n", "WIDTH = 64  # still one of 32, 64, 128\n")


def child_of(number: int, source: str, parents: Sequence[int], hypothesis: str) -> Standing:
    born = standing(number, source, None, failures=1)
    ids = tuple(IndividualId(parent) for parent in parents)
    change = Change("+ a line", hypothesis, "head")
    individual = replace(born.individual, parents=ids, operator="explore", changes=(change,))
    report = Report(CRASH, "Traceback: NameError")
    return replace(born, individual=individual, report=report)


def known() -> History:
    """Two founders, a third program, and a child of the first that has crashed."""
    standings = [
        standing(1, BASE, 1.0),
        standing(2, DONOR, 0.9),
        standing(3, THIRD, 0.8),
        child_of(4, BASE.replace("out(norm(x))", "out(maths.norm(x))"), [1], "mixing by the book"),
    ]
    program = Program("Try wider heads.", "p" * 64)
    return replace(history(standings, (1, 2, 3)), program=program, proposal=ProposalId(5))


def propose(
    made: World,
    intent: Intent = Intent.EXPLORE,
    parents: Sequence[int] = (1,),
    before: History | None = None,
) -> Proposal:
    before = before or known()
    variation = LlmVariation(intent, made.desk, CHECKS, BRIEF, arity=len(parents))
    individuals = [before.standings[IndividualId(one)].individual for one in parents]
    return variation.propose(individuals, before, np.random.default_rng(0))


@pytest.mark.parametrize("intent", [Intent.EXPLORE, Intent.REFINE, Intent.SIMPLIFY])
def test_a_mutation_offers_the_changed_program_as_a_child_of_its_parent(intent: Intent) -> None:
    made = world([WIDEN])
    proposal = propose(made, intent)
    assert (proposal.operator, proposal.parents, proposal.refusal) == (intent.value, (1,), "")
    assert proposal.genome is not None
    assert "return x + x" in proposal.genome.source
    (change,) = proposal.changes
    assert change == Change(
        normalised_diff(BASE, proposal.genome.source), "wider heads help", "head"
    )
    assert [one.outcome for one in proposal.attempts] == [ACCEPTED]
    assert proposal.fingerprint
    assert proposal.constants["LR"] == 0.02
    assert "Try wider heads." in made.llm.asked[0].system[0].text


def test_a_model_whose_children_won_is_asked_more_often() -> None:
    won = [replace(child(n, "explore", 9.0), model="writer") for n in range(10, 18)]
    lost = [replace(child(n, "explore", 0.1), model="editor") for n in range(20, 28)]
    made = world(lambda _: WIDEN, [EDITOR, WRITER])
    variation = LlmVariation(Intent.EXPLORE, made.desk, CHECKS, BRIEF, arity=1)
    for before in (known(), with_(*won, *lost)):
        parent = before.standings[IndividualId(1)].individual
        for seed in range(60):
            variation.propose([parent], before, np.random.default_rng(seed))
    first = [question.model.name for question in made.llm.asked if len(question.turns) == 1]
    before, after = first[:60].count("writer"), first[-60:].count("writer")
    assert 15 < before < 45 < after


def test_it_is_an_operator_that_takes_its_time() -> None:
    variation: Variation = LlmVariation(Intent.CROSSOVER, world([]).desk, CHECKS, BRIEF, 3)
    assert (variation.name, variation.arity, variation.slow) == ("crossover", 3, True)


@pytest.mark.parametrize("parents", [(1, 2), (2, 1, 3)])
def test_a_crossover_changes_the_first_parent_and_names_all(parents: tuple[int, ...]) -> None:
    made = world([edit("DEPTH = 2  # 1..4\n", "DEPTH = 3  # 1..4\n"), WIDEN])
    before = known()
    if parents[0] == 2:
        made = world([edit("DEPTH = 9  # 1..12\n", "DEPTH = 8  # 1..12\n")])
    proposal = propose(made, Intent.CROSSOVER, parents, before)
    assert (proposal.operator, proposal.parents) == ("crossover", parents)
    first = before.standings[IndividualId(parents[0])].individual.genome.source
    assert proposal.genome is not None
    assert proposal.changes[0].diff == normalised_diff(first, proposal.genome.source)
    opening = "\n".join(block.text for block in made.llm.asked[0].turns[0])
    assert f"# Program #{parents[0]}\n" in opening
    for donor in parents[1:]:
        assert f"# Program #{donor}, as a difference from #{parents[0]}" in opening


def test_a_repaired_program_descends_from_the_failed_ones_parent_and_from_it() -> None:
    made = world(
        [
            edit(
                "        return self.out(maths.norm(x))\n",
                "        return self.out(2 * norm(x))\n",
                "the name is norm",
            )
        ]
    )
    proposal = propose(made, Intent.REPAIR, (4,))
    assert proposal.refusal == ""
    assert proposal.parents == (1, 4)
    assert proposal.genome is not None
    (change,) = proposal.changes
    assert change.diff == normalised_diff(BASE, proposal.genome.source)
    assert change.hypothesis == "mixing by the book; repaired: the name is norm"
    asked = made.llm.asked[0].text
    assert "# Program #4\n" in asked
    assert "NameError" in asked


def test_a_repair_that_is_refused_or_skipped_still_names_the_failed_program() -> None:
    proposal = propose(world(["SKIP: it cannot work"]), Intent.REPAIR, (4,))
    assert (proposal.genome, proposal.parents) == (None, (1, 4))
    assert proposal.refusal == "skipped: it cannot work"
    assert len(proposal.attempts) == 1


def test_a_repair_that_undoes_the_idea_is_its_parents_twin() -> None:
    undone = edit("        return self.out(maths.norm(x))\n", "        return self.out(norm(x))\n")
    proposal = propose(world([undone, undone, undone]), Intent.REPAIR, (4,))
    assert proposal.refusal == "it does the same as individual 1"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(SAME, "it does the same as individual 1"), (BREAK, "it never calls deliver")],
)
def test_a_program_that_is_no_news_or_fails_a_check_is_refused_after_three_turns(
    answer: str, reason: str
) -> None:
    made = world([answer] * 3)
    proposal = propose(made)
    assert proposal.genome is None
    assert proposal.refusal == reason
    assert [one.outcome for one in proposal.attempts] == [reason] * 3
    assert reason in "".join(block.text for block in made.llm.asked[1].turns[-1])


def test_where_no_model_answers_the_proposal_is_refused() -> None:
    down = Unavailable("overloaded", "try later")
    proposal = propose(world(lambda _: down, [EDITOR, WRITER]))
    assert proposal.refusal == "overloaded: try later"
    assert len(proposal.attempts) == 2
    made = world([])
    made.desk.close()
    assert propose(made).refusal == "no model answers at present"


def test_an_answer_that_was_found_useless_is_paid_for_all_the_same() -> None:
    made = world([SAME, "no", "no"])
    proposal = propose(made)
    assert sum(one.cost_usd for one in proposal.attempts) == pytest.approx(made.purse.spent.usd)


# Notes


def test_what_was_paid_for_is_recorded_whatever_breaks_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> Proposal:
        raise RecursionError("too deep")

    monkeypatch.setattr("mutate.llm_variation.checked", broken)
    made = world([WIDEN])
    proposal = propose(made)
    assert proposal.refusal == "the operator failed: RecursionError: too deep"
    assert [attempt.cost_usd for attempt in proposal.attempts] == [made.purse.spent.usd]
    assert made.purse.spent.usd > 0


def grown(number: int) -> History:
    children = [
        child_of(n, BASE.replace("0.02", f"0.{n + 30}"), [1], f"idea {n}")
        for n in range(5, 5 + ENOUGH)
    ]
    before = known()
    standings = before.standings | {one.individual.id: one for one in children}
    return replace(before, standings=standings, proposal=ProposalId(number))


def test_every_sixteenth_proposal_begins_with_fresh_notes_and_is_told_them() -> None:
    made = world(["Wider helps.", WIDEN])
    proposal = propose(made, before=grown(3 * NOTES_EVERY))
    assert [one.what for one in proposal.attempts] == [NOTES, "edit"]
    assert proposal.attempts[0].answer == "Wider helps."
    assert proposal.genome is not None
    assert "| Wider helps." in made.llm.asked[1].text


@pytest.mark.parametrize("number", [1, NOTES_EVERY - 1, NOTES_EVERY + 1])
def test_other_proposals_distil_nothing(number: int) -> None:
    proposal = propose(world([WIDEN]), before=grown(number))
    assert [one.what for one in proposal.attempts] == ["edit"]


def test_a_proposal_goes_on_without_notes_and_pays_for_the_try() -> None:
    made = world([Unavailable("timeout", "too late")])
    proposal = propose(made, before=grown(NOTES_EVERY))
    assert [one.what for one in proposal.attempts] == [NOTES]
    assert proposal.refusal == "no model answers at present"
