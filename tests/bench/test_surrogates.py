"""Landscapes from a table of trials: what they say of a program, and what they refuse to promise."""

import csv
import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import regressions, trials
from bench.landscape import Landscape
from bench.surrogates import FLOOR, GOOD, Surrogate, distance, sigma, surrogates
from mutate.genome import constants, rewrite, values

GIB_PER_ROW = 0.25
LIMIT_GB = 40.0


def drawn(rng: np.random.Generator) -> dict[str, object]:
    """Draw a trial from the ranges that the program declares; the first one is the default."""
    chosen: dict[str, object] = {}
    for name, declared in trials.DECLARED.items():
        if hasattr(declared, "values"):
            chosen[name] = declared.values[int(rng.integers(len(declared.values)))]
        else:
            share = rng.random()
            low, high = declared.low, declared.high
            number = low * (high / low) ** share if declared.log else low + (high - low) * share
            chosen[name] = round(number) if declared.integer else number
    chosen["TOTAL_BATCH_SIZE"] = 524288
    return chosen


def scored(chosen: dict[str, object]) -> float:
    """A valley in the matrices' learning rate and the depth."""
    rate = np.log(float(chosen["MATRIX_LR"]) / 0.03)
    return 0.97 + 0.02 * rate**2 + 0.002 * abs(int(chosen["DEPTH"]) - 10)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    rows = [dict(values(trials.PROGRAM)), *(drawn(rng) for _ in range(240))]
    path = tmp_path_factory.mktemp("table") / "trials.csv.gz"
    measured = ["val_bpb", "error", "peak_memory_gb", "wall_s", "total_s"]
    with gzip.open(path, "wt", newline="") as file:
        names = [name.lower() for name in trials.NAMES]
        writer = csv.DictWriter(file, ["method", "seed", *names, *measured])
        writer.writeheader()
        for number, chosen in enumerate(rows):
            row = {name.lower(): value for name, value in chosen.items()}
            memory_gb = GIB_PER_ROW * float(chosen["DEVICE_BATCH_SIZE"])
            kept = {"val_bpb": scored(chosen), "peak_memory_gb": memory_gb, "total_s": 330.0}
            failed = {"error": "GPU out-of-memory", "wall_s": 30.0 + number % 3}
            outcome = failed if memory_gb > LIMIT_GB else kept
            writer.writerow({"method": "random", "seed": number % 3} | row | outcome)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fitted")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TREES": 60,
        "DRAWN": 30,
        "EPOCHS": 40,
        "MINIBATCH": 32,
        "INDUCED": 120,
    }.items():
        monkeypatch.setattr(regressions, name, value)


@pytest.fixture
def boosted(table: Path, cache: Path) -> Surrogate:
    (found,) = surrogates(table, ["boosted"], cache)
    assert isinstance(found, Surrogate)
    return found


def test_every_family_finds_the_valley(table: Path, cache: Path) -> None:
    for landscape in surrogates(table, cache=cache):
        (founder,) = landscape.founders
        levels = [
            landscape.truth(rewrite(founder, {"MATRIX_LR": rate})).value
            for rate in (0.005, 0.03, 0.2)
        ]
        assert levels[1] is not None
        assert levels[1] < min(levels[0] or 0, levels[2] or 0), landscape.name


def test_the_founder_is_the_first_trial_and_declares_every_range(boosted: Surrogate) -> None:
    assert boosted.founders == (trials.PROGRAM,)
    assert [constant.name for constant in constants(trials.PROGRAM)] == list(trials.NAMES)
    assert len(trials.NAMES) == 14
    assert all(constant.range.declared for constant in constants(trials.PROGRAM))
    assert all(constant.value in constant.range for constant in constants(trials.PROGRAM))


@pytest.mark.parametrize(
    ("changed", "reason", "cost_s"),
    [
        ({"DEVICE_BATCH_SIZE": 256}, "out_of_memory", 31.0),
        ({"TOTAL_BATCH_SIZE": 65536}, "crash", 30.0),
        ({"EMBEDDING_LR": "fast"}, "crash", 30.0),
        ({"EMBEDDING_LR": -0.1}, "crash", 30.0),
    ],
)
def test_what_cannot_train_fails_for_a_reason_and_costs_what_failures_cost(
    boosted: Surrogate, changed: dict[str, float], reason: str, cost_s: float
) -> None:
    truth = boosted.truth(rewrite(boosted.founders[0], changed))
    assert (truth.value, truth.reason, truth.cost_s) == (None, reason, cost_s)


