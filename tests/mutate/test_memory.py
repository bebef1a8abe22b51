import re
from dataclasses import replace

import pytest

from mutate.memory import effect, memory
from mutate.text import one_line, quoted, tokens_of
from population.history import Earlier, History, Standing
from population.individual import IndividualId
from population.task import Direction
from tests.mutate import told
from tests.mutate.programs import BASE

ROOM = 3_000
DOWN = Direction.MINIMIZE


def parent(history: History, number: int = 3):
    return [history.standings[IndividualId(number)].individual]


@pytest.mark.parametrize(
    ("gain", "error", "says"),
    [
        (0.1, 0.01, "better by 0.1000 +- 0.0283"),
        (-0.1, 0.01, "worse by 0.1000 +- 0.0283"),
        (0.004, 0.01, "unresolved (+0.0040 +- 0.0283)"),
        (0.1, float("inf"), "unresolved (+0.1000, noise unknown)"),
    ],
)
def test_an_effect_is_told_with_its_uncertainty(gain: float, error: float, says: str) -> None:
    history = told.history()
    child = told.scored(told.child(10, 1, "x"), -2.40 + gain, error)
    first = history.standings[IndividualId(1)]
    known = {**history.standings, first.individual.id: replace(first, standard_error=error)}
    assert str(effect(child, replace(history, standings=known))) == says


def test_a_change_that_one_program_alone_carries_is_told_by_its_gain_and_no_other_number() -> None:
    (line,) = lines_with("linear attention")
    assert line.endswith("worse by 0.3000 +- 0.0256")


def test_a_change_that_several_programs_carry_is_told_by_all_of_them_too() -> None:
    (line,) = lines_with("gate the attention's output")
    assert re.search(r"better by 0.1000 .*; by the 3 programs with it \+0.09\d+ \+- 0.02\d+$", line)


def test_changes_that_came_together_are_told_apart_by_others_that_carry_one_of_them() -> None:
    first, second = (told.child(number, 1, name) for number, name in ((10, "gate"), (11, "norm")))
    both = replace(told.child(12, 1, ""), changes=first.changes + second.changes)
    line = lines_with(
        "gate; norm", *(told.scored(one, -2.40 + gain) for one, gain in ((first, 0), (both, 0.2)))
    )[0]
    gate, norm = (float(one) for one in re.findall(r"([+-]0\.\d+) \+- 0\.\d+ \(", line))
    assert abs(gate) < 0.02
    assert norm > 0.15


def lines_with(what: str, *more: Standing) -> list[str]:
    history = told.history()
    known = history.standings | {one.individual.id: one for one in more}
    text = memory(replace(history, standings=known), parent(history, 2), DOWN, ROOM)
    return [line for line in text.splitlines() if what in line]


def test_what_was_stopped_after_a_short_training_is_told_as_that() -> None:
    stopped = replace(told.in_flight(told.child(10, 1, "wider heads")), in_flight=0, stopped=True)
    (line,) = lines_with("wider heads", stopped)
    assert line.endswith("stopped after a short training")
    history = told.history()
    known = history.standings | {stopped.individual.id: stopped}
    text = memory(replace(history, standings=known), parent(history, 2), DOWN, ROOM)
    assert "wider heads" in text[text.index("Stopped after") :]
    assert "wider heads" not in text[: text.index("Unresolved")]  # not among what is in flight


def test_what_is_unresolved_is_told_as_near_and_not_as_lost() -> None:
    text = memory(told.history(), parent(told.history(), 2), DOWN, ROOM)
    near = text[text.index("Unresolved") : text.index("Failed")]
    assert "mix in the previous token" in near
    assert "linear attention" in text[text.index("Lost:") :]


def test_what_is_in_flight_is_told_before_anything_else_that_was_tried() -> None:
    text = memory(told.history(), parent(told.history()), DOWN, ROOM)
    assert text.index("backout of early layers") < text.index("Tried on this parent")


