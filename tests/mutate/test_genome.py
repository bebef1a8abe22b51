import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutate.genome import (
    Constant,
    constants,
    fingerprint,
    render,
    rewrite,
    structure,
    units,
    values,
)
from tests.mutate.world import SEEDS


def only(source: str) -> Constant:
    (constant,) = constants(source)
    return constant


def span(constant: Constant) -> tuple[object, ...]:
    return constant.value, constant.kind, constant.low, constant.high, constant.log


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("LR = 0.02  # log 0.002..0.2", (0.02, "float", 0.002, 0.2, True)),
        ("LR = 2e-2  # log 1e-4..1e-1", (0.02, "float", 0.0001, 0.1, True)),
        ("LR: float = 0.02  # log 0.002..0.2", (0.02, "float", 0.002, 0.2, True)),
        ("DECAY = 0.1  # 0..1", (0.1, "float", 0, 1, False)),
        ("DECAY = 0.1  #0 .. 1", (0.1, "float", 0, 1, False)),
        ("DEPTH = 2  # 1..4", (2, "int", 1, 4, False)),
        ("ROWS = 2_048  # log 1_024..8_192", (2048, "int", 1024, 8192, True)),
        ("ROWS = 3  # log 0..8", (3, "int", 1, 8, True)),
        ("SCALE = 1  # 0.5..2", (1, "float", 0.5, 2, False)),
        ("WARMUP = 0.03  # 0..0.2; share of the budget", (0.03, "float", 0, 0.2, False)),
        ("WARMUP = 0.03  # 0..0.2 (a share, not 0..9)", (0.03, "float", 0, 0.2, False)),
        ("BIAS = -0.5  # -2..2", (-0.5, "float", -2, 2, False)),
        ("BIAS = -3  # -4..-1", (-3, "int", -4, -1, False)),
        ("DEPTH = 4  # 8..1", (4, "int", 1, 8, False)),
        ("LR = 0.4", (0.4, "float", 0.1, 1.6, True)),
        ("DEPTH = 1", (1, "int", 1, 4, True)),
        ("DEPTH = 8  # layers", (8, "int", 2, 32, True)),
        ("LR = 0.5  # log 0.002..0.2", (0.5, "float", 0.002, 0.5, True)),
        ("DEPTH = 6  # 1..4", (6, "int", 1, 6, False)),
        ("DEPTH = 0  # 1..4", (0, "int", 0, 4, False)),
    ],
)  # fmt: skip
def test_a_number_has_the_range_of_its_comment_or_a_quarter_to_four_times_its_value(line, expected):
    assert span(only(line + "\n")) == expected


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ('PATTERN = "SSSL"  # one of SSSL, SSLL, LLLL', ("SSSL", "SSLL", "LLLL")),
        ("WIDTH = 64  # one of 32, 48, 64; channels", (32, 48, 64)),
        ("WIDTH = 64  # one of 32, 48", (64, 32, 48)),
        ("WIDTH = 64  # one of 32, 64 (channels, not heads)", (32, 64)),
        ("POWER = -1  # one of -1, 0.5", (-1, 0.5)),
        ("TIED = True", (False, True)),
        ("TIED = False  # untie for larger vocabularies", (False, True)),
    ],
)
def test_strings_bools_and_lists_give_choices(line, choices):
    constant = only(line)
    assert constant.kind == "choice"
    assert constant.choices == choices
    assert [type(c) for c in constant.choices] == [type(c) for c in choices]


@pytest.mark.parametrize(
    "source",
    [
        "VOCAB = 256  # fixed",
        "VOCAB = 256  # fixed by the task; 1..4",
        "VOCAB = 256  # fixed: 1..4",
        'NAME = "adam"',
        "BIAS = 0",
        "BIAS = -0.5",
        "BIAS = 0  # log 1..10",
        "BIAS = -1.0  # log 0.1..10",
        "RATE = 0.5  # log 0..1",
        "RATE = 0.5  # e..E",
        "HUGE = 1e999",
        "HUGE = 1.0  # 0..1e999",
        "HUGE = " + "9" * 400,
        "NOT = not True",
        "FLAG = -True",
        'TEXT = -"a"',
        "NOTHING = None",
        "TABLE = [1, 2]",
        "WIDTH = 2 * 32",
        "width = 64",
        "Width = 64",
        "def main():\n    WIDTH = 64",
        "SEED = 1  # 0..9",
        "DATA_SEED = 1",
        "SEEDS = 3",
        "WIDTH = = 64",
        "WIDTH = 64\n'''",
        "",
    ],
)
def test_fixed_values_expressions_seeds_and_broken_texts_declare_no_constant(source):
    assert constants(source) == ()


