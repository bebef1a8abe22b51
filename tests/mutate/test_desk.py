import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from mutate.desk import (
    BAD_REQUESTS_IN_A_ROW,
    LEAST_ANSWER,
    LONGEST_REST_S,
    REFUSALS_IN_A_ROW,
    REST_S,
    Desk,
    Gate,
    most_of,
)
from mutate.llm import CUT, Answer, Block, Question, Scope, Unavailable
from mutate.models import Model
from mutate.spending import Purse, Spent
from tests.mutate.scripted import EDITOR, LOCAL, WRITER, Scripted, World, said, world

BUSY = Unavailable("overloaded", "the server is overloaded")
BAD = Unavailable("bad_request", "the request is malformed")
GONE = Unavailable("retired", "the model is retired", Scope.MODEL)
NO_KEY = Unavailable("invalid_key", "the key is invalid: set another", Scope.PROVIDER)
REFUSAL = said("", "refusal")


def question(model: Model = EDITOR, text: str = "breed", turns: int = 1) -> Question:
    turn = (Block(text),)
    return Question(model, (Block("system", cached=True),), (turn,) * turns, 16_000)


def ask(made: World, model: Model = EDITOR) -> Answer | Unavailable:
    try:
        return made.desk.ask(question(model))
    except Unavailable as trouble:
        return trouble


def picked(desk: Desk, *without: str) -> set[str]:
    found = (desk.pick(np.random.default_rng(seed), without) for seed in range(40))
    return {model.name for model in found if model is not None}


def test_an_answer_comes_through_and_its_cost_is_taken_from_the_purse() -> None:
    made = world(["hello"])
    answer = made.desk.ask(question())
    assert answer.text == "hello"
    assert made.purse.spent == Spent(answer.cost_usd, 1_100)
    assert made.told == []


def test_models_are_drawn_by_their_weights() -> None:
    models = [replace(EDITOR, weight=3.0), WRITER]
    desk = world([], models).desk
    rng = np.random.default_rng(0)
    names = [model.name for _ in range(400) if (model := desk.pick(rng))]
    assert abs(names.count("editor") / 400 - 0.75) < 0.08
    assert picked(desk, "editor") == {"writer"}
    assert picked(desk, "editor", "writer") == set()


def test_a_model_whose_children_win_is_drawn_more_often_and_none_is_left_out() -> None:
    desk = world([], [replace(EDITOR, weight=3.0), WRITER]).desk
    rng = np.random.default_rng(0)
    worths = {"editor": 0.05, "writer": 0.8}
    names = [model.name for _ in range(400) if (model := desk.pick(rng, (), worths))]
    assert 0.2 < names.count("editor") / 400 < 0.5


# Rests


def test_a_model_that_does_not_answer_rests_twice_as_long_each_time_and_is_told_of_once() -> None:
    made = world(lambda _: BUSY)
    for n in range(12):
        rest_s = min(REST_S * 2**n, LONGEST_REST_S)
        assert made.desk.ready
        assert ask(made) is BUSY
        made.clock.now += rest_s - 0.1
        assert not made.desk.ready
        assert made.desk.pick(np.random.default_rng(0)) is None
        made.clock.now += 0.2
    assert made.told == ["editor rests, at first for 15 s: the server is overloaded"]


def test_a_model_that_stays_silent_for_weeks_still_rests_ten_minutes() -> None:
    made = world(lambda _: BUSY)
    for _ in range(1_100):
        ask(made)
        made.clock.now += LONGEST_REST_S
    assert made.desk.ready
    assert len(made.told) == 1


def test_a_server_that_asks_for_patience_is_given_it() -> None:
    made = world([Unavailable("rate_limited", "slow down", retry_after_s=100.0)])
    ask(made)
    made.clock.now += 99
    assert not made.desk.ready
    made.clock.now += 2
    assert made.desk.ready


def test_a_model_that_answers_again_is_told_of_once_and_begins_with_a_short_rest() -> None:
    made = world([BUSY, BUSY, "fine", "fine", BUSY, "fine"])
    for _ in range(6):
        ask(made)
        made.clock.now += REST_S * 2
    assert [line.split(":")[0] for line in made.told] == [
        "editor rests, at first for 15 s",
        "editor answers again",
        "editor rests, at first for 15 s",
        "editor answers again",
    ]


def test_calls_that_were_under_way_when_a_model_was_sent_to_rest_change_nothing() -> None:
    late = Unavailable("timeout", "it took too long", retry_after_s=20.0)
    made = world([BUSY, BUSY, BUSY, "late", REFUSAL, late])
    for _ in range(6):
        ask(made)
    assert made.told == ["editor rests, at first for 15 s: the server is overloaded"]
    made.clock.now += 19
    assert not made.desk.ready
    made.clock.now += 2
    assert made.desk.ready


