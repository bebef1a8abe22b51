from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEvaluation, MemoryLineage, folded, never, search, value_of
from journal import (
    CRASH,
    IDENTITY,
    OTHER_MACHINE,
    bred,
    family,
    founded,
    refused,
    selected,
    trial,
)

from population.database import Connection
from population.individual import (
    KILLED,
    EvaluationId,
    Failed,
    IndividualId,
    Measurement,
    Outcome,
    ProposalId,
    Purpose,
    Request,
    Scored,
    Stage,
)
from population.lineage import DuckLineage, RunIdentity, open_published
from population.parents import fittest
from population.ports import (
    Abandoned,
    Attempt,
    Cleared,
    Ended,
    Pinned,
    Proposal,
    Proposed,
    Quarantined,
    Record,
)
from population.search import SearchConfig
from population.statistics import Estimate
from population.task import Direction

UPWARD = replace(IDENTITY, metric="accuracy", direction=Direction.MAXIMIZE)


@contextmanager
def published(
    folder: Path, records: Iterable[Record], identity: RunIdentity = IDENTITY
) -> Iterator[Connection]:
    with DuckLineage.open(folder, identity) as lineage:
        for record in records:
            lineage.record(record)
        lineage.publish()
    with open_published(folder) as reader:
        yield reader


def rows(reader: Connection, query: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = reader.execute(query).fetchall()
    return found


COLUMNS = {
    "leaderboard": "rank individual name operator generation mean shrunken_mean standard_error "
    "evaluations failures alive parents born_at quarantine pinned self_reported",
    "ancestry": "individual ancestor depth",
    "line_of_descent": "individual depth ancestor operator name mean gain",
    "progress": "n ended_at individual value best_so_far",
    "operators": "operator proposals refused evaluated failed improved mean_gain cost_usd",
    "evaluations": "evaluation individual purpose shard seed attempt status value stage reason "
    "detail contended comparability host device started_at ended_at started_seq ended_seq "
    "protected self_reported",
    "sources": "individual source",
    "logs": "evaluation individual log",
    "prompts": "proposal ordinal operator individual what outcome prompt answer",
    "failures": "reason n example",
    "waste": "evaluations failed device_s wasted_s wasted_share saved_s",
    "calls": "proposal ordinal intent parents individual what model effort prompt_sha256 tokens_in "
    "tokens_cached tokens_written tokens_out cost_usd duration_s stop_reason outcome",
}


def test_the_columns_of_the_views_are_a_promise(tmp_path: Path) -> None:
    with published(tmp_path, []) as reader:
        for view, columns in COLUMNS.items():
            described = reader.execute(f"FROM {view}").description
            assert [column[0] for column in described] == columns.split()


def test_the_leaderboard_ranks_by_the_latest_shrunken_mean(tmp_path: Path) -> None:
    with published(tmp_path, family()) as reader:
        board = rows(
            reader,
            "SELECT rank, individual, name, operator, generation, mean, shrunken_mean, "
            "standard_error, evaluations, failures, alive, parents FROM leaderboard",
        )
    assert board == [
        (1, 3, "", "nudge", 1, 2.0, 2.2, 0.1, 1, 0, True, [1, 2]),
        (2, 1, "first", "founder", 0, 3.0, 3.0, 0.1, 1, 0, True, []),
        (3, 2, "second", "founder", 0, 4.0, 3.9, 0.2, 1, 0, False, []),
    ]


def test_a_larger_metric_ranks_first_where_the_task_says_so(tmp_path: Path) -> None:
    with published(tmp_path, family(), UPWARD) as reader:
        board = rows(reader, "SELECT individual FROM leaderboard ORDER BY rank")
        best = rows(reader, "SELECT value, best_so_far FROM progress ORDER BY n")
        gain = rows(reader, "SELECT gain FROM gains")
    assert board == [(2,), (1,), (3,)]
    assert best == [(3.0, 3.0), (4.0, 4.0), (2.0, 4.0)]
    assert gain == [(-1.0,)]


def test_whom_no_ranking_names_stands_by_its_raw_mean_behind_all_whom_one_does(
    tmp_path: Path,
) -> None:
    records = [
        founded(1),
        *trial(1, 1, 3.0),
        selected(0, (1, 3.0, float("inf")), sigma=0.2),
        bred(2, 1),
        *trial(2, 2, 2.0),
        *trial(3, 2, 3.0, purpose=Purpose.RACE),
    ]
    with published(tmp_path, records) as reader:
        board = rows(reader, "SELECT * EXCLUDE (parents, born_at) FROM leaderboard")
    founder, own = board
    assert own[1:8] == (2, "", "nudge", 1, 2.5, 2.5, pytest.approx(0.2 / 2**0.5))
    assert own[8:] == (2, 0, True, "", False, False)
    assert founder[7] == pytest.approx(0.2)


def test_the_leaderboard_is_in_the_order_of_the_ranks_that_were_published_last(
    tmp_path: Path,
) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for record in [*family(), bred(7, 1), *trial(19, 7, 0.1)]:
            lineage.record(record)
        for means in ({1: 3.0, 2: 2.0, 3: 2.5}, {1: 2.0, 2: 2.7, 3: 2.5, 7: 2.6}):
            lineage.publish({IndividualId(who): Estimate(m, 0.5) for who, m in means.items()})
    with open_published(tmp_path) as reader:
        board = rows(
            reader, "SELECT individual, shrunken_mean, standard_error, alive FROM leaderboard"
        )
    assert board == [
        (1, 2.0, 0.5, True), (3, 2.5, 0.5, True), (7, 2.6, 0.5, True), (2, 2.7, 0.5, False),
    ]  # fmt: skip


def test_a_publication_names_the_leader_whom_the_search_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)

    def noisy(asked: Request) -> Outcome:
        outcome = value_of(asked)
        noise = float(rng.normal(0.0, 0.3))
        return Scored(outcome.value + noise) if isinstance(outcome, Scored) else outcome

    memory = MemoryLineage()
    config = SearchConfig(mu=4, lambda_=4, max_evaluations=60)
    search(config, memory, FakeEvaluation(2, outcome=noisy)).run(never)
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for number, record in enumerate(memory.records, 1):
            lineage.record(record)
            if number % 40 and number < len(memory.records):
                continue
            state = folded(memory.records[:number])
            lineage.publish(state.ranks())
            with open_published(tmp_path) as reader:
                first = rows(reader, "SELECT individual FROM leaderboard WHERE rank = 1")
            best = fittest(state.history().standings.values())
            assert first == ([(best.individual.id,)] if best else [])


