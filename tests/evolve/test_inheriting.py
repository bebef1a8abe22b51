"""Runs that are born from earlier ones: real lineages, no training."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evolve.composition import founders, identity
from evolve.config import RunConfig, configure
from evolve.inheriting import (
    MOST_FOUNDERS,
    Ranked,
    born,
    bring,
    brought_founders,
    brought_line,
    brought_to,
    choose_founders,
    choose_points,
)
from evolve.reading import Reading
from mutate import genome
from mutate.checks import Checks
from mutate.constants import ENOUGH_RESULTS, ConstantsMutation
from population.errors import RunError
from population.history import History
from population.identity import STATE
from population.individual import (
    Change,
    Failed,
    Genome,
    Individual,
    IndividualId,
    Outcome,
    Scored,
    Stage,
)
from population.limits import SearchConfig
from population.lineage import DuckLineage
from population.ports import (
    ACCEPTED,
    NOTES,
    Attempt,
    Brought,
    Cleared,
    Proposal,
    Proposed,
    Quarantined,
    Record,
)
from population.task import Direction
from tests.evolve.conftest import POLYNOMIAL, arrival, evaluation
from tests.population.fakes import FakeEvaluation, never, search

LINE, CUBIC = ((POLYNOMIAL / "seeds" / name).read_text() for name in ("line.py", "cubic.py"))
OTHER = "SLOPE = 0.5  # 0..1\nprint(SLOPE)\n"
CRASH = Failed(Stage.TRAINING, "crash", "it raised")


def line(slope: float) -> str:
    return genome.rewrite(LINE, {"SLOPE": slope})


def made(number: int, source: str, *parents: int, why: str = "") -> Individual:
    return Individual(
        id=IndividualId(number),
        genome=Genome(source),
        parents=tuple(IndividualId(parent) for parent in parents),
        operator="explore" if parents else "founder",
        structure=genome.structure(source),
        fingerprint=genome.fingerprint(source),
        changes=(Change(f"+{number}", why, "shape"),) if why else (),
    )


def scores(*rows: tuple[str, Outcome]) -> list[Record]:
    """Return founders with one evaluation each."""
    records: list[Record] = []
    for number, (source, outcome) in enumerate(rows, 1):
        one = made(number, source)
        records += [arrival(one), *evaluation(number, one, outcome)]
    return records


NIGHT = scores(
    (LINE, Scored(-0.5)),
    (line(0.3), Scored(-0.4)),
    (line(0.4), Scored(-0.2)),
    (OTHER, Scored(-3.0)),
)


def configured(runs: Path, name: str, **given: Any) -> RunConfig:
    return configure({"runs": runs, "name": name, "task": POLYNOMIAL, **given})


def left(runs: Path, records: Iterable[Record], name: str = "night", **other: Any) -> Path:
    """Record and publish an earlier run; `other` replaces what it was about."""
    config = configured(runs, name)
    about = replace(identity(config, config.load_task(), None), **other)
    with DuckLineage.open(config.folder, about) as lineage:
        for record in records:
            lineage.record(record)
        lineage.publish()
    return config.folder


def brought(runs: Path, *names: str, **given: Any) -> Brought:
    """Return what a new run would be born from."""
    config = configured(runs, "new", earlier=names or ("night",), **given)
    task = config.load_task()
    found = bring(config, task, identity(config, task, None))
    assert found is not None
    return found


def opened(config: RunConfig) -> DuckLineage:
    task = config.load_task()
    return born(config, task, identity(config, task, None))


def test_the_best_found_a_new_run_where_only_its_own_scores_count(tmp_path: Path) -> None:
    left(tmp_path, NIGHT)
    config = configured(tmp_path, "new", earlier=("night",))

    def inverted(asked: Any) -> Outcome:
        """Score what was best there worst here."""
        return Scored(-9.0 if asked.genome.source == line(0.4) else -1.0)

    with opened(config) as lineage:
        found = brought_founders(brought_to(lineage), "p")
        assert [one.name for one in found] == ["night-3", "night-4"]
        assert [one.genome.source for one in found] == [line(0.4), OTHER]
        run = search(SearchConfig(max_evaluations=8), lineage, FakeEvaluation(outcome=inverted))
        run = replace(
            run, founders=[*founders(config.load_task()), *found], direction=Direction.MAXIMIZE
        )
        state = run.run(never)
        lineage.publish()
    names = {state.individuals[one].name: one for one in state.founders}
    assert list(names) == ["line", "cubic", "night-3", "night-4"]
    assert all(len(state.ranking_values(one)) == 2 for one in names.values())
    assert state.history().standings[names["night-3"]].fitness == -9.0
    assert state.survivors[-1] == names["night-3"]
    with Reading(config.folder) as reading:
        assert reading.top(9).objects()[-1]["name"] == "night-3"


def test_a_run_goes_on_when_those_that_it_was_born_from_are_gone(tmp_path: Path) -> None:
    folder = left(tmp_path, NIGHT)
    with opened(configured(tmp_path, "new", earlier=("night",))) as lineage:
        first = brought_to(lineage)
    shutil.rmtree(folder)
    again = configure({"runs": tmp_path, "name": "new"})
    assert again.breeding.earlier == (str(folder),)
    with opened(again) as lineage:
        assert brought_to(lineage) == first
        assert lineage.seq == 1
    assert first is not None
    assert [one.fitness for one in first.earlier[0].precedents] == [-0.2, -3.0, -0.4, -0.5]


def test_a_run_that_was_killed_before_its_first_record_is_still_born_from_them(
    tmp_path: Path,
) -> None:
    left(tmp_path, NIGHT)
    expected = brought(tmp_path)
    config = configured(tmp_path, "new", earlier=("night",))
    DuckLineage.open(config.folder, identity(config, config.load_task(), None)).close()
    with opened(configure({"runs": tmp_path, "name": "new"})) as lineage:
        assert brought_to(lineage) == expected


def test_whom_a_quarantine_holds_is_not_brought_nor_what_its_change_gained(tmp_path: Path) -> None:
    cheat = made(5, line(0.9), 1, why="read the answers")
    refused = made(6, line(0.8), 1, why="read some of them")
    honest = made(7, line(0.7), 1, why="a steeper line")
    records: list[Record] = [*NIGHT]
    for one, value in ((cheat, 5.0), (refused, 4.0), (honest, -0.1)):
        number = one.id
        proposal = Proposal(one.operator, one.parents, one.genome, changes=one.changes)
        records += [Proposed(number, proposal, one), *evaluation(number, one, Scored(value))]
    records += [
        Quarantined(cheat.id, IndividualId(1), 5.5, 0.1),
        Quarantined(refused.id, IndividualId(1), 4.5, 0.1),
        Cleared(refused.id, False, 0.0),
    ]
    left(tmp_path, records)
    (earlier,) = brought(tmp_path).earlier
    assert {one.individual for one in earlier.precedents} == {1, 2, 3, 4, 7}
    assert "+0.4000 in 1 program [shape] a steeper line" in earlier.memory
    assert "read" not in earlier.memory


def test_the_latest_notes_of_a_run_are_brought(tmp_path: Path) -> None:
    notes = [
        Proposed(
            number,
            Proposal(
                "explore", (), None, refusal="no", attempts=(Attempt(NOTES, outcome, answer=text),)
            ),
            None,
        )
        for number, (text, outcome) in enumerate(
            [("old", ACCEPTED), ("curves\nhelp", ACCEPTED), ("cut", "no notes")], 1
        )
    ]
    left(tmp_path, [*NIGHT, *notes])
    assert brought(tmp_path).earlier[0].memory == "curves\nhelp"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"evaluator_sha256": "f" * 64}, "another evaluator"),
        ({"conditions": '{"evaluator.kind": "reported"}'}, "another kind of evaluator"),
        ({"conditions": '{"evaluator.command": ["score"]}'}, "another scoring command"),
        ({"configuration": '{"budget": "200steps"}'}, "another kind of budget"),
    ],
)
def test_scores_that_were_earned_otherwise_are_withheld_and_programs_are_not(
    tmp_path: Path, other: dict[str, Any], why: str
) -> None:
    left(tmp_path, NIGHT, **other)
    found = brought(tmp_path)
    assert [one.founds for one in found.earlier[0].precedents] == [True, True]
    assert [one.fitness for one in found.earlier[0].precedents] == [None, None]
    assert brought_line(found) == f"#3, #4 of night, no scores ({why}); founders are scored anew"


@pytest.mark.parametrize(
    ("records", "other", "says"),
    [
        ([], {}, "nothing is scored in that run"),
        (scores((LINE, CRASH)), {}, "nothing is scored in that run"),
        (NIGHT, {"metric": "loss"}, "its metric is loss and not closeness"),
        (NIGHT, {"direction": Direction.MINIMIZE}, "its direction is minimize and not maximize"),
        (NIGHT, {"artifact": "train.py"}, "its artifact is train.py and not solve.py"),
    ],
)
def test_a_run_that_has_nothing_for_this_task_is_refused_before_a_new_one_is_born(
    tmp_path: Path, records: list[Record], other: dict[str, Any], says: str
) -> None:
    left(tmp_path, records, **other)
    config = configured(tmp_path, "new", earlier=("night",))
    with pytest.raises(RunError, match=f"--from night: .*{says}"):
        opened(config)
    assert not (config.folder / STATE).exists()


def ranked(*rows: tuple[str, str]) -> list[Ranked]:
    return [Ranked(n, -float(n), structure, name) for n, (structure, name) in enumerate(rows, 1)]


def test_founders_are_few_new_and_of_two_structures_where_there_are_two() -> None:
    first = ranked(("a", "seed"), ("a", "w"), ("a", "x"), ("b", "y"))
    second = ranked(("a", "w"), ("a", "x"), ("a", "z"))
    chosen = choose_founders([first, second], {"seed"})
    assert [[one.fingerprint for one in own] for own in chosen] == [["w", "y"], ["x", "z"]]
    many = [ranked((f"s{n}", f"{n}"), (f"t{n}", f"{n}'")) for n in range(9)]
    assert sum(map(len, choose_founders(many, set()))) == MOST_FOUNDERS
    assert [len(own) for own in choose_founders(many[:4], set())] == [2, 2, 1, 1]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 500])
def test_points_are_the_best_and_some_of_all_others(count: int) -> None:
    programs = ranked(*(("a", str(n)) for n in range(count)))
    chosen = choose_points(programs, 100, np.random.default_rng(0))
    assert len(set(chosen)) == len(chosen) == min(count, 100)
    assert list(chosen[:50]) == programs[:50]
    assert count < 500 or chosen[-1].individual > 300


def test_the_first_proposals_of_numbers_know_what_the_earlier_run_knew(tmp_path: Path) -> None:
    slopes = [n / 100 for n in (*range(2, 38, 4), *range(52, 100, 4))]
    assert len(slopes) >= ENOUGH_RESULTS
    left(tmp_path, scores(*((line(slope), Scored(-abs(slope - 0.45))) for slope in slopes)))
    with opened(configured(tmp_path, "new", earlier=("night",))) as lineage:
        outcome = lambda asked: Scored(-7.0)  # noqa: E731 - another scale
        run = search(SearchConfig(max_evaluations=2), lineage, FakeEvaluation(outcome=outcome))
        warm = replace(run, founders=[made(1, LINE)]).run(never).history()
    parent = warm.standings[IndividualId(1)].individual
    operator = ConstantsMutation(Checks("solve.py"))

    def proposed(history: History) -> list[Proposal]:
        return [
            operator.propose([parent], history, np.random.default_rng(seed)) for seed in range(20)
        ]

    learned = [one for one in proposed(warm) if one.attempts[-1].what == "model"]
    assert len(learned) > 10
    assert {one.attempts[-1].what for one in proposed(replace(warm, earlier=()))} == {"step"}
    near = [0.2 < float(one.constants["SLOPE"]) < 0.6 for one in learned]
    assert sum(near) > 0.7 * len(near)