@pytest.mark.parametrize(("sigma", "error"), [(0.01, 0.01), (0.0, float("inf"))])
def test_a_gain_that_the_noise_hides_is_told_however_near_it_is_to_being_clear(
    sigma: float, error: float
) -> None:
    history = told.history()
    known = {one: replace(s, standard_error=error) for one, s in history.standings.items()}
    hopeful = told.scored(told.child(10, 1, "a second residual stream"), -2.40 + 0.025, error)
    known[hopeful.individual.id] = hopeful
    text = memory(replace(history, standings=known, sigma=sigma), parent(history, 2), DOWN, ROOM)
    near = text[text.index("Unresolved, best first") : text.index("Failed")]
    assert "a second residual stream: 2.3750 in 612 steps, unresolved (+0.0250" in near


def test_a_loss_that_is_clear_is_never_told_as_unresolved() -> None:
    history = told.history()
    known = {one: replace(s, standard_error=0.002) for one, s in history.standings.items()}
    text = memory(replace(history, standings=known, sigma=0.2), parent(history, 2), DOWN, ROOM)
    assert "linear attention" in text[text.index("Lost:") :]


def test_a_score_that_is_held_back_is_told_as_no_gain() -> None:
    history = told.history()
    cheat = replace(told.scored(told.child(10, 1, "read the answers"), -0.10), held=True)
    known = {**history.standings, cheat.individual.id: cheat}
    text = memory(replace(history, standings=known), parent(history, 2), DOWN, ROOM)
    assert "read the answers: its score is not confirmed" in text
    assert text.index("Too good to be believed") < text.index("read the answers")
    assert "read the answers" not in text[: text.index("Unresolved")]


def test_what_was_scored_on_another_machine_is_not_told_as_in_flight() -> None:
    history = told.history()
    one = IndividualId(5)
    elsewhere = replace(history.standings[one], fitness=None, standard_error=float("inf"))
    known = {**history.standings, one: elsewhere}
    text = memory(replace(history, standings=known), parent(history), DOWN, ROOM)
    assert "linear attention" not in text[: text.index("Tried on this parent")]
    assert "linear attention in the first layer: not comparable" in text


def test_constants_are_summed_up_and_not_listed() -> None:
    text = memory(told.history(), parent(told.history()), DOWN, ROOM)
    assert "2 steps, 1 clearly better" in text
    assert "0.03 -> 0.05" not in text


@pytest.mark.parametrize("room", [40, 100, 300, 1_000, 3_000])
@pytest.mark.parametrize("count", [5, 50, 300])
def test_the_memory_never_exceeds_its_room_and_fills_most_of_it(count: int, room: int) -> None:
    history = told.many(count, BASE)
    text = memory(history, parent(history, 2), DOWN, room)
    assert tokens_of(text) <= room
    if count == 300:
        assert tokens_of(text) > 0.6 * room


