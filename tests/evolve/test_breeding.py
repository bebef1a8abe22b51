"""Operators of a run: whose they are, and what asking costs, told beforehand."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evolve.breeding import breeders
from evolve.composition import founders
from evolve.config import SEARCHES, Breeding
from evolve.controls import CONTROLS
from evolve.estimate import Estimate
from evolve.taskfile import REPOSITORY, load_task
from mutate.spending import Spent
from population.errors import RunError
from population.history import History, Standing
from population.individual import IndividualId
from population.newcomers import STALLED
from population.ports import Choice
from population.proposals import propose
from tests.evolve.conftest import POLYNOMIAL, Evolve
from tests.mutate.messages_server import MessagesServer, Reply

TASK = load_task(POLYNOMIAL)


def scored() -> History:
    standings = {one.id: Standing(one, -float(one.id), 0.1, 1, 0, 0) for one in founders(TASK)}
    return History(standings, tuple(standings), {}, 0.1)


def readme_operator() -> str:
    """Return the operator that the README shows."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"```python\n(.*?class .*?)```", text, re.DOTALL)
    return str(found)


def test_an_operator_of_ones_own_is_a_file_of_thirty_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(readme_operator(), encoding="utf-8")
    (name,) = re.findall(r"^class (\w+)", readme_operator(), re.MULTILINE)
    bred_by = breeders(Breeding(operators=(f"{file}:{name}",)), TASK, Spent())
    mine = bred_by.portfolio.operators[-1]
    assert len(readme_operator().splitlines()) <= 30
    history, rng = scored(), np.random.default_rng(0)
    choices = (bred_by.portfolio.choose(history, rng) for _ in range(200))
    choice = next(one for one in choices if one.variation is mine)
    proposal = propose(choice, history, rng)
    assert proposal.refusal == ""
    assert proposal.genome is not None
    assert proposal.operator == mine.name


@pytest.mark.parametrize(("search", "tuned"), [("evolve", {9}), ("greedy", set())])
def test_a_population_tunes_newcomers_before_it_judges_them_and_a_chain_does_not(
    search: str, tuned: set[int]
) -> None:
    known, (founder, *_) = scored(), founders(TASK)
    for number in (*range(5, 10), *range(20, 20 + STALLED)):
        structure = str(number) if number < 10 else founder.structure
        child = replace(
            founder, id=IndividualId(number), parents=(founder.id,), structure=structure
        )
        known.standings[child.id] = Standing(child, -2.0, 0.1, 1, 0, 0)
    portfolio = breeders(Breeding(search), TASK, Spent()).portfolio
    chosen = [portfolio.choose(known, np.random.default_rng(seed)) for seed in range(50)]
    assert {one for choice in chosen for one in choice.parents} == tuned


@pytest.mark.parametrize(("later", "crosses"), [(STALLED - 1, False), (STALLED, True)])
def test_beside_a_model_parents_are_crossed_once_the_search_has_stalled(
    later: int, crosses: bool
) -> None:
    known, (founder, *_) = scored(), founders(TASK)  # the first one is the best
    for number in range(20, 20 + later - len(known.survivors) + 1):
        child = replace(founder, id=IndividualId(number), parents=(founder.id,))
        known.standings[child.id] = Standing(child, -2.0, 0.1, 1, 0, 0)
    portfolio = breeders(Breeding(models=("claude-opus-5-5",)), TASK, Spent()).portfolio
    chosen = {portfolio.choose(known, np.random.default_rng(n)).variation.name for n in range(200)}
    assert {"explore", "constants"} <= chosen
    assert bool(chosen & {"crossover", "recombination"}) is crosses


@pytest.mark.parametrize(
    ("search", "what"),
    [
        ("evolve", "step"),  # too few results for a model
        ("greedy", "step"),
        ("best-of", "step"),
        ("random", "random"),
        ("tpe", "tpe"),
        ("cmaes", "cma-es"),
    ],
)
def test_each_way_to_search_varies_constants_as_its_name_says(search: str, what: str) -> None:
    bred_by = breeders(Breeding(search), TASK, Spent())
    history, rng = scored(), np.random.default_rng(0)
    numeric = next(one for one in bred_by.portfolio.operators if one.name == "constants")
    proposal = propose(Choice(numeric), history, rng)
    assert {attempt.what for attempt in proposal.attempts} == {what}
    assert proposal.genome is not None


