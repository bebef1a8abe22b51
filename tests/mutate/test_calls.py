"""Calls that cannot succeed are found before they cost a training, and no others."""

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutate.calls import misfits

ROOT = Path(__file__).parents[2]

MODEL = """
class Model(Module):
    def __init__(self, vocab, length=3, *, wide=False): pass
"""


@pytest.mark.parametrize(
    "call",
    [
        "Model(1)",
        "Model(1, 2)",
        "Model(vocab=1)",
        "Model(1, wide=True)",
        "Model(*sizes)",
        "Model(**sizes)",
    ],
)
def test_a_call_that_fits_is_left_alone(call: str) -> None:
    assert misfits(f"{MODEL}\nmodel = {call}\n") == {}


@pytest.mark.parametrize(
    "call",
    ["Model()", "Model(1, 2, 3)", "Model(1, vocab=2)", "Model(1, deep=True)", "Model(length=2)"],
)
def test_a_call_that_cannot_succeed_is_named_with_its_line(call: str) -> None:
    assert misfits(f"{MODEL}\nmodel = {call}\n") == {"Model": 5}


@pytest.mark.parametrize(
    "text",
    [
        "def f(a): pass\ndef g(f): f()",
        "def f(a): pass\nf = 3\nf()",
        "@cache\ndef f(a): pass\nf()",
        "@dataclass\nclass A:\n    a: int\nA(1)",
        "class A(B): pass\nA(1, 2)",
        "class A:\n    def __new__(cls, *a): pass\n    def __init__(self): pass\nA(1)",
        "class A:\n    def __init__(*a): pass\nA(1)",
        "from x import f\ndef f(a): pass\nf()",
        "def f(a): pass\nfrom math import *\nf()",
        "def f(a): pass\nmatch x:\n    case f: f()",
        "def f(a): pass\ndef g():\n    try: pass\n    except E as f: pass\n    f()",
        "def f(a): pass\nf.__defaults__ = (1,)\nf()",
        "def f(a): pass\ntry: f()\nexcept TypeError: f(1)",
        "def f(a): pass\nif 0: f()",
        "class A(Enum):\n    B = (1, 2)\n    def __init__(self, a, b): pass\nA((1, 2))",
        "class A:\n    def __init__(self): pass\n    if 1:\n        def __init__(self, a): pass\nA(1)",
        "class A:\n    def __init__(self): pass\n    __init__ = w(__init__)\nA(1)",
        "class A:\n    def __init__(self): pass\nA.__init__ = w\nA(1)",
    ],
)
def test_what_the_text_does_not_tell_is_taken_to_fit(text: str) -> None:
    assert misfits(text) == {}


PARAMETERS = st.sampled_from(
    [
        "",
        "a",
        "a, b",
        "a, b=1",
        "a=1, b=2",
        "*a",
        "a, *b",
        "**a",
        "a, *, b",
        "a, *, b=1",
        "a, /, b",
        "a, b, /",
        "a, /, **b",
    ]
)
ARGUMENTS = st.sampled_from(
    [
        "",
        "1",
        "1, 2",
        "1, 2, 3",
        "a=1",
        "b=1",
        "1, b=2",
        "1, a=2",
        "a=1, b=2",
        "c=1",
        "1, c=2",
        "b=1, a=2",
    ]
)


@given(PARAMETERS, ARGUMENTS)
def test_a_call_fits_exactly_where_python_would_bind_it(parameters: str, arguments: str) -> None:
    made: dict[str, object] = {}
    exec(f"def f({parameters}): pass\ndef given(*a, **k): return a, k", made)
    args, kwargs = eval(f"given({arguments})", made)
    try:
        inspect.signature(made["f"]).bind(*args, **kwargs)  # type: ignore[arg-type]
        fits = True
    except TypeError:
        fits = False
    assert (misfits(f"def f({parameters}): pass\nf({arguments})\n") == {}) is fits


@pytest.mark.parametrize(
    "file",
    [*ROOT.glob("seeds/**/*.py"), *ROOT.glob("examples/**/*.py"), ROOT / "prepare.py"],
    ids=lambda file: file.name,
)
def test_programs_that_work_call_nothing_wrongly(file: Path) -> None:
    assert misfits(file.read_text()) == {}