def test_a_scored_individual_that_no_selection_kept_is_not_alive(tmp_path: Path) -> None:
    records = [
        founded(1),
        founded(2),
        *trial(1, 1, 3.0),
        *trial(2, 2, 4.0),
        selected(0, (1, 3.0, 0.1)),
    ]
    with published(tmp_path, records) as reader:
        assert rows(reader, "SELECT individual, alive FROM leaderboard") == [(1, True), (2, False)]


def test_attempts_at_one_evaluation_count_once_the_clean_one_before_the_latest(
    tmp_path: Path,
) -> None:
    records = [
        founded(1),
        *trial(1, 1, 9.0, contended=True),
        *trial(2, 1, 3.0, seed=1, attempt=2),
        *trial(3, 1, 8.0, contended=True, seed=2),
        *trial(4, 1, 5.0, contended=True, seed=2, attempt=2),
    ]
    with published(tmp_path, records) as reader:
        assert rows(reader, "SELECT mean, evaluations FROM leaderboard") == [(4.0, 2)]


@pytest.mark.parametrize(
    "other",
    [
        list(trial(9, 1, 0.5, purpose=Purpose.CONFIRM, shard="confirmation")),
        list(trial(9, 1, 0.5, purpose=Purpose.EXAM, shard="exam")),
        list(trial(9, 1, 0.5, shard="confirmation")),
        list(trial(9, 1, 0.5, contended=True, seed=1, attempt=2)),
        list(trial(9, 1, float("inf"))),
        list(trial(9, 1, -1e200)),
        list(trial(9, 1, 0.5, machine=OTHER_MACHINE)),
        list(trial(9, 1, CRASH)),
    ],
)
def test_only_comparable_ranking_scores_count(tmp_path: Path, other: list[Record]) -> None:
    records = [founded(1), *trial(1, 1, 3.0), *trial(2, 1, 3.5), *other]
    with published(tmp_path, records) as reader:
        assert rows(reader, "SELECT mean, evaluations FROM leaderboard") == [(3.25, 2)]
        assert rows(reader, "SELECT min(best_so_far) FROM progress") == [(3.0,)]