@pytest.mark.parametrize(
    "second",
    [
        "DEPTH = 3",
        "DEPTH = 3  # fixed",
        "DEPTH = int(3)",
        "DEPTH += 1",
        "if True:\n    DEPTH = 4",
        "for DEPTH in range(3):\n    pass",
        "DEPTH, WIDTH = 1, 2",
        "from shapes import DEPTH",
    ],
)
def test_a_name_that_is_bound_twice_is_no_constant(second):
    assert "DEPTH" not in values(f"DEPTH = 2  # 1..4\n{second}\n")
    assert "DEPTH" not in values(f"{second}\nDEPTH = 2  # 1..4\n")


def test_a_name_in_another_scope_does_not_bind_it_again():
    source = (
        "DEPTH = 2\ndef f():\n    DEPTH = 3\nclass A:\n    DEPTH = 4\nx = [DEPTH for DEPTH in ()]\n"
    )
    assert values(source) == {"DEPTH": 2}


def test_the_constants_of_the_founders_are_read_in_their_order():
    assert list(values(SEEDS["convolution"]))[:4] == ["DEPTH", "WIDTH", "KERNEL", "EXPANSION"]
    for source in SEEDS.values():
        assert all(c.declared and c.holds(c.value) for c in constants(source))


def test_a_default_range_moves_with_the_value_and_the_domain_stays():
    one, other = only("LR = 0.4"), only("LR = 0.1")
    assert one.domain == other.domain
    assert one.holds(other.value) and not one.holds(0.01)
    assert only("LR = 0.4  # 0..1").domain != only("LR = 0.4  # 0..2").domain


def test_a_value_outside_its_range_leaves_the_domain_as_it_was_declared():
    assert only("DEPTH = 6  # 1..4").domain == only("DEPTH = 2  # 1..4").domain
    assert only("WIDTH = 6  # one of 1, 2").domain == only("WIDTH = 2  # one of 1, 2").domain


REMARKS = st.sampled_from(["", "  # 1..900", "  # log 0.001..900; größer", "  # one of 1, 2, 'é'"])
LINES = st.sampled_from(
    ["# ünïcode 漢字\n", "x = 1\r\n", "\n", 's = "é\\u2028\x0c"; y = "😀"\n', "'''é\n\x0c\n'''\n"]
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(LINES, REMARKS, st.integers(1, 900)), min_size=1, max_size=6),
    st.data(),
)
def test_rewriting_changes_the_literals_and_nothing_else_by_a_byte(rows, data):
    names = [f"N{i}" for i in range(len(rows))]
    pieces = [
        (f"{before}{name} = ", value, f"{remark}\n")
        for (before, remark, value), name in zip(rows, names, strict=True)
    ]
    source = "".join(f"{a}{value}{b}" for a, value, b in pieces)
    some = data.draw(st.sets(st.sampled_from(names)))
    changed = {name: data.draw(st.integers(-9, 10**6)) for name in sorted(some)}
    wanted = "".join(
        f"{a}{changed.get(name, value)}{b}"
        for name, (a, value, b) in zip(names, pieces, strict=True)
    )
    assert rewrite(source, changed) == wanted


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (
            's = "漢字😀"; LR = 0.02  # log 0.002..0.2\n',
            's = "漢字😀"; LR = 0.05  # log 0.002..0.2\n',
        ),
        ("LR = (  # why\n  0.02\n)\n", "LR = (  # why\n  0.05\n)\n"),
        ("LR = -0.02  # -1..1\r\n", "LR = 0.05  # -1..1\r\n"),
        ("LR = 0.02", "LR = 0.05"),
    ],
)
def test_the_literal_is_found_behind_unicode_in_parentheses_and_with_its_sign(source, wanted):
    assert rewrite(source, {"LR": 0.05, "UNKNOWN": 1}) == wanted


