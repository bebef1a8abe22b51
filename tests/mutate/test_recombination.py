import ast
import builtins
import itertools
import symtable
from functools import cache

import numpy as np
import pytest

from mutate.checks import Checks
from mutate.genome import constants, units, values
from mutate.recombination import Recombination, transplant
from tests.mutate.world import SEEDS, World, flat, individual

CHECKS = Checks(required_calls=("start", "register", "batches", "deliver"))
PAIRS = list(itertools.permutations(SEEDS, 2))
MODULE_NAMES = {*dir(builtins), "__name__", "__file__", "__doc__"}


def undefined(source: str) -> set[str]:
    """Return the global names that a program refers to and nothing defines."""
    table = symtable.symtable(source, "candidate", "exec")
    defined = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    referred: set[str] = set()
    waiting = [table]
    while waiting:
        scope = waiting.pop()
        waiting += scope.get_children()
        outer = scope is table
        referred |= {
            s.get_name()
            for s in scope.get_symbols()
            if s.is_referenced() and (s.is_global() or (outer and not s.is_assigned()))
        }
    return referred - defined - MODULE_NAMES


def comments(source: str) -> list[str]:
    return [line.strip() for line in source.splitlines() if line.lstrip().startswith("#")]


def definitions(source: str) -> dict[str, str]:
    return {
        node.name: ast.dump(node)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def crossed(receiver: str, donor: str, seed: int, checks: Checks = Checks()):  # noqa: B008 frozen
    world = World(flat)
    parents = [world.born(receiver), world.born(donor)]
    return Recombination(checks).propose(parents, world.history(), np.random.default_rng(seed))


@cache
def offspring(receiver: str, donor: str):
    return [crossed(SEEDS[receiver], SEEDS[donor], seed, CHECKS) for seed in range(15)]


@pytest.mark.parametrize(("receiver", "donor"), PAIRS)
def test_every_child_of_two_founders_passes_the_checks_and_lacks_no_name(receiver, donor):
    founders = {individual(1, one).fingerprint for one in SEEDS.values()}
    assert undefined(SEEDS[receiver]) == set()
    for proposal in offspring(receiver, donor):
        assert proposal.refusal == ""
        source = proposal.genome.source
        assert CHECKS.refusal(source) == ""
        assert undefined(source) == set()
        assert proposal.fingerprint not in founders
        assert (proposal.operator, proposal.parents) == ("recombination", (1, 2))
        assert proposal.constants == values(source)


@pytest.mark.parametrize(("receiver", "donor"), PAIRS)
def test_a_child_has_each_definition_from_one_of_its_parents(receiver, donor):
    own, theirs = definitions(SEEDS[receiver]), definitions(SEEDS[donor])
    for proposal in offspring(receiver, donor):
        found = definitions(proposal.genome.source)
        assert own.keys() <= found.keys()
        assert all(text in (own.get(n), theirs.get(n)) for n, text in found.items())
        taken = {n for n in own if found[n] != own[n]}
        told = {c.hypothesis.split()[0] for c in proposal.changes if c.category != "constant"}
        assert taken == told


def test_the_founders_exchange_definitions_and_constants():
    children = [child for pair in PAIRS for child in offspring(*pair)]
    assert {c.category for child in children for c in child.changes} == {
        "constant",
        "class",
        "function",
    }
    assert len({child.fingerprint for child in children}) > 40


@pytest.mark.parametrize(("receiver", "donor"), PAIRS)
def test_the_ranges_and_remarks_of_the_constants_survive(receiver, donor):
    declared = {c.domain for name in (receiver, donor) for c in constants(SEEDS[name])}
    own = {c.name for c in constants(SEEDS[receiver])}
    for proposal in offspring(receiver, donor):
        found = constants(proposal.genome.source)
        assert {c.domain for c in found} <= declared
        assert own <= {c.name for c in found}


@pytest.mark.parametrize(("receiver", "donor"), PAIRS[:3])
def test_one_random_stream_gives_one_child(receiver, donor):
    once, again = (crossed(SEEDS[receiver], SEEDS[donor], 7, CHECKS) for _ in range(2))
    assert once == again


@pytest.mark.parametrize(("receiver", "donor"), PAIRS)
def test_a_class_brings_its_helpers_and_constants_from_a_founder(receiver, donor):
    child = transplant(SEEDS[receiver], SEEDS[donor], "Mixer")
    theirs = {unit.names[0]: unit for unit in units(SEEDS[donor]) if unit.names}
    tuned = {c.name for c in constants(SEEDS[donor])}
    for name in theirs["Mixer"].references & theirs.keys() & tuned:
        assert theirs[name].text in child  # with its range and its remark
        assert child.index(theirs[name].text) < child.index("def norm")
    for name in theirs["Mixer"].references & theirs.keys() - definitions(SEEDS[receiver]).keys():
        assert theirs[name].text in child
    assert theirs["Mixer"].text in child


def test_constants_travel_with_the_definition_that_reads_them_and_others_stay():
    receiver = "LR = 0.1  # 0..1; mine\nDECAY = 0.1  # 0..1\ndef f():\n    return 1 * LR\n"
    donor = "LR = 0.7  # 0..2; theirs\nDECAY = 0.7  # 0..1\ndef f():\n    return 2 * LR\n"
    assert transplant(receiver, donor, "f") == (
        "LR = 0.7  # 0..2; theirs\nDECAY = 0.1  # 0..1\ndef f():\n    return 2 * LR\n"
    )


def test_a_constant_read_by_what_is_brought_along_travels_too():
    receiver = "LR = 0.1\ndef f():\n    return 1\n"
    donor = "LR = 0.7\nRATE = LR / 2\ndef f():\n    return RATE\n"
    assert transplant(receiver, donor, "f") == (
        "LR = 0.7\nRATE = LR / 2\ndef f():\n    return RATE\n"
    )


def test_comments_of_both_parents_are_kept():
    receiver = "# licence\nimport a\n\n# about g\ndef g():\n    # inside g\n    return a\n\n# mine\ndef f():\n    return 1\n# end\n"
    donor = "# theirs\nimport b\n\n# about h\ndef h():\n    return b  # why\n\n# about f\ndef f():\n    # inside f\n    return h()\n"
    child = transplant(receiver, donor, "f")
    kept = set(comments(receiver)) - {"# mine"} | set(comments(donor))
    assert kept <= set(comments(child))
    assert "return b  # why" in child


@pytest.mark.parametrize("name", ["Mixer", "FeedForward", "build_optimizer"])
@pytest.mark.parametrize(("receiver", "donor"), PAIRS)
def test_comments_of_the_founders_are_kept_outside_the_replaced_definition(receiver, donor, name):
    child = transplant(SEEDS[receiver], SEEDS[donor], name)
    for unit in units(SEEDS[receiver]):
        if name not in unit.names and not set(unit.names) & values(SEEDS[donor]).keys():
            assert unit.text in child


HEAD = "import math\nN = 2\ndef g():\n    return N\ndef f():\n    return g()\n"


@pytest.mark.parametrize(
    ("donor", "wanted"),
    [
        ("import os\ndef f():\n    return os.sep\n", "/"),
        ("import os.path as p\ndef f():\n    return p.sep\n", "/"),
        ("A = 3\nB = A + 1\ndef f():\n    return B\n", 4),
        ("def h():\n    return 5\ndef f():\n    return h()\n", 5),
        ("def f():\n    return h()\ndef h():\n    return k() if 0 else 6\ndef k():\n    return h()\n", 6),
        ("def h():\n    return 7\nT = h()\ndef f():\n    return T\n", 7),
        ("def h():\n    return 8\nT = h()\nU = T\ndef f():\n    return U\n", 8),
        ("def g():\n    return 0\nT = g()\ndef f():\n    return T + 7\n", 9),
        ("class Base:\n    x = 9\nclass C(Base):\n    pass\ndef f():\n    return C.x\n", 9),
        ("mode = 1\nif mode > 3:\n    mode = 2\ndef f():\n    return mode\n", 1),
        ("try:\n    import nothing_like_it as fast\nexcept ImportError:\n    fast = 4\ndef f():\n    return fast\n", 4),
        ("if True:\n    def h():\n        return 3\ndef f():\n    return h()\n", 3),
        ("def f():\n    return 1\nif False:\n    f = None\n", 1),
        ("def deco(g):\n    return lambda: 2\n@deco\ndef f():\n    return 1\n", 2),
        ("def f():\n    return 1\n\nLAST = 2  # 1..4", 1),
        ("def f():\n    return LAST\n\nLAST = 2  # 1..4", 2),
    ],
)  # fmt: skip
def test_a_definition_brings_along_what_it_needs_in_an_order_that_runs(donor, wanted):
    child = transplant(HEAD, donor, "f")
    assert undefined(child) == set()
    world: dict[str, object] = {"__name__": "candidate"}
    exec(compile(child, "candidate", "exec"), world)
    assert world["f"]() == wanted


def test_names_that_both_have_stay_the_receivers():
    child = transplant(HEAD, "def g():\n    return 9\ndef f():\n    return g() + 1\n", "f")
    assert child == HEAD.replace("return g()", "return g() + 1")


def test_a_constant_that_shares_its_statement_with_others_does_not_travel():
    receiver = "A, B = 1, 2\ndef f():\n    return A + B\n"
    child = transplant(receiver, "A = 5\ndef f():\n    return A\n", "f")
    assert child == "A, B = 1, 2\ndef f():\n    return A\n"


def test_a_donor_that_ends_without_a_newline_swallows_nothing():
    receiver = "LR = 0.1\nX = 2\ndef f():\n    return X\n"
    child = transplant(receiver, "def f():\n    return LR\nLR = 0.3  # 0..1", "f")
    assert child == "LR = 0.3  # 0..1\nX = 2\ndef f():\n    return LR\n"


def test_only_values_are_exchanged_where_the_definitions_are_equal():
    one = "LR = 0.1  # 0..1\nDEPTH = 2  # 1..3\nMODE = 1  # one of 1, 2\ndef f():\n    return LR\n"
    other = (
        "LR = 0.9  # 0..1\nDEPTH = 9  # 1..9\nMODE = 7  # one of 1, 7\ndef f():\n    return LR\n"
    )
    found = [crossed(one, other, seed).constants for seed in range(20)]
    assert {(p["LR"], p["DEPTH"]) for p in found} == {(0.9, 2), (0.1, 3), (0.9, 3)}
    assert {p["MODE"] for p in found} == {1}


@pytest.mark.parametrize(
    ("receiver", "donor", "reason"),
    [
        (HEAD, HEAD, "differ in nothing"),
        (SEEDS["transformer"], SEEDS["transformer"] + "# more\n", "differ in nothing"),
        ("def f(): return 1\n", "def g(): return 2\n", "differ in nothing"),
        ("LR = 0.1  # fixed\n", "LR = 0.2  # fixed\n", "differ in nothing"),
        (HEAD, "= 1", "cannot be taken apart"),
        ("= 1", HEAD, "cannot be taken apart"),
        (HEAD, "y = 1" + "+1" * 900, "cannot be taken apart"),
        ("def f():\n    return 1\n", "def f():\n    return 2\n", "the same as individual 2"),
    ],
)  # fmt: skip
def test_parents_that_cannot_be_combined_are_refused_with_the_reason(receiver, donor, reason):
    proposal = crossed(receiver, donor, 0)
    assert proposal.genome is None
    assert reason in proposal.refusal
    assert proposal.parents == (1, 2)


def test_texts_that_are_no_python_are_refused():
    proposal = crossed("LR = 0.1\n", "LR = 0.2\n", 0, Checks("config.json"))
    assert (proposal.genome, proposal.refusal) == (None, "only Python programs are recombined")
