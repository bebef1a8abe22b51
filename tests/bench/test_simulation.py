"""Simulated searches: the project's own search in a world without devices."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bench.landscape import Truth
from bench.search import LEARNING, Job, Searched, report, searched
from bench.simulation import Device, founders, laddered, outcome, shipped, simulate
from mutate.genome import values
from population.individual import EvaluationId, Failed, Purpose, Request, Scored


class Bowl:
    """Best at LR 0.1 and WIDTH 96; the widest programs do not fit."""

    name = "bowl"
    founders = ("LR = 0.01  # log 0.0001..1\nWIDTH = 32  # 1..128\nrun()\n",)
    targets = (0.5, 0.1)

    def truth(self, source: str) -> Truth:
        told = values(source)
        if int(told["WIDTH"]) > 120:
            return Truth(None, cost_s=1.0, reason="out_of_memory")
        away = math.log10(float(told["LR"])) + 1, (int(told["WIDTH"]) - 96) / 64
        return Truth(away[0] ** 2 + away[1] ** 2, sigma=0.01, cost_s=10.0)


@pytest.mark.parametrize("name", ["evolve", "greedy", "random", "tpe", "cmaes", "best-of"])
def test_a_search_is_told_as_it_stood_after_each_evaluation(name: str) -> None:
    trace = simulate(shipped(name), Bowl(), seed=0, evaluations=30)
    assert [row.evaluations for row in trace.rows] == sorted(row.evaluations for row in trace.rows)
    assert trace.rows[-1].evaluations == 30
    assert trace.rows[-1].true < trace.rows[0].true
    assert trace.rows[-1].device_s == 10 * (30 - trace.rows[-1].failures) + trace.rows[-1].failures
    assert simulate(shipped(name), Bowl(), seed=0, evaluations=30) == trace


def test_the_evaluation_that_is_quickest_comes_back_first_and_sets_the_clock() -> None:
    device = Device(Bowl(), slots=2)
    (founder,) = founders(Bowl.founders)
    quick = replace(founder.genome, source=founder.genome.source.replace("32", "128"))
    for number, genome in enumerate((founder.genome, quick), 1):
        device.submit(Request(EvaluationId(number), founder.id, genome, 0, "s", Purpose.SCREEN))
    assert [device.wait(0.0)[0].request for _ in range(2)] == [2, 1]
    assert (device.clock_s, device.device_s) == (10.0, 11.0)
    assert device.wait(0.0) == []


def test_one_evaluation_is_the_truth_with_noise_that_depends_on_the_seed() -> None:
    truth = Truth(1.0, sigma=0.1)
    found = [outcome(truth, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert isinstance(found[0], Scored)
    assert isinstance(outcome(Truth(None, reason="out_of_memory"), 1), Failed)


class Steps(Bowl):
    """The same; a training at the rung takes a fifth of the time and sees half of the slope."""

    def truth(self, source: str) -> Truth:
        whole = super().truth(source)
        value = None if whole.value is None else 1.0 + whole.value / 2
        return replace(whole, rung=replace(whole, value=value, cost_s=2.0))


def test_a_ladder_trains_more_programs_in_the_same_time_and_few_of_them_in_full() -> None:
    plain, ladder = (
        simulate(laddered(shipped("evolve"), rung), Steps(), seed=0, evaluations=30)
        for rung in (None, 0.2)
    )
    assert plain.rows[-1].device_s == pytest.approx(ladder.rows[-1].device_s, rel=0.1)
    assert ladder.rows[-1].leader > plain.rows[-1].leader
    seconds = {round(b.device_s - a.device_s) for a, b in pairwise(ladder.rows)}
    assert {2, 10} <= seconds


def test_what_is_reported_is_how_the_search_stood_at_each_point() -> None:
    trace = simulate(shipped("greedy"), Bowl(), seed=0, evaluations=40)
    job = Job("bowl", "greedy", 0, 1, (10, 40), None, Path())
    found = report(trace, job, Bowl.targets, 10.0)
    assert found.true == (trace.at(10).true, trace.at(40).true)
    assert found.claimed[1] == trace.rows[-1].claimed
    first, last = trace.at(LEARNING), trace.at(40)
    lost_s = 1.0 * (last.failures - first.failures)
    assert found.wasted == (0.0, pytest.approx(lost_s / (last.device_s - first.device_s)))
    easy, hard = found.reached
    assert easy is not None
    assert hard is None or easy <= hard


def test_searches_that_were_kept_are_not_made_again(tmp_path: Path) -> None:
    job = Job("elsewhere", "greedy", 3, 1, (10,), None, Path())  # no such landscape: it would fail
    kept = Searched("elsewhere", "greedy", 3, 1, (10,), (1.0,), (1.0,), (0,), (1.0,), (None,))
    file = tmp_path / "kept.jsonl"
    file.write_text(kept.line() + "\n", encoding="utf-8")
    assert list(searched([job], file, processes=1)) == [kept]
