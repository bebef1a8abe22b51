from dataclasses import replace

import numpy as np
import pytest

from mutate.llm import Answer, Unavailable
from mutate.notes import ENOUGH, NOTES_CHARACTERS, with_fresh_notes
from mutate.prompt import Brief
from population.history import History, Standing
from population.individual import Change, IndividualId
from population.ports import ACCEPTED, NOTES, Attempt
from population.task import Direction
from tests.mutate.programs import BASE, history, standing
from tests.mutate.scripted import EDITOR, World, said, world

BRIEF = Brief("train.py", "loss", Direction.MINIMIZE, "300s", "Call deliver.")
LINES = "Wider helps: #3 by 0.2.\nDeeper costs more than it gives: #4, #5."


def bred(number: int) -> Standing:
    source = BASE.replace("0.02", f"0.{number + 30}")
    born = standing(number, source, 1.0)
    change = Change(f"+{number}", f"idea {number}", "width")
    child = replace(
        born.individual, parents=(IndividualId(1),), operator="explore", changes=(change,)
    )
    return replace(born, individual=child)


def known(children: int, notes: str = "as before") -> History:
    standings = [standing(1, BASE, 1.0), *(bred(number) for number in range(2, 2 + children))]
    return replace(history(standings, (1,)), notes=notes)


def taken(made: World, before: History) -> tuple[History, tuple[Attempt, ...]]:
    return with_fresh_notes(before, made.desk, BRIEF, np.random.default_rng(0))


def test_notes_are_distilled_from_the_record_and_come_with_their_call() -> None:
    made = world([f"\n{LINES}\n"])
    before = known(ENOUGH)
    after, (attempt,) = taken(made, before)
    assert after == replace(before, notes=LINES)
    assert (attempt.what, attempt.outcome, attempt.answer) == (NOTES, ACCEPTED, LINES)
    assert attempt.cost_usd == made.purse.spent.usd > 0
    assert "idea 2" in made.llm.asked[0].text
    assert "Distil" in attempt.prompt


def test_notes_are_no_longer_than_the_model_may_answer() -> None:
    made = world(["x"], [replace(EDITOR, answer_tokens=300)])
    taken(made, known(ENOUGH))
    assert made.llm.asked[0].max_tokens == 300


def test_notes_are_asked_for_with_the_effort_of_every_call() -> None:
    for model, effort in ((EDITOR, "low"), (replace(EDITOR, effort=False), "")):
        made = world(["x"], [model])
        with_fresh_notes(known(ENOUGH), made.desk, BRIEF, np.random.default_rng(0), "low")
        assert made.llm.asked[0].effort == effort


def test_too_little_is_known_before_six_were_bred() -> None:
    made = world([])
    before = known(ENOUGH - 1)
    assert taken(made, before) == (before, ())


@pytest.mark.parametrize(
    "answer", [said(LINES, "max_tokens"), said(LINES, "cut"), said("", "refusal"), said(" \n")]
)
def test_an_answer_that_is_no_notes_is_recorded_and_changes_nothing(answer: Answer) -> None:
    made = world([answer])
    before = known(ENOUGH)
    after, (attempt,) = taken(made, before)
    assert after == before
    assert attempt.what == NOTES
    assert attempt.outcome == f"no notes: it ended with {answer.stop_reason}"
    assert attempt.cost_usd == answer.cost_usd


def test_a_call_that_fails_is_recorded_and_changes_nothing() -> None:
    made = world([Unavailable("overloaded", "try later")])
    before = known(ENOUGH)
    after, (attempt,) = taken(made, before)
    assert after == before
    assert (attempt.outcome, attempt.cost_usd) == ("overloaded: try later", 0.0)


def test_nobody_is_asked_where_no_model_answers() -> None:
    made = world([])
    made.desk.close()
    before = known(ENOUGH)
    assert taken(made, before) == (before, ())


def test_notes_are_bounded_and_kept_as_they_are_used() -> None:
    after, (attempt,) = taken(world(["x" * 9_000]), known(ENOUGH))
    assert len(after.notes) <= NOTES_CHARACTERS
    assert attempt.answer == after.notes
