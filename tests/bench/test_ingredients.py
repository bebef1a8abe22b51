"""What is taken out of a founder: it was there, only that is gone, and the rest still trains."""

import math

import pytest

from bench.gpu import FOUNDERS, SMALL, programs
from bench.ingredients import INGREDIENTS, without
from tests.seeds.test_gpu_seeds import Load, Run, load, no_garbage_frozen, one_thread, reduced

__all__ = ["load", "no_garbage_frozen", "one_thread"]

SOURCES = {file.stem: file.read_text("utf-8") for file in FOUNDERS}
PAIRS = [
    (name, ingredient)
    for name, source in SOURCES.items()
    for ingredient in INGREDIENTS
    if without(source, ingredient)
]


WHOLE: dict[str, float] = {}


def trained(load: Load, name: str, source: str) -> float:
    run = Run(steps=10)  # some parts learn nothing before a head that starts at zero has moved
    depth = 3 if name == "hybrid" else 2  # its first two layers are convolutions
    load(name, reduced(source, DEPTH=depth, BATCH_TOKENS=128), run).main()
    return run.last


def test_each_text_that_is_taken_out_stands_once_in_a_founder() -> None:
    for ingredient, edits in INGREDIENTS.items():
        for old, _ in edits:
            counts = [source.count(old) for source in SOURCES.values()]
            assert max(counts) == 1, (ingredient, old)


def test_a_founder_has_what_its_kind_is_made_of() -> None:
    common = {"rotary", "qk-norm", "squared-relu", "softcap", "muon", "normuon", "cautious-decay"}
    assert all((name, one) in PAIRS for name in SOURCES for one in common)
    assert [name for name, one in PAIRS if one == "n-grams"] == ["ngrams"]
    assert [name for name, one in PAIRS if one == "convolutions"] == ["hybrid"]
    assert [name for name, one in PAIRS if one == "value-embeddings"] == ["gpt", "ngrams"]


@pytest.mark.parametrize(("name", "ingredient"), PAIRS)
def test_what_remains_trains_to_something_else(name: str, ingredient: str, load: Load) -> None:
    remains = without(SOURCES[name], ingredient)
    assert remains is not None
    loss = trained(load, name, remains)
    if name not in WHOLE:
        WHOLE[name] = trained(load, name, SOURCES[name])
    assert math.isfinite(loss)
    assert loss != WHOLE[name]


def test_each_ingredient_is_taken_out_alone_of_the_programs_that_have_it() -> None:
    named = dict(programs(FOUNDERS, [], SMALL, ["softcap", "smear"]))
    assert list(named) == [
        "gpt", "gpt without softcap", "hybrid", "hybrid without softcap",
        "ngrams", "ngrams without softcap", "ngrams without smear",
    ]  # fmt: skip
    assert named["ngrams without smear"] == without(named["ngrams"], "smear")