def test_a_contended_score_counts_where_there_is_no_other(tmp_path: Path) -> None:
    records = [founded(1), *trial(1, 1, 3.0, contended=True)]
    with published(tmp_path, records) as reader:
        assert rows(reader, "SELECT mean FROM leaderboard") == [(3.0,)]


@pytest.mark.parametrize(
    ("outcome", "stands"),
    [
        (CRASH, False),
        (float("nan"), False),
        (Failed(Stage.INFRASTRUCTURE, "lost_node", "the node left"), True),
        (Failed(Stage.TRAINING, KILLED, "by hand"), True),
    ],
)
def test_what_a_contended_score_is_followed_by_counts_as_the_search_counts_it(
    tmp_path: Path, outcome: float | Failed, stands: bool
) -> None:
    first = trial(1, 1, 3.0, seed=1, contended=True)
    records = [founded(1), *first, *trial(2, 1, outcome, seed=1, attempt=2)]
    assert folded(records, infrastructure_retries=0).anything_scored == stands
    with published(tmp_path, records) as reader:
        assert rows(reader, "SELECT mean FROM leaderboard") == [(3.0,)] * stands


def test_failures_of_the_machine_are_not_held_against_an_individual(tmp_path: Path) -> None:
    lost = Failed(Stage.INFRASTRUCTURE, "lost_node", "the node left")
    records = [founded(1), *trial(1, 1, lost), *trial(2, 1, CRASH), *trial(3, 1, 3.0)]
    with published(tmp_path, records) as reader:
        assert rows(reader, "SELECT failures FROM leaderboard") == [(1,)]
        assert rows(reader, "FROM failures") == [
            ("crash", 1, "it divides by zero: do not"),
            ("lost_node", 1, "the node left"),
        ]


def test_waste_is_the_device_time_of_failures_after_the_first_twenty(tmp_path: Path) -> None:
    lost = Failed(Stage.INFRASTRUCTURE, "lost_node", "the node left")
    outcomes = [*[CRASH] * 20, 3.0, CRASH, lost, 2.5]
    records: list[Record] = [founded(1)]
    for number, outcome in enumerate(outcomes, 1):
        started, ended = trial(number, 1, outcome, purpose=Purpose.RACE)
        assert isinstance(ended, Ended)
        seconds = 2.0 if outcome is CRASH else 10.0
        saved = (Measurement("saved_s", 8.0, "s"),) if outcome is CRASH else ()
        result = replace(
            ended.result, started_at=100.0, ended_at=100.0 + seconds, measurements=saved
        )
        records += [started, Ended(result)]
    with published(tmp_path / "early", records[:41]) as reader:
        assert rows(reader, "FROM waste") == []
    with published(tmp_path / "late", records) as reader:
        assert rows(reader, "FROM waste") == [(4, 1, 32.0, 2.0, 2 / 32, 8.0)]


def test_a_short_training_ranks_nobody_and_is_no_success_of_its_operator(tmp_path: Path) -> None:
    records: list[Record] = [founded(1), *trial(1, 1, 3.0)]
    records += [bred(2, 1), *trial(2, 2, 3.5, purpose=Purpose.RUNG), *trial(3, 2, 2.0)]
    records += [bred(3, 1), *trial(4, 3, 0.1, purpose=Purpose.RUNG)]
    records += [bred(4, 1), *trial(5, 4, CRASH, purpose=Purpose.RUNG)]
    records += [bred(5, 1), *trial(6, 5, 3.1, purpose=Purpose.RUNG), *trial(7, 5, CRASH)]
    with published(tmp_path, records) as reader:
        board = rows(reader, "SELECT individual, mean, evaluations FROM leaderboard")
        told = rows(reader, "SELECT evaluated, failed, improved FROM operators")
    assert board == [(2, 2.0, 1), (1, 3.0, 1)]
    assert told == [(4, 2, 1)]