def test_one_of_several_models_rests_and_the_others_go_on() -> None:
    made = world([BUSY], [EDITOR, WRITER])
    ask(made)
    assert picked(made.desk) == {"writer"}
    assert made.desk.ready


def test_a_model_that_refuses_again_and_again_rests_until_it_answers() -> None:
    script: list[str | Answer] = [*[REFUSAL] * (REFUSALS_IN_A_ROW - 1), "fine"]
    script += [*[REFUSAL] * (REFUSALS_IN_A_ROW + 1), "fine"]
    made = world(script)
    for _ in range(2 * REFUSALS_IN_A_ROW):
        assert made.desk.ready
        ask(made)
    assert not made.desk.ready
    for _ in range(2):
        made.clock.now += LONGEST_REST_S
        ask(made)
    assert made.told == [
        "editor rests, at first for 600 s: it has refused 5 times in a row",
        "editor answers again",
    ]


# Death


def test_a_model_that_is_gone_is_never_asked_again() -> None:
    made = world([GONE], [EDITOR, WRITER])
    ask(made)
    made.clock.now += 1e9
    assert picked(made.desk) == {"writer"}
    assert isinstance(ask(made), Unavailable)
    assert len(made.llm.asked) == 1
    assert made.told == [
        "editor is asked no more: the model is retired; the other models go on",
    ]


def test_with_its_provider_every_model_behind_it_is_gone_and_no_other() -> None:
    dead, alive, told = Scripted([NO_KEY]), Scripted([]), list[str]()
    adapters = {"editor": dead, "writer": dead, "local": alive}
    purse = Purse(1.0, None, Spent())
    desk = Desk(
        [EDITOR, WRITER, LOCAL], adapters, purse, told.append, dict.fromkeys(adapters, Gate(64))
    )
    with pytest.raises(Unavailable):
        desk.ask(question())
    assert picked(desk) == {"local"}
    assert told == [
        "editor, writer is asked no more: the key is invalid: set another; the other models go on"
    ]


def test_without_any_model_the_desk_is_not_ready_and_says_who_goes_on() -> None:
    made = world([NO_KEY])
    ask(made)
    assert not made.desk.ready
    assert made.told[-1].endswith("the keyless operators go on alone")


@pytest.mark.parametrize("late", [BUSY, "fine", REFUSAL, NO_KEY])
def test_whatever_a_call_under_way_brings_a_model_that_is_gone_stays_so(
    late: str | Answer | Unavailable,
) -> None:
    inside = threading.Event()
    go_on = threading.Event()

    def script(asked: Question) -> str | Answer | Unavailable:
        if asked.turns[0][0].text == "late":
            inside.set()
            assert go_on.wait(60)
            return late
        return NO_KEY

    made = world(script)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(lambda: made.desk.ask(question(text="late")))
        assert inside.wait(60)
        ask(made)
        go_on.set()
        slow.exception(60)
    made.clock.now += 1e6
    assert not made.desk.ready
    assert len(made.told) == 1


def test_a_model_that_finds_every_request_bad_is_given_up() -> None:
    made = world([BAD] * (BAD_REQUESTS_IN_A_ROW - 1) + ["fine"] + [BAD] * BAD_REQUESTS_IN_A_ROW)
    for _ in range(2 * BAD_REQUESTS_IN_A_ROW):
        assert made.desk.ready
        ask(made)
    assert not made.desk.ready
    assert made.told == [
        "editor is asked no more: the request is malformed; the keyless operators go on alone"
    ]


def test_a_model_whose_answers_are_cut_off_twice_in_a_row_rests_and_its_gate_never_widens_by_them() -> (
    None
):
    gate = Gate(8)
    gate.narrow()
    width = gate.width
    made = world([said("half", CUT), "whole", said("half", CUT), said("half", CUT)], gate=gate)
    first = made.desk.ask(question())
    assert first.text == "half"
    assert made.purse.spent.usd == first.cost_usd
    assert gate.width == width
    ask(made)
    ask(made)
    assert made.desk.ready
    ask(made)
    assert not made.desk.ready
    assert "cut off" in made.told[0]


def test_the_category_of_refusals_is_told() -> None:
    refusal = replace(said("", "refusal"), category="frontier_llm")
    made = world([refusal] * REFUSALS_IN_A_ROW)
    for _ in range(REFUSALS_IN_A_ROW):
        ask(made)
    assert "for frontier_llm" in made.told[0]


# The purse


def test_a_call_reserves_more_than_it_can_cost() -> None:
    asked = question(text="é" * 1_000)
    most = most_of(asked, 16_000)
    dearest = EDITOR.cost_usd(fresh=0, written=2_000 + len("system"), cached=0, out=16_000)
    assert most.usd >= dearest
    assert most.tokens >= 2_000 + 16_000


