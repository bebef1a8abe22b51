"""What a record means to a person, in the log and in the live display."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from evolve.console import LINE_WIDTH, draw
from evolve.live import Snapshot, Watch
from evolve.telling import EXACT_LINE
from population.individual import (
    EvaluationId,
    Failed,
    Genome,
    Individual,
    IndividualId,
    Measurement,
    ProposalId,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.ports import Ended, Founded, Proposal, Proposed, Record, Started
from population.state import State
from population.task import Direction
from tests.evolve.conftest import MACHINE

CRASH = Failed(Stage.TRAINING, "crash", "it raised")


def told(*outcomes: float | Failed) -> tuple[list[str], Snapshot]:
    """Return the lines about newcomers that trained shortly, and the display's snapshot."""
    state, watch, lines = State(Direction.MINIMIZE, rung=0.2), Watch(20, 1, 0.0), []
    founder = Individual(IndividualId(1), Genome("first"), name="first")

    def see(record: Record) -> None:
        state.apply(record)
        watch.see(record, state, 1.0)
        if isinstance(record, Ended) and watch.line:
            lines.append(watch.line)

    see(Founded(founder))
    for number, outcome in enumerate(outcomes, 2):
        genome, own = Genome(f"child {number}"), IndividualId(number)
        child = replace(founder, id=own, genome=genome, parents=(founder.id,), operator="nudge")
        see(Proposed(state.next_proposal, Proposal("nudge", child.parents, genome), child))
        request = Request(EvaluationId(number), own, genome, number, "selection", Purpose.RUNG)
        see(Started(request))
        ended = outcome if isinstance(outcome, Failed) else Scored(outcome)
        see(Ended(Result(request.id, ended, MACHINE)))
    return lines, watch.snapshot


def test_a_short_training_is_told_with_what_follows_from_it() -> None:
    lines, _ = told(3.0, 3.1, 3.2, 3.3, 4.0, CRASH)
    assert lines[0] == "#2 nudge of #1: 3.0000 at the rung, goes on"
    assert lines[4] == "#6 nudge of #1: 4.0000 at the rung, others did better: stopped"
    assert lines[5] == "#7 nudge of #1: failed in training at the rung, crash: it raised"


@pytest.mark.parametrize("short", [True, False])
def test_the_live_display_counts_short_trainings_where_there_are_any(short: bool) -> None:
    snapshot = told(3.0, 3.1, 3.2, 3.3, 4.0)[1] if short else told()[1]
    text = StringIO()
    Console(file=text, width=200).print(draw(snapshot, "val_bpb", 2.0))
    assert ("short trainings 5, 4 let through" in text.getvalue()) is short
    assert f"{1 if short else 0}/20 evaluations" in text.getvalue()


@pytest.mark.parametrize("paused", [True, False])
def test_the_live_display_tells_of_a_pause_and_how_it_ends(paused: bool) -> None:
    text = StringIO()
    snapshot = replace(told()[1], paused=paused)
    Console(file=text, width=200).print(draw(snapshot, "val_bpb", 2.0))
    assert ("paused: nothing new begins until `evolve resume`" in text.getvalue()) is paused


@pytest.mark.parametrize(
    ("calls", "lines"),
    [
        (0, []),
        (1, ["asking language models: 1 call under way"]),
        (3, ["asking language models: 3 calls under way"]),
    ],
)
def test_calls_of_language_models_that_are_under_way_are_shown(
    calls: int, lines: list[str]
) -> None:
    text, (_, snapshot) = StringIO(), told()
    Console(file=text, width=200).print(draw(replace(snapshot, asking=calls), "val_bpb", 2.0))
    assert [one.strip() for one in text.getvalue().splitlines() if "asking" in one] == lines


def test_a_refusal_that_repeats_itself_is_told_once_and_counted() -> None:
    state, watch = State(Direction.MINIMIZE), Watch(20, 1, 0.0)
    founder = Individual(IndividualId(1), Genome("first"), name="first")
    state.apply(Founded(founder))
    reasons = ["they differ in nothing"] * 3 + ["its text is empty"] * 2
    lines = []
    for number, reason in enumerate(reasons, 1):
        record = Proposed(
            ProposalId(number), Proposal("nudge", (founder.id,), None, refusal=reason), None
        )
        state.apply(record)
        watch.see(record, state, 1.0)
        lines.append(watch.line)
    assert [line and line.rpartition(": ")[2] for line in lines] == [
        reasons[0], None, None, reasons[3], None
    ]  # fmt: skip
    assert watch.snapshot.refused == 5


def test_it_is_told_once_that_no_score_can_be_disturbed() -> None:
    state, watch = State(Direction.MINIMIZE), Watch(20, 1, 0.0)
    first = Individual(IndividualId(1), Genome("first"), name="first")
    second = replace(first, id=IndividualId(2), genome=Genome("second"), name="second")
    records: list[Record] = [Founded(first), Founded(second)]
    for number in range(1, 9):
        own, founder = EvaluationId(number), first if number % 2 else second
        share = Measurement("foreign_share", 0.3, "1")
        request = Request(own, founder.id, founder.genome, 1, "selection", Purpose.RACE)
        ended = Result(own, Scored(2.0), MACHINE, measurements=(share,))
        records += [Started(request), Ended(ended)]
    turns = []
    for record in records:
        state.apply(record)
        watch.see(record, state, 1.0)
        turns += [watch.turn] if watch.turn else []
    assert turns == [EXACT_LINE]


def test_it_is_told_when_disturbed_scores_begin_and_cease_to_be_taken_as_they_are() -> None:
    state, watch = State(Direction.MINIMIZE), Watch(20, 1, 0.0)
    founder = Individual(IndividualId(1), Genome("first"), name="first")
    records: list[Record] = [Founded(founder)]
    for number in range(1, 13):
        own = EvaluationId(number)
        share = Measurement("foreign_share", 0.3 if number <= 8 else 0.01, "1")
        request = Request(own, founder.id, founder.genome, number, "selection", Purpose.RACE)
        ended = Result(own, Scored(2.0), MACHINE, measurements=(share,))
        records += [Started(request), Ended(ended)]
    turns = {}
    for record in records:
        state.apply(record)
        watch.see(record, state, 1.0)
        if watch.turn is not None:
            turns[state.next_evaluation - 1] = watch.turn
    assert list(turns) == [6, 11]
    assert "disturbed scores are taken as they are from now on" in turns[6]
    assert "is made again from now on" in turns[11]
    assert max(map(len, turns.values())) <= LINE_WIDTH