def test_rewriting_with_the_values_as_they_are_changes_no_value():
    source = "EPS = 0.9999876\nWIDTH = 64\n"
    assert values(rewrite(source, values(source))) == values(source)


@settings(deadline=None)
@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))  # fmt: skip
def test_a_rendered_value_reads_back_as_itself_on_one_line(value):
    literal = render(value)
    assert ast.literal_eval(literal) == value
    assert type(ast.literal_eval(literal)) is type(value)
    assert "\n" not in literal


PROGRAM = '''"""Train."""
import torch
LR = 0.02  # log 0.002..0.2
SEED = 1
torch.manual_seed(1)

def f(x):
    """Double."""
    return x * 2
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Train."""', '"""Learn."""'),
        ('    """Double."""\n', ""),
        ("return x * 2", "return (x*2)  # twice"),
        ("LR = 0.02", "LR=2e-2"),
        ("log 0.002..0.2", "log 0.001..0.1"),
        ("SEED = 1", "SEED = 2"),
        ("manual_seed(1)", "manual_seed(2)"),
        ("manual_seed(1)", "manual_seed(seed=2)"),
    ],
)
def test_the_fingerprint_ignores_layout_comments_docstrings_and_seeds(before, after):
    assert before in PROGRAM
    assert fingerprint(PROGRAM.replace(before, after)) == fingerprint(PROGRAM)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SEED: int = 1\n", "SEED: int = 2\n"),
        (
            "def main():\n    seed = 1\n    return seed\n",
            "def main():\n    seed = 2\n    return seed\n",
        ),
        ("g = np.random.default_rng(1)\n", "g = np.random.default_rng(2)\n"),
        ("g = random.Random(1)\n", "g = random.Random()\n"),
    ],
)
def test_a_change_of_seed_is_no_variation(one, other):
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("before", "after"),
    [("0.02", "0.03"), ("x * 2", "x * 3"), ("def f", "def g"), ("(1)", "(f(1))")],
)
def test_the_fingerprint_sees_constants_and_code(before, after):
    assert fingerprint(PROGRAM.replace(before, after)) != fingerprint(PROGRAM)


@pytest.mark.parametrize("name", SEEDS)
def test_the_structure_ignores_every_tunable_constant_and_nothing_else(name):
    source = SEEDS[name]
    for constant in constants(source):
        other = next((c for c in constant.choices if c != constant.value), constant.high)
        changed = rewrite(source, {constant.name: other})
        assert structure(changed) == structure(source)
    assert structure(source.replace("run.report(loss.detach())", "pass")) != structure(source)


def test_annotated_constants_do_not_count_as_structure_and_fixed_ones_do():
    assert structure("LR: float = 0.1\n") == structure("LR: float = 0.2\n")
    assert structure("VOCAB = 256  # fixed\n") != structure("VOCAB = 512  # fixed\n")


def test_text_that_is_no_python_has_a_fingerprint_that_ignores_white_space():
    assert fingerprint("a  b\n", python=False) == fingerprint("a b", python=False)
    assert fingerprint("a b", python=False) != fingerprint("ab", python=False)


def test_a_unit_carries_its_comments_and_decorators_whatever_breaks_lines_before_it():
    source = 's = "a\x0cb"  # \x85 \u2028\n\n# about f\n@deco\ndef f():\n    return s'
    first, second = units(source)
    assert (first.text, first.names) == ('s = "a\x0cb"  # \x85 \u2028\n', ("s",))
    assert (second.text, second.names) == ("# about f\n@deco\ndef f():\n    return s\n", ("f",))
    assert second.references == {"deco", "s"}


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import a.b, c as d", ("a", "d")),
        ("try:\n    import fast\nexcept ImportError:\n    fast = None", ("fast",)),
        ("if x:\n    def f(a):\n        b = a\nelse:\n    class f: pass", ("f",)),
        ("A, (B, *C) = 1, (2, 3)", ("A", "B", "C")),
        ("t = [i for i in x]", ("t",)),
        ("x.y = 3", ()),
    ],
)
def test_a_unit_knows_the_names_that_it_binds(statement, names):
    (unit,) = units(statement)
    assert unit.names == names
