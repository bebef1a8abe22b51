"""Knowledge is learned within the budget: a program that brings it along is refused unrun."""

import pytest

from mutate.checks import Checks
from tests.attacks.knowledge import REFUSED
from tests.evaluate.conftest import program

CHECKS = Checks()


def test_an_honest_program_passes() -> None:
    assert CHECKS.refusal(program()) == ""


@pytest.mark.parametrize("name", REFUSED)
def test_knowledge_in_a_program_is_refused(name: str) -> None:
    assert CHECKS.refusal(REFUSED[name]) != ""


def test_a_program_that_reads_as_another_text_than_it_runs_as_is_refused() -> None:
    hidden = "# -*- coding: utf-7 -*-\n# +AAo-import os+AAo-\n"
    assert CHECKS.refusal(hidden + program()) != ""