def test_a_program_that_lost_a_constant_crashes(boosted: Surrogate) -> None:
    assert boosted.truth(boosted.founders[0].replace("DEPTH", "LAYERS")).reason == "crash"
    assert boosted.truth("def (").reason == "crash"


def test_a_trial_that_trains_costs_its_budget_and_what_surrounds_it(boosted: Surrogate) -> None:
    assert boosted.truth(boosted.founders[0]).cost_s == pytest.approx(330.0)


def test_a_promise_is_believed_near_good_trials_and_taken_back_with_distance(
    boosted: Surrogate,
) -> None:
    support = boosted.support
    promised = np.array([support.ceiling - 0.01])
    place = boosted_like(boosted)
    near, far = place.copy(), place.copy()
    far[0, trials.NAMES.index("WEIGHT_DECAY")] += 5.0
    assert support.tempered(near, promised) == pytest.approx(promised)
    assert support.tempered(far, promised) == pytest.approx(support.ceiling)
    assert support.tempered(far, promised + 0.05) == pytest.approx(promised + 0.05)


def boosted_like(landscape: Surrogate) -> np.ndarray:
    """Return constants (1, 14) in the midst of the good trials."""
    rng = np.random.default_rng(1)
    found = [trials.numbers_of(drawn(rng) | {"MATRIX_LR": 0.03}) for _ in range(400)]
    numbers = np.array(found)
    away = distance(trials.cube(numbers), landscape.support.places)
    assert away.min() < landscape.support.radius
    return numbers[[int(np.argmin(away))]]


def test_no_value_lies_below_the_floor_or_above_the_worst_trial(table: Path, cache: Path) -> None:
    data = trials.read(table)
    rng = np.random.default_rng(2)
    numbers = np.array([trials.numbers_of(drawn(rng)) for _ in range(200)])
    for landscape in surrogates(table, cache=cache):
        assert isinstance(landscape, Surrogate)
        found = landscape.believed(numbers)
        assert found.min() > np.nanmin(data.value) - FLOOR
        assert found.max() <= np.nanmax(data.value) + 1e-12
        assert landscape.support.ceiling == np.nanquantile(data.value, GOOD)


def test_arrays_of_trees_answer_as_scikit_learn_does() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    x = np.random.default_rng(0).random((200, 4)).astype(np.float32).astype(float)
    y = x[:, 0] * 2 + x[:, 1] ** 2
    theirs = ExtraTreesRegressor(
        regressions.DRAWN, max_features=0.6, min_samples_leaf=3, random_state=0
    )
    assert regressions.forest(x, y)(x) == pytest.approx(theirs.fit(x, y).predict(x))


@pytest.mark.parametrize("family", [regressions.network, regressions.process])
def test_a_fit_is_a_function_of_its_data(
    family: Callable[[np.ndarray, np.ndarray], regressions.Predictor],
) -> None:
    x = np.random.default_rng(0).random((80, 3))
    y = x.sum(axis=1)
    assert (family(x, y)(x) == family(x, y)(x)).all()


def test_fitted_landscapes_come_back_from_the_cache_and_travel(table: Path, cache: Path) -> None:
    (first,) = surrogates(table, ["forest"], cache)
    kept = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    (second,) = surrogates(table, ["forest"], cache)
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == kept
    travelled: Landscape = pickle.loads(pickle.dumps(second))
    founder = first.founders[0]
    assert first.truth(founder) == second.truth(founder) == travelled.truth(founder)


def test_noise_grows_from_the_good_to_the_poor() -> None:
    assert [sigma(value) for value in (0.97, 0.99, 1.1, 1.5)] == pytest.approx(
        [0.0005, 0.0005, 0.008, 0.008]
    )
    assert 0.0005 < sigma(1.0) < sigma(1.05) < 0.008


def test_an_unknown_family_is_named(table: Path) -> None:
    with pytest.raises(ValueError, match=r"no family \['linear'\]"):
        surrogates(table, ["linear"])