def test_an_empty_purse_is_told_of_once_and_the_desk_is_no_longer_ready() -> None:
    made = world([], usd=5.0, spent=Spent(4.9999, 1_000))
    troubles = [ask(made) for _ in range(3)]
    assert [t.reason for t in troubles if isinstance(t, Unavailable)] == ["spent", "gone", "gone"]
    assert not made.desk.ready
    assert len(made.told) == 1
    assert "cap of 5.00 USD" in made.told[0]
    assert "--cost" in made.told[0]
    assert made.llm.asked == []


def test_tokens_are_capped_where_nothing_is_known_of_prices() -> None:
    made = world(lambda _: "fine", [LOCAL], tokens=20_000)
    for _ in range(40):
        ask(made, LOCAL)
    assert 10_000 < made.purse.spent.tokens <= 20_000
    assert not made.desk.ready
    assert "20,000 tokens" in made.told[0]


def test_the_last_answers_are_shorter_and_never_too_short_to_be_one() -> None:
    asked = question()
    made = world(["fine"], usd=most_of(asked, 5_000).usd)
    made.desk.ask(asked)
    assert made.llm.asked[0].max_tokens == 4_000
    poor = world([], usd=most_of(asked, LEAST_ANSWER - 1).usd)
    assert isinstance(ask(poor), Unavailable)


def test_a_model_of_short_answers_is_asked_all_the_same() -> None:
    made = world(["x"], [replace(LOCAL, answer_tokens=500)])
    asked = replace(question(LOCAL), max_tokens=500)
    assert made.desk.ask(asked).text == "x"
    assert made.llm.asked[0].max_tokens == 500


def test_a_model_without_a_price_goes_on_when_the_money_for_the_others_is_spent() -> None:
    made = world(lambda _: "fine", [EDITOR, LOCAL], usd=1e-6)
    ask(made, EDITOR)
    assert made.told[0].endswith("the other models go on")
    assert picked(made.desk) == {"local"}
    assert isinstance(ask(made, LOCAL), Answer)


def test_a_cheap_model_goes_on_when_a_dear_one_costs_too_much() -> None:
    made = world(lambda _: "fine", [EDITOR, WRITER], usd=0.02)
    assert isinstance(ask(made, EDITOR), Unavailable)
    assert isinstance(ask(made, WRITER), Answer)
    assert picked(made.desk) == {"writer"}


def test_what_a_model_has_cost_in_earlier_calls_of_the_run_is_reserved_from_the_first_on() -> None:
    made = world(["x"], [LOCAL], usd=1.0, spent=Spent(0.7, 0))
    made.desk.remember({LOCAL.name: 0.4})
    trouble = ask(made, LOCAL)
    assert isinstance(trouble, Unavailable)
    assert trouble.reason == "spent"


def test_a_model_whose_price_shows_in_its_answers_only_is_stopped_at_the_cap() -> None:
    answer = replace(said("fine"), cost_usd=0.3)
    made = world(lambda _: answer, [LOCAL], usd=1.0)
    for _ in range(9):
        ask(made, LOCAL)
    assert made.purse.spent.usd == pytest.approx(0.9)
    assert not made.desk.ready


def test_a_conversation_that_has_grown_too_dear_ends_alone() -> None:
    long = question(text="x" * 5_000, turns=9)
    made = world(["fine"], usd=most_of(question(), 16_000).usd)
    with pytest.raises(Unavailable, match="spending cap") as error:
        made.desk.ask(long)
    assert error.value.reason == "spent"
    assert made.told == []
    assert isinstance(ask(made), Answer)


def test_a_call_whose_money_others_have_reserved_waits_and_is_not_cut_short() -> None:
    inside, go_on = threading.Semaphore(0), threading.Event()

    def script(_: Question) -> str:
        inside.release()
        assert go_on.wait(60)
        return "fine"

    made = world(script, usd=1.5 * most_of(question(), 16_000).usd)
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(made.desk.ask, question()) for _ in range(2)]
        assert inside.acquire(timeout=60)
        assert not inside.acquire(timeout=0.05)
        go_on.set()
        assert [one.result(60).text for one in both] == ["fine", "fine"]
    assert [asked.max_tokens for asked in made.llm.asked] == [16_000, 16_000]
    assert made.desk.ready


def test_an_adapter_that_breaks_gives_its_reservation_back() -> None:
    def broken(_: Question) -> str:
        raise ZeroDivisionError

    made = world(broken, usd=most_of(question(), 16_000).usd)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            made.desk.ask(question())
    assert made.purse.spent == Spent()


def test_many_threads_spend_no_more_than_the_cap_and_nearly_all_of_it() -> None:
    call = most_of(question(), 16_000).usd
    made = world(lambda _: "fine", usd=3 * call)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: [ask(made) for _ in range(40)], range(16)))
    assert 2 * call < made.purse.spent.usd <= 3 * call
    assert len(made.told) == 1