def test_ancestry_goes_through_all_parents_by_the_shortest_way(tmp_path: Path) -> None:
    records = [founded(1), founded(2), bred(3, 1, 2), bred(4, 3, 1), bred(5, 4)]
    with published(tmp_path, records) as reader:
        ancestors = rows(
            reader, "SELECT ancestor, depth FROM ancestry WHERE individual = 5 ORDER BY ALL"
        )
        own = rows(reader, "SELECT ancestor, depth FROM ancestors(5) ORDER BY ALL")
        line = rows(
            reader,
            "SELECT depth, ancestor, operator FROM line_of_descent WHERE individual = 5 "
            "ORDER BY depth",
        )
    assert ancestors == own == [(1, 2), (2, 3), (3, 2), (4, 1)]
    assert line == [(0, 5, "nudge"), (1, 4, "nudge"), (2, 3, "nudge"), (3, 1, "founder")]


def test_progress_counts_every_evaluation_that_ended(tmp_path: Path) -> None:
    records = [
        founded(1),
        *trial(1, 1, 3.0),
        *trial(2, 1, CRASH),
        *trial(3, 1, 2.0),
        *trial(4, 1, 2.5),
    ]
    with published(tmp_path, records) as reader:
        assert rows(reader, "FROM progress") == [
            (1, 1.0, 1, 3.0, 3.0),
            (3, 3.0, 1, 2.0, 2.0),
            (4, 4.0, 1, 2.5, 2.0),
        ]


def test_operators_are_credited_with_gain_over_the_first_parent(tmp_path: Path) -> None:
    records = [*family(), refused(6, cost_usd=1.0), bred(7, 2, 3), *trial(9, 7, 4.5)]
    with published(tmp_path, records) as reader:
        assert rows(reader, "FROM operators") == [
            ("leap", 1, 0, 1, 1, 0, None, 0.0),
            ("nudge", 4, 2, 2, 0, 1, pytest.approx((1.0 - 0.5) / 2), 1.75),
        ]


def test_every_call_of_a_model_is_a_row_and_nothing_else_is(tmp_path: Path) -> None:
    tuned = bred(4, 1, operator="constants")
    steps = (Attempt("tpe", "accepted"),)
    tuned = replace(tuned, proposal=replace(tuned.proposal, attempts=steps))
    records = [founded(1), founded(2), bred(3, 2, 1, operator="crossover", cost_usd=0.25), tuned]
    with published(tmp_path, records) as reader:
        calls = rows(reader, "FROM calls")
    call = ("call", "m", "low", "f" * 64, 10, 5, 3, 20, 0.25, 1.0, "end_turn", "ok")
    assert calls == [(3, 1, "crossover", [2, 1], 3, *call)]


def test_calls_stand_in_their_order_and_add_up_exactly(tmp_path: Path) -> None:
    calls = tuple(
        Attempt("edit", f"no {n}", cost_usd=n / 64, tokens_in=2**33 + n, tokens_out=n, model="m")
        for n in range(1, 13)
    )
    refusal = Proposal("explore", (), None, refusal="no", attempts=calls)
    records = [
        founded(1),
        Proposed(ProposalId(9), refusal, None),
        Proposed(ProposalId(2), refusal, None),
    ]
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for record in records:
            lineage.record(record)
        spent = lineage.spent()
        lineage.publish()
    with open_published(tmp_path) as reader:
        order = rows(reader, "SELECT proposal, ordinal, outcome FROM calls")
        sums = rows(reader, "SELECT sum(cost_usd), sum(tokens_in + tokens_out) FROM calls")
        by_operator = rows(reader, "SELECT operator, cost_usd FROM operators")
    assert order == [(p, n, f"no {n}") for p in (2, 9) for n in range(1, 13)]
    usd, tokens = 2 * 78 / 64, 2 * (12 * 2**33 + 2 * 78)
    assert sums == [(usd, tokens)]
    assert spent == (usd, tokens)
    assert by_operator == [("explore", usd)]


