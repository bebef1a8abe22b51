"""Runs with a language model: the real SDK against a server on this machine."""

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from evolve import running, steering
from evolve.announcing import silence_lines
from evolve.breeding import breeders
from evolve.composition import founders, identity
from evolve.config import Breeding, configure
from evolve.evidence import cost_of
from evolve.live import read_live
from evolve.reading import Reading
from evolve.taskfile import REPOSITORY, load_task
from mutate.models import KNOWN
from mutate.spending import Spent
from population.history import Program
from population.individual import Failed, Outcome, Request, Scored, Stage
from population.limits import SearchConfig
from population.lineage import DuckLineage
from population.parents import Mode
from population.search import Search
from tests.evolve.conftest import POLYNOMIAL, Evolve
from tests.evolve.scripted_model import ENDINGS, ScriptedModel
from tests.evolve.test_ending import Trainers
from tests.mutate.messages_server import MessagesServer, Reply, Scripted, Status
from tests.population.fakes import FakeEvaluation

KEY = "sk-ant-not-a-key-0123456789"
Serve = Callable[[Callable[[dict[str, Any]], Scripted]], MessagesServer]
OPUS = next(model for model in KNOWN if model.name == "claude-opus-5-5")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Return a function that starts a server, which the environment names from then on."""
    for name in [name for name in os.environ if "ANTHROPIC" in name]:
        monkeypatch.delenv(name)
    started: list[MessagesServer] = []

    def start(model: Callable[[dict[str, Any]], Scripted]) -> MessagesServer:
        server = MessagesServer(model)
        started.append(server.__enter__())
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        return server

    yield start
    for server in started:
        server.__exit__(None, None, None)


def looked_at(asked: Request) -> Outcome:
    """Score by the text alone: some programs fail, the others differ."""
    source = asked.genome.source
    if "os.fork" in source or "symlink_to" in source:
        return Failed(Stage.TRAINING, "crash", "BlockingIOError: Resource temporarily unavailable")
    return Scored(-(int(hashlib.sha256(source.encode()).hexdigest()[:6], 16) % 1_000) / 1_000)


def searched(folder: Path, breeding: Breeding, evaluations: int) -> list[str]:
    """Search the polynomial's programs without training them; return what people were told."""
    task = load_task(POLYNOMIAL)
    config = configure({"runs": folder, "name": "a", "task": POLYNOMIAL})
    notices: list[str] = []
    with DuckLineage.open(folder / "a", identity(config, task, None)) as lineage:
        bred_by = breeders(breeding, task, Spent(*lineage.spent()))
        text = task.program.read_text(encoding="utf-8")
        search = Search(
            config=SearchConfig(mode=Mode(breeding.search), max_evaluations=evaluations),
            direction=task.direction,
            lineage=lineage,
            evaluation=FakeEvaluation(slots=2, outcome=looked_at),
            portfolio=bred_by.portfolio,
            founders=founders(task),
            shards=task.shards,
            observer=lambda record, state: None,
            program=lambda: Program(text, lineage.keep_program(text)),
            on_end=bred_by.ask_no_more,
            on_stop=bred_by.give_up,
        )
        try:
            search.run(lambda: False)
        finally:
            bred_by.give_up()
        lineage.publish()
        while not bred_by.notices.empty():
            notices.append(bred_by.notices.get())
    return notices


def asked(folder: Path, sql: str) -> list[dict[str, Any]]:
    with Reading(folder / "a") as reading:
        return reading.query(sql).objects()


