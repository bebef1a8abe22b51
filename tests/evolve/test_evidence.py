"""What an exam found, as a sentence, and the noise beside it."""

from typing import Any

import pytest

from evolve.evidence import Finalists, _noise
from evolve.verdict import verdict
from population.individual import IndividualId


def evidence(**claim: Any) -> dict[str, Any]:
    found = {
        "difference": -0.0919,
        "half_width": 0.0204,
        "confidence": 0.95,
        "pairs": 6,
        "better": True,
        "error": 0.005,
        "comparison": 1,
        "error_budget_of_the_run": 0.01,
        "noise": {"both": 0.0067},
        "failures": [],
        "less_reliable": False,
        "disturbed": 0,
    }
    return {
        "metric": "val_bpb",
        "champion": {"individual": 17},
        "founder": {"individual": 2},
        "claim": found | claim,
        "other_exams": [],
        "self_reported": False,
        "unprotected": 0,
        "cost": None,
    }


def test_a_claim_says_by_how_much_how_surely_and_on_which_share_of_the_budget() -> None:
    first, second = verdict(evidence()).splitlines()
    assert first == (
        "exam: #17 is better than founder #2 by 0.0919 +- 0.0204 val_bpb "
        "(95%, 6 pairs on fresh seeds, noise of one score 0.0067)"
    )
    assert second.strip() == (
        "claimed falsely in at most 0.5% of cases: comparison 1 of this run, "
        "of whose 1% it gets 1/2"
    )


@pytest.mark.parametrize(("error", "says"), [(0.01 / 6, "0.17%"), (0.01 / 12, "0.083%")])
def test_later_comparisons_name_their_smaller_share(error: float, says: str) -> None:
    said = verdict(evidence(error=error, comparison=2))
    assert f"at most {says} of cases" in said
    assert f"gets 1/{0.01 / error:.0f}" in said


def test_what_is_not_decided_says_which_way_it_went() -> None:
    first = verdict(evidence(better=False, difference=0.002, half_width=None)).splitlines()[0]
    assert "is not shown to be better than founder #2: val_bpb higher by 0.0020 +- unknown" in first


def test_without_a_complete_pair_nothing_is_claimed() -> None:
    said = verdict(evidence(difference=None, failures=["a pair, seed 3: broken"]))
    assert said.splitlines() == [
        "exam: a pair, seed 3: broken",
        "exam: no complete pair: nothing is claimed",
    ]


def test_an_exam_that_was_too_short_to_claim_anything_says_how_long_it_must_be() -> None:
    said = verdict(evidence(better=False, half_width=None, pairs=3))
    assert "so few pairs claim nothing, whatever they show: ask for 5" in said
    assert "so few" not in verdict(evidence())


def test_an_exam_on_a_busy_machine_is_said_to_have_been_held_there() -> None:
    said = verdict(evidence(disturbed=5))
    assert "others used the machine during 5 of its scores" in said
    assert "others used" not in verdict(evidence())


class Sigma:
    """Stands in for a reading of a run: its noise."""

    def query(self, sql: str) -> "Sigma":
        return self

    def objects(self) -> list[dict[str, float]]:
        return [{"sigma": 0.01}]


def test_the_noise_of_a_program_is_that_of_its_trainings_in_full() -> None:
    shared = {"shard": "selection", "comparability": "k", "to_repeat": False, "individual": 17}
    values = [("rung", 3.0), ("screen", 2.001), ("race", 1.999), ("race", 2.0)]
    scores = [shared | {"purpose": purpose, "value": value} for purpose, value in values]
    noise = _noise(Sigma(), Finalists(IndividualId(17), IndividualId(2)), scores)  # type: ignore[arg-type]
    assert noise is not None
    assert noise["champion"] < 0.01 == noise["founder"]


def test_a_champion_that_failed_more_often_is_said_to_have() -> None:
    said = verdict(evidence(better=False, less_reliable=True))
    assert "it failed more often than the founder, which rules a claim out" in said
    assert "failed more often" not in verdict(evidence())