def test_a_change_is_one_row_with_all_that_carry_it(tmp_path: Path) -> None:
    first, second = bred(2, 1), bred(3, 1)
    assert first.individual is not None
    assert second.individual is not None
    twin = replace(second, individual=replace(second.individual, changes=first.individual.changes))
    records = [founded(1), first, twin, *trial(1, 1, 3.0), *trial(2, 2, 2.0), *trial(3, 3, 1.0)]
    with published(tmp_path, records) as reader:
        carried = rows(
            reader, "SELECT category, hypothesis, carriers, mean_gain FROM changes WHERE carriers"
        )
    assert carried == [("constant", "a larger child", 2, 1.5)]


def test_an_evaluation_says_what_became_of_it(tmp_path: Path) -> None:
    started, _ = trial(3, 1, 1.0)
    running, _ = trial(4, 1, 1.0)
    records = [
        founded(1),
        *trial(1, 1, 3.0),
        *trial(2, 1, CRASH),
        started,
        Abandoned(EvaluationId(3)),
        running,
    ]
    with published(tmp_path, records) as reader:
        fates = rows(reader, "SELECT status FROM evaluations ORDER BY evaluation")
    assert fates == [("scored",), ("failed",), ("abandoned",), ("running",)]


def test_the_latest_pin_is_told_on_the_leaderboard(tmp_path: Path) -> None:
    first, second = IndividualId(1), IndividualId(2)
    pins = [Pinned(first, True), Pinned(second, True), Pinned(first, False), Pinned(second, True)]
    with published(tmp_path, [*family(), *pins]) as reader:
        board = rows(reader, "SELECT individual, pinned FROM leaderboard ORDER BY individual")
    assert board == [(1, False), (2, True), (3, False)]


def test_whom_the_quarantine_holds_ranks_behind_all_others_and_is_named(tmp_path: Path) -> None:
    ids = [IndividualId(number) for number in range(5)]
    records = [
        founded(1),
        *trial(1, 1, 3.0),
        *(bred(number, 1) for number in (2, 3, 4)),
        *(one for number in (2, 3, 4) for one in trial(number, number, 1.0 + number / 10)),
        *(Quarantined(ids[number], ids[1], 1.0, 0.1) for number in (2, 3, 4)),
        Cleared(ids[3], True, 1.0),
        Cleared(ids[4], False, 0.0),
    ]
    with published(tmp_path, records) as reader:
        board = rows(reader, "SELECT individual, quarantine FROM leaderboard ORDER BY rank")
    assert board == [(3, "confirmed"), (1, ""), (2, "held"), (4, "refused")]


def test_counted_values_weigh_as_much_as_their_trials_where_all_were_counted(
    tmp_path: Path,
) -> None:
    def counted(evaluation: int, who: int, successes: float, trials: float) -> Iterator[Record]:
        began, ended = trial(evaluation, who, successes / trials)
        assert isinstance(ended, Ended)
        counts = {"successes": successes, "trials": trials}
        measured = tuple(Measurement(name, value, "1") for name, value in counts.items())
        yield from (began, replace(ended, result=replace(ended.result, measurements=measured)))

    records = [founded(1), founded(2), *counted(1, 1, 1, 4), *counted(2, 1, 300, 1000)]
    records += [*counted(3, 2, 1, 4), *trial(4, 2, 0.75)]
    with published(tmp_path, records, UPWARD) as connection:
        found = rows(connection, "SELECT individual, mean, evaluations FROM means ORDER BY 1")
    assert found == [(1, pytest.approx(301 / 1004), 2), (2, pytest.approx(0.5), 2)]