@pytest.mark.timeout(240)
def test_sixty_calls_and_more_account_for_every_answer_good_bad_and_malicious(
    tmp_path: Path, serve: Serve
) -> None:
    model = ScriptedModel()
    server = serve(model)
    searched(tmp_path, Breeding(models=("claude-opus-5-5",), cost_usd=50.0), 110)
    calls = asked(tmp_path, "FROM calls WHERE outcome NOT LIKE 'stopped%'")  # nobody was asked

    given = Counter(ENDINGS.get(kind, "end_turn") for kind in model.kinds)
    assert len(server.bodies) == len(model.kinds) >= 60
    given.pop(None)  # the SDK asked again
    assert Counter(call["stop_reason"] for call in calls) == given

    answered = [call for call in calls if call["stop_reason"]]
    assert sum(call["tokens_in"] for call in calls) == sum(one.read for one in model.usages)
    assert sum(call["tokens_cached"] for call in calls) == sum(one.cached for one in model.usages)
    assert sum(call["tokens_written"] for call in calls) == sum(one.written for one in model.usages)
    whole = [call for call in answered if call["stop_reason"] != "cut"]
    assert sum(call["tokens_out"] for call in whole) == model.written()
    for call in answered:
        read = call["tokens_in"] - call["tokens_cached"] - call["tokens_written"]
        usd = OPUS.cost_usd(read, call["tokens_written"], call["tokens_cached"], call["tokens_out"])
        assert call["cost_usd"] == pytest.approx(usd)

    accepted = Counter(call["outcome"] == "accepted" for call in calls if call["what"] != "notes")
    bred = asked(
        tmp_path,
        "SELECT count(*) AS n FROM proposal p WHERE EXISTS (FROM attempt a WHERE a.proposal = p.id "
        "AND a.model <> '' AND a.what <> 'notes' AND a.outcome = 'accepted')",
    )
    assert bred == [{"n": accepted[True]}]
    assert asked(tmp_path, "SELECT count(*) AS n FROM counted")[0]["n"] >= 40
    usd = sum(call["cost_usd"] for call in calls)
    operators = asked(tmp_path, "SELECT sum(cost_usd) AS usd FROM operators")[0]["usd"]
    assert operators == pytest.approx(usd)
    with Reading(tmp_path / "a") as reading:
        confirmed = cost_of(reading, {"better": True, "difference": -0.02})
        assert confirmed is not None
        assert confirmed["usd_per_confirmed_improvement"] == pytest.approx(usd)
        assert confirmed["usd_per_thousandth"] == pytest.approx(usd / 20)
        unsure = cost_of(reading, {"better": False, "difference": -0.02})
        assert unsure is not None
        assert unsure["usd"] == pytest.approx(usd)
        assert unsure["usd_per_thousandth"] is None
    prompts = asked(tmp_path, "FROM prompts WHERE prompt <> ''")
    assert len(prompts) >= len(calls)
    assert not [
        file for file in tmp_path.rglob("*") if file.is_file() and KEY in file.read_text("latin-1")
    ]


def everywhere(kinds: Mapping[str, Scripted]) -> Callable[[dict[str, Any]], Scripted]:
    """Return a script that answers each model in its own way, good answers where none is named."""
    good = ScriptedModel(only="good")
    return lambda body: kinds.get(body["model"]) or good(body)


NO = Status(401, "invalid x-api-key", kind="authentication_error")
GONE = Status(404, "model: claude-haiku-5-5", kind="not_found_error")
BUSY = Status(529, "overloaded", {"retry-after-ms": "1"})


@pytest.mark.parametrize(
    ("answer", "models", "told", "asks"),
    [
        (NO, ("claude-opus-5-5", "claude-haiku-5-5"), "invalid", 2),
        (GONE, ("claude-haiku-5-5",), "retired or unknown", 2),
        (BUSY, ("claude-haiku-5-5",), "rests, at first for 15 s", 8),
        (Reply("", stop_reason="refusal"), ("claude-haiku-5-5",), "has refused 5 times", 8),
    ],
)
def test_a_model_that_is_of_no_use_is_told_once_and_the_search_goes_on_without_keys(
    tmp_path: Path, serve: Serve, answer: Scripted, models: tuple[str, ...], told: str, asks: int
) -> None:
    server = serve(everywhere(dict.fromkeys(models, answer)))
    notices = searched(tmp_path, Breeding(models=models), 20)
    assert len(notices) == 1
    assert told in notices[0]
    assert asked(tmp_path, "SELECT count(*) AS n FROM counted") == [{"n": 20}]
    assert len(server.bodies) <= asks * 4  # each question at most four times, by the SDK
    with Reading(tmp_path / "a") as reading:
        silence = "".join(silence_lines(reading))
    if isinstance(answer, Status):
        assert silence.startswith("no language model has ever answered in this run: ")
    else:
        assert silence == ""  # who refuses has answered


def test_a_retired_model_leaves_its_share_to_the_others(tmp_path: Path, serve: Serve) -> None:
    serve(everywhere({"claude-haiku-5-5": GONE}))
    models = ("claude-opus-5-5", "claude-haiku-5-5=9")
    (notice,) = searched(tmp_path, Breeding(models=models), 16)
    assert "claude-haiku-5-5 is asked no more" in notice
    assert "the other models go on" in notice
    accepted = asked(tmp_path, "SELECT DISTINCT model FROM calls WHERE outcome = 'accepted'")
    assert accepted == [{"model": "claude-opus-5-5"}]
    with Reading(tmp_path / "a") as reading:
        assert silence_lines(reading) == []


