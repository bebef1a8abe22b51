import ast
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutate.genome import ProgramError, constants, fingerprint, parse, rewrite, structure, values
from mutate.ranges import Choices, Interval
from tests.mutate.programs import BASE


def test_constants_are_upper_case_literals_at_the_top_level() -> None:
    found = {constant.name: constant.range for constant in constants(BASE)}
    assert found == {
        "WIDTH": Choices((32, 64, 128)),
        "LR": Interval(0.002, 0.2, log=True),
        "DEPTH": Interval(1, 4, integer=True),
        "GATED": Choices((False, True), declared=False),
    }
    assert values(BASE) == {"WIDTH": 64, "LR": 0.02, "DEPTH": 2, "GATED": False}


@pytest.mark.parametrize(
    "source",
    [
        "width = 3\n",
        "WIDTH = 3  # fixed\n",
        "WIDTH = 2 * 3\n",
        "WIDTH = 3\nWIDTH = 4\n",
        "WIDTH = 3\nWIDTH += 1\n",
        "WIDTH = 3\nif True:\n    WIDTH = 4\n",
        "WIDTH = 3\ndef f():\n    global WIDTH\n    WIDTH = 4\n",
        "A = B = 3\n",
        "A, B = 3, 4\n",
        "def f():\n    WIDTH = 3\n",
        "SEED = 42\n",
        "DATA_SEED = 42  # 0..100\n",
        "WIDTH = None\n",
        "WIDTH = b'a'\n",
        'TEXT = """a\nb"""  # one of a, b\n',
        "WIDTH = (\n",
    ],
)
def test_what_is_no_single_top_level_literal_is_not_tunable(source: str) -> None:
    assert constants(source) == ()


def test_a_local_name_does_not_hide_a_constant() -> None:
    assert values("B = 3  # 1..4\ndef f(x):\n    B, T = x\n    return B\n") == {"B": 3}


def test_annotated_and_parenthesised_constants_are_tunable() -> None:
    source = "LR: float = 0.02  # 0..1\nBIAS = (-1)  # -2..2\n"
    assert values(source) == {"LR": 0.02, "BIAS": -1}
    changed = rewrite(source, {"LR": 0.5, "BIAS": 2})
    assert changed == "LR: float = 0.5  # 0..1\nBIAS = (2)  # -2..2\n"


def test_a_rewrite_changes_the_literal_and_nothing_else() -> None:
    before = "# größe: ×\r\nX = 0.02  # log 0.002..0.2; größe\r\n\tY = 1\n".replace("\t", "")
    after = rewrite(before, {"X": 0.031})
    assert after == before.replace("0.02 ", "0.031 ")


def test_a_rewrite_keeps_multibyte_text_on_the_line() -> None:
    before = "Ä = 1; X = 3  # 1..4; ß\n"
    assert rewrite(before, {"X": 4}) == "Ä = 1; X = 4  # 1..4; ß\n"


def test_a_rewrite_of_a_name_that_is_not_tunable_is_an_error() -> None:
    with pytest.raises(KeyError):
        rewrite(BASE, {"NOTHING": 1})


LINES = st.lists(
    st.sampled_from(
        [
            "import math",
            "# a comment with ünïcode",
            "",
            "def f(x):\n    WIDTH = 3\n    return x  # 1..2",
            'text = "X = 3  # 1..4"',
            "T = (\n    1,\n)",
            "other = 1; more = 2",
        ]
    ),
    max_size=6,
)


@given(LINES, LINES, st.floats(0.002, 0.2), st.sampled_from(["\n", "\r\n"]))
def test_whatever_surrounds_a_constant_survives_its_rewrite(
    above: list[str], below: list[str], value: float, end: str
) -> None:
    def text(literal: str) -> str:
        line = f"LR = {literal}  # log 0.002..0.2; ßpeak"
        return "\n".join([*above, line, *below, ""]).replace("\n", end)

    assert rewrite(text("0.02"), {"LR": value}) == text(repr(value))


def test_a_rewritten_constant_reads_back() -> None:
    source = 'P = "SSSL"  # one of SSSL, LLLL\nN = 3  # 1..4\nX = 0.5  # 0..1\nB = False\n'
    changed = {"P": "LLLL", "N": 1, "X": 1e-07, "B": True}
    assert values(rewrite(source, changed)) == changed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1  # a\n\n\n", "x = 1"),
        ("def f():\n    '''Doc.'''\n    return 1", "def f():\n  return (1)"),
        ("torch.manual_seed(1)", "torch.manual_seed(43)  # best so far"),
        ("rng = default_rng(seed=1)", "rng = default_rng(seed=2)"),
        ("f(x, seed=1)", "f(x, seed=2)"),
        ("SEED = 1\nf(SEED)", "SEED = 2\nf(SEED)"),
        ("manual_seed(run.seed + 1)", "manual_seed(run.seed + 2)"),
        ("x = 1\n'idle'\npass", "x = 1"),
    ],
)
def test_layout_comments_and_seeds_do_not_count_as_difference(one: str, other: str) -> None:
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("x = 1", "x = 2"), ("f(1)", "f(2)"), ("X = 0.1", "X = 0.2"), ("x = 1", "x = 1.0")],
)
def test_different_programs_have_different_fingerprints(one: str, other: str) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_structure_ignores_the_values_of_tunable_constants_only() -> None:
    assert structure("X = 0.1\nf(X)") == structure("X = 0.2  # 0..1\nf(X)")
    assert structure("X = 0.1  # fixed\nf(X)") != structure("X = 0.2  # fixed\nf(X)")
    assert structure("X = 0.1\nf(X)") != structure("Y = 0.1\nf(Y)")
    assert structure("X = 1\ndef f():\n    X = 2") != structure("X = 1\ndef f():\n    X = 3")


def test_other_languages_are_told_apart_by_their_words() -> None:
    assert fingerprint("a  b\n", python=False) == fingerprint("a b", python=False)
    assert fingerprint("a b", python=False) != fingerprint("b a", python=False)


@pytest.mark.parametrize(
    "source", ["x = (", "x = 1\n y = 2", "x = '\0'", "-" * 100_000 + "1", "(" * 500]
)
def test_what_is_no_program_has_digests_and_no_constants(source: str) -> None:
    assert constants(source) == ()
    assert fingerprint(source) == fingerprint(source) != fingerprint(source + " ")
    with pytest.raises(ProgramError):
        parse(source)


def test_reading_a_program_warns_about_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(parse("x = '\\d'\n"), ast.Module)


def test_the_constants_that_the_docs_show_are_tuned_as_they_say() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluators.md").read_text("utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert {one.name: one.range for one in constants(block)} == {
        "WARMUP": Interval(0.0, 0.2),
        "MATRIX_LR": Interval(0.002, 0.2, log=True),
        "DEPTH": Interval(2, 8, integer=True),
        "WIDTH": Choices((64, 96, 128)),
        "PATTERN": Choices(("SSSL", "SSLL", "LLLL")),
        "MOMENTUM": Interval(0.225, 0.975, log=True, declared=False),
        "TIED": Choices((False, True), declared=False),
    }
    alone = "ZERO = 0\nNEGATIVE = -1.0\nTEXT = 'a'\nlower = 1\nSEED = 1\nTABLE = (1, 2)\n"
    assert not constants(alone + "TWICE = 1\nTWICE = 2\nSUM = 1 + 1\n")