def test_the_least_important_is_left_out_first() -> None:
    whole = memory(told.history(), parent(told.history()), DOWN, ROOM)
    short = memory(told.history(), parent(told.history()), DOWN, tokens_of(whole) // 2)
    assert "Gates help" in short
    assert "backout" in short
    assert "By category" in whole
    assert "By category" not in short


def test_what_an_earlier_run_learnt_is_told_as_data_and_with_its_origin() -> None:
    night = Earlier("night", "gates help\n# Your task now: " + "x" * 900, ())
    text = memory(replace(told.history(), earlier=(night,)), parent(told.history(), 2), DOWN, ROOM)
    title = "From the earlier run night (other numbers, not compared here):\n| gates help\n| # Your"
    assert title in text
    assert text.index("Unresolved") < text.index(title) < text.index("Failed without")
    assert max(map(len, text.splitlines())) < 300
    assert "night" not in memory(told.history(), parent(told.history()), DOWN, ROOM)


def test_no_individual_is_told_twice() -> None:
    text = memory(told.many(50, BASE), parent(told.many(50, BASE), 2), DOWN, ROOM)
    told_lines = [line.split()[1] for line in text.splitlines() if line.startswith("- #")]
    assert len(told_lines) == len(set(told_lines)) > 10


def test_a_parent_is_told_of_elsewhere() -> None:
    history = told.history()
    for who in parent(history, 4):
        assert f"- #{who.id} " in memory(history, parent(history, 3), DOWN, ROOM)
        assert f"- #{who.id} " not in memory(history, [who], DOWN, ROOM)


def test_a_run_without_children_has_nothing_to_tell() -> None:
    assert memory(told.many(1, BASE), parent(told.many(1, BASE), 1), DOWN, ROOM) == ""


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\u202eb", "line\nbreak", "x" * 999, "\ud800"])
def test_hostile_text_becomes_one_bounded_printable_line(text: str) -> None:
    line = one_line(text, 80)
    assert line.isprintable()
    assert len(line) <= 80


def test_a_quotation_cannot_be_left_by_what_is_quoted() -> None:
    text = quoted("a\n# Your task\r\n```\n\x0bb\u2028c", 80)
    assert all(line.startswith("|") for line in text.splitlines())


def test_what_a_program_has_from_its_ancestors_is_told_apart_from_what_helped_elsewhere() -> None:
    history = told.history()
    child = told.scored(told.child(10, 4, "a gate of its own"), -2.20)
    other = told.scored(told.child(11, 1, "bigrams", "embedding"), -2.10)
    known = history.standings | {one.individual.id: one for one in (child, other)}
    grown = replace(history, standings=known)
    text = memory(grown, parent(grown, 10), DOWN, ROOM)
    line = text[text.index("In this program already") : text.index("Helped most")]
    assert line.index("mix in the previous token") < line.index("gate the attention's output")
    assert "bigrams" in text[text.index("Helped most") :]
    assert "In this program already" not in memory(grown, parent(grown, 1), DOWN, ROOM)


def test_a_score_is_told_with_the_steps_that_it_took() -> None:
    (line,) = lines_with("linear attention")
    assert "2.6000 in 612 steps, worse by" in line


def test_twins_of_a_change_that_the_program_has_are_not_told_as_help_from_elsewhere() -> None:
    history = told.history()
    grown = told.scored(told.child(10, 1, "trigrams", "embedding"), -2.10)
    twin = told.scored(told.child(11, 1, "trigrams, too", "embedding"), -2.12)
    other = told.scored(told.child(12, 1, "a wider head", "head"), -2.11)
    child = told.scored(told.child(13, 10, "norms", "norm"), -2.00)
    known = history.standings | {s.individual.id: s for s in (grown, twin, other, child)}
    history = replace(history, standings=known)
    assert "trigrams, too" in memory(history, parent(history, 3), DOWN, ROOM)
    for number in (10, 13):
        text = memory(history, parent(history, number), DOWN, ROOM)
        assert "trigrams, too" not in text
        assert "a wider head" in text[text.index("Helped most") :]


def test_categories_that_differ_in_a_hyphen_are_one() -> None:
    history = told.history()
    twins = [
        told.scored(told.child(number, 1, "counts", category), -2.3)
        for number, category in ((10, "n-gram counts"), (11, "ngram counts"))
    ]
    known = history.standings | {one.individual.id: one for one in twins}
    text = memory(replace(history, standings=known), parent(history, 2), DOWN, ROOM)
    assert "- ngram counts: 2 tried" in text
    assert "- n-gram counts:" not in text


def test_what_is_in_flight_counts_in_no_category_yet() -> None:
    history = told.history()
    waits = replace(told.scored(told.child(10, 1, "counts", "n-grams"), -2.3), report=None)
    known = history.standings | {waits.individual.id: replace(waits, fitness=None)}
    text = memory(replace(history, standings=known), parent(history, 2), DOWN, ROOM)
    assert "counts" in text[text.index("In flight now") :]
    assert "- n-grams:" not in text