# The gate


def test_a_server_that_keeps_its_callers_waiting_too_long_gets_fewer_of_them() -> None:
    made = world([Unavailable("timeout", "the answer took too long")], gate=Gate(8))
    with made.gate, made.gate, made.gate:
        ask(made)
    assert made.gate.width == 2


def test_a_gate_halves_from_what_was_in_use_and_is_never_shut() -> None:
    gate = Gate(64)
    with gate, gate, gate, gate:
        gate.narrow()
        assert gate.width == 2
    for _ in range(9):
        gate.narrow()
    assert gate.width == 1


def test_one_overload_counts_once_however_many_calls_meet_it() -> None:
    gate = Gate(64)
    with gate, gate, gate, gate, gate, gate, gate, gate:
        for _ in range(8):
            gate.narrow()
        assert gate.width == 4
    with gate, gate, gate, gate:
        gate.narrow()
    assert gate.width == 2


def test_a_gate_widens_by_one_in_as_many_calls_as_it_lets_through() -> None:
    gate = Gate(4)
    gate.narrow()
    widths = []
    for _ in range(12):
        gate.widen()
        widths.append(gate.width)
    assert widths[0] == 2
    assert widths == sorted(widths)
    assert widths[-1] == 4


def test_no_more_calls_run_at_once_than_the_gate_is_wide() -> None:
    inside, most, lock = [0], [0], threading.Lock()

    def script(_: Question) -> str:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        threading.Event().wait(0.001)
        with lock:
            inside[0] -= 1
        return "fine"

    made = world(script, gate=Gate(3))
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda _: ask(made), range(36)))
    assert most[0] == 3


def closed_amid(made: World, count: int, hangs: "Hangs") -> list[str]:
    """Close the desk while one of `count` calls hangs; return why the others got no answer."""
    told = threading.Semaphore(0)

    def call() -> Answer | Unavailable:
        result = ask(made)
        told.release()
        return result

    with ThreadPoolExecutor(count) as threads:
        calls = [threads.submit(call) for _ in range(count)]
        assert hangs.inside.wait(60)
        made.desk.close()
        for _ in range(count - 1):
            assert told.acquire(timeout=60)
        hangs.go_on.set()
        results = [one.result(60) for one in calls]
    return [one.reason for one in results if isinstance(one, Unavailable)]


class Hangs:
    """A script whose calls hang until they may go on."""

    def __init__(self) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()

    def __call__(self, question: Question) -> str:
        self.inside.set()
        assert self.go_on.wait(60)
        return "fine"


def test_calls_under_way_are_counted_once_however_many_models_share_their_server() -> None:
    hangs = Hangs()
    desk = world(hangs, [EDITOR, WRITER]).desk
    assert desk.under_way == 0
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(desk.ask, question())
        assert hangs.inside.wait(60)
        assert desk.under_way == 1
        hangs.go_on.set()
        call.result(60)
    assert desk.under_way == 0


def test_whoever_waits_at_the_gate_is_told_when_the_desk_is_closed() -> None:
    hangs = Hangs()
    made = world(hangs)
    made.gate.narrow()
    assert closed_amid(made, 4, hangs) == ["stopped"] * 3
    assert not made.desk.ready


def test_whoever_waits_for_the_purse_is_told_when_the_desk_is_closed() -> None:
    hangs = Hangs()
    made = world(hangs, usd=1.1 * most_of(question(), 16_000).usd)
    assert closed_amid(made, 2, hangs) == ["stopped"]
    assert made.told == []


def test_a_desk_that_is_held_lets_calls_end_and_none_begin() -> None:
    hangs = Hangs()
    made = world(hangs)
    with ThreadPoolExecutor(3) as threads:
        under_way = threads.submit(ask, made)
        assert hangs.inside.wait(60)
        made.desk.hold(True)
        later = [threads.submit(ask, made) for _ in range(2)]
        while made.gate._inside < 3:
            time.sleep(0.001)
        hangs.go_on.set()
        assert isinstance(under_way.result(60), Answer)
        assert len(made.llm.asked) == 1
        made.desk.hold(False)
        assert all(isinstance(one.result(60), Answer) for one in later)


def test_whoever_waits_at_a_desk_that_is_held_is_told_when_it_is_closed() -> None:
    made = world(["hello"])
    made.desk.hold(True)
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(ask, made)
        made.desk.close()
        result = waits.result(60)
    assert isinstance(result, Unavailable)
    assert result.reason == "stopped"
    assert made.purse.spent == Spent()
    assert made.told == []


def test_calls_that_break_off_at_the_end_are_no_news() -> None:
    def broken_off(_: Question) -> Unavailable:
        made.desk.close()
        return NO_KEY

    made = world(broken_off)
    assert ask(made) is NO_KEY
    assert made.told == []
