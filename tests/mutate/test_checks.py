from pathlib import Path

import pytest

from mutate.checks import Checks
from population.task import Direction, EvaluatorKind, Limits, Task

CHECKS = Checks("train.py", 20_000, ("register", "deliver"))
GOOD = "import prepare\nrun = prepare.start()\nrun.register(1)\nrun.deliver(1)\n"


def test_a_program_that_keeps_the_rules_passes() -> None:
    assert CHECKS.refusal(GOOD) == ""


@pytest.mark.parametrize("kind", EvaluatorKind)
def test_a_model_task_wants_its_calls_and_a_command_task_none(kind: EvaluatorKind) -> None:
    here = Path()
    limits = Limits(source_bytes=99)
    task = Task("t", here, "a.py", "m", Direction.MINIMIZE, kind, here, here, (), limits=limits)
    calls = ("register", "batches", "deliver") if kind is EvaluatorKind.MODEL else ()
    assert Checks.of(task) == Checks("a.py", 99, calls)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("x = (\n", "does not parse: line 1"),
        ("x = '\0'\n", "does not parse"),
        ("x = 1\nreturn 2\n", "does not compile: line 2"),
        ("x = 1\n" * 4_000, "more than 20000"),
        (GOOD.replace("run.deliver(1)", "deliver = 1"), "never calls deliver"),
        ("x = 1\n", "never calls register, deliver"),
        (GOOD + f"x = {'a' * 2_049!r}\n", "line 5 holds a text of 2049 bytes"),
        (GOOD + f"x = {'ä' * 1_025!r}\n", "line 5 holds a text of 2050 bytes"),
        (GOOD + f"x = {b'a' * 2_049!r}\n", "line 5 holds a text"),
        (GOOD + f"x = {'a' * 2_000!r}\n" * 5, "literals hold 10000 bytes"),
        (GOOD + f"x = {list(range(257))}\n", "line 5 holds a table of 257"),
        (GOOD + f"x = {[[n, n] for n in range(129)]}\n", "line 5 holds a table of 258"),
        (GOOD + f"x = {dict.fromkeys(range(200), 1)}\n", "line 5 holds a table of 400"),
        (GOOD + f"x = {2**300}\n", "line 5 holds an integer of 301 bits"),
        (GOOD + f"def f():\n    {'a' * 9_000!r}\n", "comments and docstrings hold 9000 bytes"),
        (GOOD + f"# {'a' * 100}\n" * 90, "comments and docstrings hold 9180 bytes"),
        (GOOD + f"{'a' * 65} = 1\n", "line 5 holds a name of 65 letters"),
        (GOOD + "".join(f"n{n}_{'a' * 50} = 0\n" for n in range(320)), "names hold"),
        (GOOD + f"x = {[0] * 200}\n" * 11, "numbers are 2202"),
        (GOOD + "x = 1" + " " * 2_000 + "\n", "line ends hold 2000 blanks"),
    ],
)
def test_a_program_that_breaks_a_rule_is_refused_with_the_reason(source: str, reason: str) -> None:
    assert reason in CHECKS.refusal(source)


def test_a_long_docstring_is_no_data() -> None:
    assert CHECKS.refusal(f"{'a' * 4_000!r}\n" + GOOD) == ""


def test_a_deep_program_is_refused_and_harms_nobody() -> None:
    assert "does not" in Checks().refusal("x = " + "-" * 50_000 + "1\n")
    assert "does not" in Checks().refusal("x = " + "1 + " * 20_000 + "1\n")


def test_another_language_is_bounded_in_size_alone() -> None:
    checks = Checks("kernel.cu", 100, ("deliver",))
    assert checks.refusal("__global__ void f() {") == ""
    assert "more than 100" in checks.refusal("x" * 101)
