from itertools import pairwise

import pytest

from mutate.genome import ProgramError
from mutate.units import TransplantError, definitions, transplant, units, unresolved
from tests.mutate.programs import BASE, DONOR

MIXER_OF_DONOR_IN_BASE = '''"""A founder."""

import math
from lib import Linear, deliver
import functools
import math as maths
from lib import Table as Lookup

WIDTH = 32  # one of 32, 64, 128
LR = 0.02  # log 0.002..0.2; peak of the schedule
DEPTH = 2  # 1..4
GATED = False
TABLE_SIZE = 512  # log 64..4096; rows


def norm(x):
    return x / math.sqrt(x)


# Hashes pairs
# of tokens.
def hashed(x):
    return mixed(x) % TABLE_SIZE


@functools.cache
def mixed(x):
    norm = maths.floor(x)
    return norm


class Mixer:
    """Mixes otherwise."""

    def __init__(self):
        self.out = Linear(WIDTH)
        self.table = Lookup(TABLE_SIZE)

    def forward(self, x):
        return self.out(norm(x)) + self.table(hashed(x))


class Head:
    def forward(self, x):
        return x


def main():
    deliver(Mixer(), Head(), LR, DEPTH, GATED)


main()
'''


def test_a_unit_brings_what_it_needs_and_its_tuned_constants_and_nothing_else() -> None:
    assert transplant(BASE, DONOR, "Mixer") == MIXER_OF_DONOR_IN_BASE


def test_a_unit_that_uses_a_name_which_nothing_binds_is_not_moved() -> None:
    with pytest.raises(TransplantError, match="mystery"):
        transplant(BASE, DONOR, "Head")


def test_a_name_that_the_base_itself_lacks_does_not_count_against_a_transplant() -> None:
    base = "def f():\n    return 1\n\n\ndef g():\n    return absent\n"
    assert "return 2" in transplant(base, "def f():\n    return 2 + absent\n", "f")


def test_a_name_that_is_needed_before_it_is_bound_stops_a_transplant() -> None:
    base = "class A:\n    x = 1\n\n\nclass B:\n    pass\n"
    with pytest.raises(TransplantError, match="use B"):
        transplant(base, "class B:\n    y = 2\n\n\nclass A(B):\n    x = 3\n", "A")


def test_a_dependency_that_would_rebind_a_name_of_the_base_stops_a_transplant() -> None:
    base = "taken = 1\n\n\ndef f():\n    return 1\n"
    with pytest.raises(TransplantError, match="taken"):
        transplant(base, "taken, fresh = 2, 3\n\n\ndef f():\n    return fresh\n", "f")


def test_a_local_name_is_no_dependency() -> None:
    donor = "def norm():\n    return 0\n\n\ndef f(x):\n    norm = x\n    return [x for x in norm]\n"
    assert "def norm" not in transplant("def f(x):\n    return x\n", donor, "f")


def test_decorators_bases_and_defaults_are_dependencies() -> None:
    donor = "class Base: ...\n\n\ndef mark(c): return c\n\n\nK = [1]\n\n\n"
    donor += "@mark\nclass A(Base):\n    def f(self, k=K):\n        return k\n"
    child = transplant("class A:\n    pass\n", donor, "A")
    assert {"Base", "mark", "K"} <= {name for unit in units(child) for name in unit.binds}
    assert child.index("K = [1]") < child.index("@mark")


def test_without_imports_those_that_come_along_stand_above_their_users() -> None:
    donor = "import math\n\n\ndef g():\n    return math.pi\n\n\ndef f(x=g()):\n    return x\n"
    child = transplant("def f():\n    return 1\n", donor, "f")
    assert child.index("import math") < child.index("def g") < child.index("def f")
    assert unresolved(child) == frozenset()


def test_the_last_line_needs_no_end() -> None:
    donor = "def g():\n    return 2\ndef f():\n    return g()"
    child = transplant("def f():\n    return 1", donor, "f")
    assert [sorted(unit.binds) for unit in units(child)] == [["g"], ["f"]]


def test_comments_that_touch_a_unit_belong_to_it() -> None:
    source = "x = 1\n# far\n\n# near\n@wraps\ndef f():\n    return 1  # inside\n"
    assert units(source)[1].text == "# near\n@wraps\ndef f():\n    return 1  # inside\n"


def test_units_cover_disjoint_lines_in_order() -> None:
    every = units(BASE)
    assert all(one.end <= other.first for one, other in pairwise(every))


def test_a_name_that_is_defined_twice_is_not_exchanged() -> None:
    assert set(definitions("def f(): ...\ndef g(): ...\nf = g\n")) == {"g"}


def test_several_statements_on_a_line_cannot_be_taken_apart() -> None:
    with pytest.raises(ProgramError, match="line 1 holds several"):
        units("x = 1; y = 2\n")
