import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mutate.hearsay import ANSWER_BYTES
from mutate.llm import CUT, Answer, Block, Usage
from mutate.received import Received
from tests.mutate.asking import KEY, LOCAL, QUESTION, refused
from tests.mutate.messages_server import Reply, Status

pytestmark = pytest.mark.usefixtures("only_this_machine")


def test_an_answer_is_its_text_without_the_thinking(ask: Callable[..., Answer]) -> None:
    text = "LR = 0.02\n" * 50
    answer = ask([Reply(text, thinking="perhaps " * 50, piece=7)])
    assert answer.text == text
    assert answer.stop_reason == "end_turn"
    assert answer.complete
    assert answer.duration_s > 0
    assert answer.usage.out == 225  # 900 bytes, thinking included
    assert answer.cost_usd == pytest.approx(
        (answer.usage.fresh * 4 + answer.usage.written * 8 + answer.usage.out * 20) / 1e6
    )


@pytest.mark.parametrize("opening", ["<think>\n", ""])
def test_thinking_that_a_local_server_leaves_in_the_text_is_no_part_of_the_answer(
    ask: Callable[..., Answer], opening: str
) -> None:
    text = "Hypothesis: x\n\n```python\nEND = '</think>'\n```"
    thought = f"{opening}First:\n```python\nEND = 2\n```\nNo.\n</think>\n\n"
    assert ask([Reply(thought + text)]).text == text
    assert ask([Reply(text)]).text == text


def test_a_request_holds_what_was_promised_and_nothing_else(serve: Callable[..., Any]) -> None:
    with serve([Reply("x")]) as (claude, server):
        claude.ask(QUESTION)
    marker = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert server.bodies == [
        {
            "model": "claude-opus-5-5",
            "max_tokens": 4000,
            "stream": True,
            "output_config": {"effort": "high"},
            "system": [{"type": "text", "text": "contract " * 300, **marker}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "program " * 100, **marker},
                        {"type": "text", "text": "change it"},
                    ],
                }
            ],
        }
    ]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_model_that_knows_neither_cache_nor_effort_gets_none(serve: Callable[..., Any]) -> None:
    with serve([Reply("x")]) as (claude, server):
        answer = claude.ask(replace(QUESTION, model=LOCAL))
        assert claude.count(replace(QUESTION, model=LOCAL)) is None
    assert b"cache_control" not in server.requests[0].raw
    assert "output_config" not in server.bodies[0]
    assert answer.cost_usd == 0.0
    assert len(server.requests) == 1


def test_no_effort_is_sent_where_none_is_wanted(serve: Callable[..., Any]) -> None:
    with serve([Reply("x")]) as (claude, server):
        claude.ask(replace(QUESTION, effort=""))
    assert "output_config" not in server.bodies[0]


def test_the_last_four_of_more_markers_are_kept(serve: Callable[..., Any]) -> None:
    block = Block("same", cached=True)  # one object many times: marked by place, not by identity
    question = replace(QUESTION, system=(block, block, Block("")), turns=((block, block, block),))
    with serve([Reply("x")]) as (claude, server):
        claude.ask(question)
    blocks = [*server.bodies[0]["system"], *server.bodies[0]["messages"][0]["content"]]
    assert ["cache_control" in b for b in blocks] == [False, True, True, True, True]


def test_turns_alternate_and_empty_blocks_are_left_out(serve: Callable[..., Any]) -> None:
    turns = ((Block("write"), Block("")), (Block("half"),), (Block("go on"),))
    with serve([Reply("x")]) as (claude, server):
        claude.ask(replace(QUESTION, system=(), turns=turns))
    body = server.bodies[0]
    assert "system" not in body
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert [len(m["content"]) for m in body["messages"]] == [1, 1, 1]


def test_the_same_question_is_the_same_bytes_and_its_prefix_is_cached(
    serve: Callable[..., Any],
) -> None:
    with serve([Reply("x"), Reply("x"), Reply("x")]) as (claude, server):
        first, second = claude.ask(QUESTION), claude.ask(QUESTION)
        other = (QUESTION.turns[0][0], Block("change it otherwise"))
        third = claude.ask(replace(QUESTION, turns=(other,)))
    raw = [request.raw for request in server.requests]
    assert raw[0] == raw[1]
    assert raw[2].startswith(raw[0][: raw[0].index(b"change it")])
    assert first.usage == Usage(fresh=3, written=875, cached=0, out=1)
    assert second.usage == Usage(fresh=3, written=0, cached=875, out=1)
    assert third.usage == Usage(fresh=5, written=0, cached=875, out=1)
    assert second.cost_usd < first.cost_usd / 10


def test_the_fake_caches_nothing_below_its_minimum(serve: Callable[..., Any]) -> None:
    short = replace(QUESTION, system=(Block("contract", cached=True),), turns=((Block("go"),),))
    with serve([Reply("x"), Reply("x")]) as (claude, _):
        claude.ask(short)
        assert claude.ask(short).usage == Usage(fresh=3, out=1)