@pytest.mark.parametrize("search", ["random", "tpe", "cmaes"])
def test_a_control_that_varies_constants_alone_says_so_where_more_is_asked(search: str) -> None:
    assert [one.name for one in breeders(Breeding(search), TASK, Spent()).portfolio.operators] == [
        "constants"
    ]
    for more in (
        Breeding(search, models=("claude-opus-5-5",)),
        Breeding(search, operators=("mine.py:Mine",)),
    ):
        with pytest.raises(RunError, match="nothing but constants"):
            breeders(more, TASK, Spent())


def test_the_help_names_every_way_to_search() -> None:
    assert tuple(CONTROLS) == SEARCHES


@pytest.mark.parametrize(
    ("text", "mention", "says"),
    [
        ("", "mine.py", "must be FILE.py:CLASS"),
        ("", "absent.py:Mine", "cannot be loaded"),
        ("x = 1", "mine.py:Mine", "has no attribute 'Mine'"),
        ("def Mine(): pass", "mine.py:Mine", "positional"),
        (
            "class Mine:\n    name = 'm'\n    def __init__(self, c): pass",
            "mine.py:Mine",
            "lacks arity",
        ),
        *(
            (
                f"class Mine:\n    name, arity, slow, propose = '{name}', 1, False, None\n"
                "    def __init__(self, c): pass",
                "mine.py:Mine",
                f"is named '{name}', as another one is",
            )
            for name in ("constants", "inject", "founder")
        ),
    ],
)
def test_an_operator_that_is_none_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mention: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(RunError, match=re.escape(says)):
        breeders(Breeding(operators=(mention,)), TASK, Spent())


def test_a_dry_run_shows_prompt_tokens_and_cost_and_asks_nobody(
    evolve: Evolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MessagesServer([Reply("no")]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        said = evolve("run", "--llm", "--dry-run", "--task", POLYNOMIAL, "--runs", tmp_path)
    assert said.code == 0
    assert "follow sin(x)" in said.out
    assert "Propose one idea" in said.out
    assert "tokens, as the server counts them; claude-opus-5-5" in said.out
    assert re.search(r"expected: [0-9.]+ USD an hour", said.out)
    assert server.bodies == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cost", "says"),
    [("0.01", "too little for a call"), ("3", r"enough for about \d+ calls")],
)
def test_a_dry_run_tells_what_the_cap_is_enough_for(
    evolve: Evolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: str, says: str
) -> None:
    with MessagesServer([Reply("no")]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        words = ("--llm", "--dry-run", "--cost", cost)
        said = evolve("run", *words, "--task", POLYNOMIAL, "--runs", tmp_path)
    assert re.search(rf"at most {float(cost):.2f} USD .*{says}", said.out), said.out


def test_a_price_that_nobody_knows_is_not_told_as_free() -> None:
    said = str(Estimate(tokens_in=9_000, calls_per_h=20.0, usd_per_call=0.0))
    assert "USD" not in said
    assert "without a known price (20 an hour, 9,000 tokens in" in said


@pytest.mark.parametrize(
    ("model", "says"), [("", "set ANTHROPIC_API_KEY"), ("claude-code", "npm install")]
)
def test_who_asks_for_a_model_that_cannot_be_had_is_told_at_once(
    evolve: Evolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, says: str
) -> None:
    for name in [name for name in os.environ if "ANTHROPIC" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ("--llm", model) if model else ("--llm",)
    said = evolve("run", "--task", POLYNOMIAL, "--runs", tmp_path / "runs", *words)
    assert said.code == 2
    assert says in said.err
    assert "--no-llm" in said.err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_without_a_model_says_what_is_missing(evolve: Evolve, tmp_path: Path) -> None:
    said = evolve("run", "--dry-run", "--task", POLYNOMIAL, "--runs", tmp_path)
    assert said.code == 2
    assert "add --llm" in said.err
