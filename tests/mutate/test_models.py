from dataclasses import replace
from pathlib import Path

import pytest

from mutate.models import DEFAULT, KNOWN, Model, choose_models, load_models
from population.errors import RunError

BUILT_IN = load_models(None)


def table(folder: Path, text: str) -> dict[str, Model]:
    file = folder / "models.toml"
    file.write_text(text, encoding="utf-8")
    return load_models(file)


def test_the_built_in_table_has_prices_and_holds_the_default() -> None:
    assert set(BUILT_IN) == {model.name for model in KNOWN}
    assert DEFAULT in BUILT_IN
    assert all(0 < model.input_usd < model.output_usd for model in KNOWN)
    assert not any(model.whole_file for model in KNOWN)


def test_a_call_costs_what_its_tokens_cost_cached_ones_less_and_written_ones_more() -> None:
    model = Model("m", input_usd=4.0, output_usd=20.0, cache_read=0.1, cache_write=2.0)
    assert model.cost_usd(1_000_000, 0, 0, 0) == pytest.approx(4.0)
    assert model.cost_usd(0, 1_000_000, 0, 0) == pytest.approx(8.0)
    assert model.cost_usd(0, 0, 1_000_000, 0) == pytest.approx(0.4)
    assert model.cost_usd(0, 0, 0, 1_000_000) == pytest.approx(20.0)
    assert Model("free").cost_usd(10, 10, 10, 10) == 0.0


def test_a_table_adds_models_and_overrides_fields_of_known_ones(tmp_path: Path) -> None:
    models = table(
        tmp_path,
        f'["qwen3-coder:30b"]\nwhole_file = false\nweight = 2\n[{DEFAULT}]\ninput_usd = 3.5\n',
    )
    assert models["qwen3-coder:30b"] == Model("qwen3-coder:30b", whole_file=False, weight=2)
    assert models[DEFAULT] == replace(BUILT_IN[DEFAULT], input_usd=3.5)
    assert len(models) == len(BUILT_IN) + 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[m]\ninput_usdd = 1", "m has no 'input_usdd'; known are answer_tokens"),
        ('[m]\nname = "other"', "m has no 'name'"),
        ('[m]\ninput_usd = "4"', "input_usd of m must be a number from 0, got '4'"),
        ("[m]\ninput_usd = -1", "must be a number from 0, got -1"),
        ("[m]\noutput_usd = nan", "must be a number from 0, got nan"),
        ("[m]\nweight = inf", "must be a number from 0, got inf"),
        ("[m]\nweight = true", "must be a number from 0, got True"),
        ("[m]\nanswer_tokens = 0", "answer_tokens of m must be a whole number from 1, got 0"),
        ("[m]\nat_once = 0", "at_once of m must be a whole number from 1, got 0"),
        ("[m]\nprompt_tokens = 8e3", "must be a whole number from 1, got 8000.0"),
        ("[m]\ncaching = 1", "caching of m must be true or false, got 1"),
        ("m = 4", r'expected a table \["m"\], got 4'),
        ("[gpt-4.5]\nweight = 1", "gpt-4 has no '5'"),
        ("[m", "cannot be read"),
    ],
)
def test_a_value_that_is_none_of_a_model_is_refused_by_name(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(RunError, match=said) as error:
        table(tmp_path, text)
    assert "models.toml" in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "models.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RunError, match=r"models.toml cannot be read"):
        load_models(file)


def test_models_are_chosen_by_name_in_order_with_their_weights() -> None:
    chosen = choose_models([DEFAULT, " claude-haiku-5-5=0.5 ", "qwen3-coder:30b = 2"], BUILT_IN)
    assert [(model.name, model.weight) for model in chosen] == [
        (DEFAULT, 1.0),
        ("claude-haiku-5-5", 0.5),
        ("qwen3-coder:30b", 2.0),
    ]
    assert chosen[1].input_usd == BUILT_IN["claude-haiku-5-5"].input_usd
    assert chosen[2] == Model("qwen3-coder:30b", weight=2.0)


def test_the_weight_of_the_table_holds_where_none_is_said() -> None:
    known = {"m": Model("m", weight=3.0)}
    assert [one.weight for one in choose_models(["m"], known)] == [3.0]
    assert [one.weight for one in choose_models(["m=0.5"], known)] == [0.5]


@pytest.mark.parametrize("weight", ["0", "-1", "", "x", "nan", "inf", "1.2.3", "2=3"])
def test_a_weight_that_is_no_number_above_zero_is_refused(weight: str) -> None:
    with pytest.raises(RunError, match=f"the weight of m must be .* got --llm m={weight}"):
        choose_models([f"m={weight}"], BUILT_IN)


def test_a_model_whose_weight_in_the_table_is_zero_cannot_be_asked() -> None:
    with pytest.raises(RunError, match="the weight of m must be a number above 0"):
        choose_models(["m"], {"m": Model("m", weight=0.0)})


@pytest.mark.parametrize("mention", ["", "  ", "=2"])
def test_a_mention_without_a_name_is_refused(mention: str) -> None:
    with pytest.raises(RunError, match="--llm names a model"):
        choose_models([mention], BUILT_IN)


def test_a_model_that_is_named_twice_is_refused() -> None:
    with pytest.raises(RunError, match="--llm names m twice"):
        choose_models(["m", "m =2"], BUILT_IN)