def test_tokens_are_counted_for_free_or_not_at_all(serve: Callable[..., Any]) -> None:
    with serve([], counting=True) as (claude, server):
        assert claude.count(QUESTION) == 878
        assert set(server.requests[0].body) == {"model", "system", "messages"}
    with serve([], counting=False) as (claude, _):
        assert claude.count(QUESTION) is None
    assert claude.count(QUESTION) is None  # nobody listens there any more


def test_many_threads_ask_at_once(serve: Callable[..., Any]) -> None:
    def script(body: dict[str, Any]) -> Reply:
        return Reply(body["messages"][0]["content"][0]["text"], pause_s=0.002)

    answers: dict[int, str] = {}
    with serve(script) as (claude, _):

        def one(number: int) -> None:
            asked = replace(QUESTION, turns=((Block(f"number {number}"),),))
            answers[number] = claude.ask(asked).text

        threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: f"number {number}" for number in range(16)}


@pytest.mark.parametrize(
    "text",
    [
        "emoji 🧬🔬 and 👩‍🚀",
        "\u202eright to left\u202c עברית العربية",
        "\x1b]0;title\x07\x1b[2J\x1b[31m\x00\r\x08",
        "\u2028\u2029\x85\x0b\x0c ends of lines",
        '{"quoted": "\\ud800"}',
    ],
)
def test_any_text_comes_through_as_it_is(ask: Callable[..., Answer], text: str) -> None:
    assert ask([Reply(text, piece=1)]).text == text


def test_lone_surrogates_become_encodable_and_split_pairs_whole(ask: Callable[..., Answer]) -> None:
    answer = ask([Reply("a\ud800b\udfff \ud83e\uddec", piece=1)])
    assert answer.text == "a\ufffdb\ufffd \U0001f9ec"
    assert answer.text.encode()


def test_a_question_with_lone_surrogates_is_sent_all_the_same(serve: Callable[..., Any]) -> None:
    with serve([Reply("x")]) as (claude, server):
        assert claude.ask(replace(QUESTION, turns=((Block("log: \udcff"),),))).complete
    assert server.bodies[0]["messages"][0]["content"][0]["text"] == "log: \ufffd"


def test_an_answer_of_a_megabyte_is_whole(ask: Callable[..., Answer]) -> None:
    text = "x" * ANSWER_BYTES
    answer = ask([Reply(text, piece=2**14)])
    assert answer.text == text
    assert answer.complete


def test_a_longer_answer_is_cut_and_its_stream_closed(ask: Callable[..., Answer]) -> None:
    answer = ask([Reply("é" * ANSWER_BYTES * 3, piece=2**14)])
    assert answer.text == "é" * (ANSWER_BYTES // 2)
    assert answer.stop_reason == CUT
    assert answer.usage.out == QUESTION.max_tokens  # unsaid yet; nobody charges for more


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "pause_turn", "model_context_window"])
def test_other_endings_are_answers_too(ask: Callable[..., Answer], reason: str) -> None:
    answer = ask([Reply("half a pro", stop_reason=reason)])
    assert answer.text == "half a pro"
    assert answer.stop_reason == reason
    assert not answer.complete


def test_a_refusal_without_content_is_an_answer_that_was_charged(
    ask: Callable[..., Answer],
) -> None:
    answer = ask([Reply("", stop_reason="refusal")])
    assert answer.text == ""
    assert answer.stop_reason == "refusal"
    assert answer.usage.read == 878


def test_closing_ends_an_answer_that_is_arriving_and_keeps_what_it_has_cost(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Answer] = []
    begun, take = threading.Event(), Received.take

    def noted(received: Received, event: object) -> None:
        take(received, event)
        begun.set()

    monkeypatch.setattr(Received, "take", noted)
    with serve([Reply("program", events=4, ending="silent")]) as (claude, _):
        asking = threading.Thread(target=lambda: answers.append(claude.ask(QUESTION)))
        asking.start()
        assert begun.wait(20)
        claude.close()
        asking.join(20)
        assert not asking.is_alive()
        assert refused(claude).reason == "stopped"
    assert answers[0].stop_reason == CUT
    assert answers[0].usage.read > 0


def test_closing_before_an_answer_begins_is_no_fault_of_the_server(
    serve: Callable[..., Any],
) -> None:
    reasons: list[str] = []
    asked, released = threading.Event(), threading.Event()

    def wait(_: dict[str, Any]) -> Status:
        asked.set()
        released.wait(20)
        return Status(500)

    with serve(wait) as (claude, _):
        asking = threading.Thread(target=lambda: reasons.append(refused(claude).reason))
        asking.start()
        assert asked.wait(20)
        claude.close()
        released.set()
        asking.join(20)
    assert reasons == ["stopped"]