@pytest.mark.parametrize("cap", [{"cost_usd": 0.2}, {"tokens": 90_000}])
def test_the_cap_ends_the_spending_and_not_the_search(
    tmp_path: Path, serve: Serve, cap: dict[str, Any]
) -> None:
    serve(everywhere({}))
    notices = searched(tmp_path, Breeding(models=("claude-opus-5-5",), **cap), 30)
    assert len(notices) == 1
    assert "the spending cap" in notices[0]
    (spent,) = asked(
        tmp_path, "SELECT sum(cost_usd) AS usd, sum(tokens_in + tokens_out) AS tokens FROM calls"
    )
    assert 0 < spent["usd"] <= cap.get("cost_usd", 100.0)
    assert 0 < spent["tokens"] <= cap.get("tokens", 1_000_000)
    assert asked(tmp_path, "SELECT count(*) AS n FROM counted") == [{"n": 30}]


def test_a_run_that_is_continued_counts_what_it_had_spent(tmp_path: Path, serve: Serve) -> None:
    server = serve(everywhere({}))
    models = Breeding(models=("claude-opus-5-5",), cost_usd=0.2)
    searched(tmp_path, models, 30)
    before = len(server.bodies)
    (notice,) = searched(tmp_path, models, 34)
    assert "the spending cap" in notice
    assert len(server.bodies) == before


def test_a_key_in_the_environment_alone_spends_nothing(tmp_path: Path, serve: Serve) -> None:
    server = serve(everywhere({}))
    assert searched(tmp_path, Breeding(), 8) == []
    assert server.requests == []


@pytest.mark.parametrize("search", ["greedy", "best-of"])
def test_the_controls_ask_the_same_models_for_children_of_one_parent_alone(
    tmp_path: Path, serve: Serve, search: str
) -> None:
    serve(everywhere({}))
    searched(tmp_path, Breeding(search, models=("claude-opus-5-5",)), 16)
    crossed = asked(tmp_path, "SELECT count(*) AS n FROM parent WHERE ordinal > 1")
    assert crossed == [{"n": 0}]
    parents = asked(tmp_path, "SELECT DISTINCT parent FROM parent")
    assert len(parents) == 1 if search == "best-of" else len(parents) >= 1


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_whole_run_tells_what_it_may_cost_what_it_cost_and_what_was_said(
    tmp_path: Path, serve: Serve, evolve: Evolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # this machine is asked for all the same
    server = serve(ScriptedModel(only="good"))
    runs = ("--runs", tmp_path)
    words = ("run", "--run", "a", "--task", POLYNOMIAL, "--slots", 2, "--plain", *runs)
    command = [sys.executable, "-m", "evolve.cli", *map(str, words)]
    asks = ["--llm", "--cost", "3", "--evaluations", "6"]
    done = subprocess.run(
        [*command, *asks], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    head = done.stdout[: done.stdout.index("founder #1")]
    assert "USD an hour" in head
    assert re.search(
        r"at most 3.00 USD in the whole run, 0.00 USD of it spent, enough for about \d+ calls", head
    )
    assert server.bodies
    status = evolve("status", *runs)
    assert "claude-opus-5-5" in status.out
    child = asked(tmp_path, "SELECT max(individual) AS id FROM calls")[0]["id"]
    assert "accepted" in evolve("show", child, *runs).out
    said = evolve("show", child, "--prompts", *runs).out
    assert "Propose one idea" in said or "Your task now" in said
    assert "since the sine bends" in said
    everything = done.stdout + done.stderr + status.out + said
    files = [file.read_text("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(KEY in text for text in (everything, *files))


def test_a_conversation_under_way_asks_nothing_while_the_run_is_paused(
    tmp_path: Path, serve: Serve, evolve: Evolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, paused = ScriptedModel(only="unmatched"), threading.Event()

    def answer(body: dict[str, Any]) -> Scripted:
        assert paused.wait(60)
        return model(body)  # which has to be mended

    def follow_ups() -> int:
        return sum(len(body["messages"]) > 1 for body in server.bodies)

    def person() -> int:
        while not server.bodies or not (read_live(folder / "live.json") or {})["asking"]:
            time.sleep(0.01)
        answers = [steering.pause(folder)]
        paused.set()
        time.sleep(1.5)
        meanwhile = follow_ups()
        answers.append(steering.resume(folder))
        while not follow_ups():
            time.sleep(0.01)
        answers.append(steering.stop(folder))
        assert [one.state for one in answers] == ["done"] * 3
        return meanwhile

    server, folder = serve(answer), tmp_path / "a"
    monkeypatch.setattr(running, "pool", lambda *_: Trainers(slots=2, outcome=looked_at))
    with ThreadPoolExecutor(1) as threads:
        steered = threads.submit(person)
        words = ("--task", POLYNOMIAL, "--runs", tmp_path, "--run", "a")
        said = evolve("run", *words, "--llm", "claude-opus-5-5", "--cost", 50)
        assert steered.result(60) == 0
    assert said.code == 130
    assert (read_live(folder / "live.json") or {})["asking"] == 0
