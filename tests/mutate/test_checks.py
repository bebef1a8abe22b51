import re

import pytest

from mutate.checks import MAX_ELEMENTS, MAX_LITERAL_BYTES, MAX_STRING, Checks
from mutate.novelty import Offer, checked, normalised_diff
from tests.mutate.world import SEEDS, World, flat, individual

CHECKS = Checks(required_calls=("register", "deliver"))
CALLS = "run.register(m)\ndeliver(m)\n"
PART = MAX_LITERAL_BYTES // 16
WHOLE = "".join(f"x = {'a' * PART!r}\n" for _ in range(16))


def table(rows: int, columns: int) -> str:
    return f"T = [{', '.join(['[' + ', '.join(['0.5'] * columns) + ']'] * rows)}]\n"


@pytest.mark.parametrize(
    ("passes", "fails", "why"),
    [
        ("#" * (1000 - len(CALLS)), "#" * (1001 - len(CALLS)), "has 1001 bytes, more than 1000"),
        ("#" + "é" * ((999 - len(CALLS)) // 2), "é" * 499, "bytes, more than 1000"),
    ],
)
def test_a_program_is_as_long_as_allowed_and_no_byte_longer(passes, fails, why):
    checks = Checks(source_bytes=1000, required_calls=("register", "deliver"))
    assert checks.refusal(CALLS + passes) == ""
    assert why in checks.refusal(CALLS + fails)


@pytest.mark.parametrize(
    ("passes", "fails", "why"),
    [
        ("x = 1", "x = = 1", r"it does not parse: .*line 3"),
        ("def f(): return 1", "return 1", "'return' outside function"),
        ("x = '\\0'", "x = '\0'", "does not parse"),
        ("x = 1", "x = " + "(" * 300 + ")" * 300, "does not parse"),
        (f"x = {'a' * MAX_STRING!r}", f"x = {'a' * (MAX_STRING + 1)!r}", "line 3 holds a text of 2001"),
        (f"x = b{'a' * MAX_STRING!r}", f"x = b{'a' * (MAX_STRING + 1)!r}", "learn, do not paste"),
        (f"x = f'{'a' * MAX_STRING}{{y}}'", f"x = f'{'a' * (MAX_STRING + 1)}{{y}}'", "holds a text"),
        (f"def f():\n    '''{'a' * 9000}'''\n    pass", f"def f():\n    pass\n    '''{'a' * 9000}'''", "holds a text"),
        (WHOLE, WHOLE + "x = 'a'", f"hold {MAX_LITERAL_BYTES + 1} bytes"),
        (f"x = [{'y, ' * MAX_ELEMENTS}]", f"x = [{'y, ' * (MAX_ELEMENTS + 1)}]", "a table of 257 elements"),
        (f"x = ({'y, ' * MAX_ELEMENTS})", f"x = ({'y, ' * (MAX_ELEMENTS + 1)})", "a table"),
        (f"x = {{{'y, ' * MAX_ELEMENTS}}}", f"x = {{{'y, ' * (MAX_ELEMENTS + 1)}}}", "a table"),
        (f"x = {{{'y: y, ' * MAX_ELEMENTS}}}", f"x = {{{'y: y, ' * (MAX_ELEMENTS + 1)}}}", "a table"),
        (f"x = {2**256 - 1}", f"x = {2**256}", "an integer of 257 bits"),
        (table(10, 200), table(11, 200), "its literals hold 17600 bytes"),
    ],
    ids=lambda value: value[:24],
)  # fmt: skip
def test_each_rule_passes_what_just_fits_and_names_what_does_not(passes, fails, why):
    assert CHECKS.refusal(CALLS + passes) == ""
    assert re.search(why, CHECKS.refusal(CALLS + fails))


@pytest.mark.parametrize("source", ["", " \n\t\n"])
def test_an_empty_program_is_refused(source):
    assert Checks().refusal(source) == "the program is empty"


def test_every_required_call_must_stand_somewhere():
    assert CHECKS.refusal(CALLS) == ""
    assert CHECKS.refusal("run.deliver(m)\n") == "it never calls register"
    assert CHECKS.refusal("x = run.deliver, 'register()'\n") == "it never calls register, deliver"


def test_an_invalid_escape_is_no_error_of_ours():
    assert Checks().refusal("x = '\\d'\n") == ""


def test_an_artifact_of_another_language_is_only_measured():
    checks = Checks("config.json", 10, ("register",))
    assert checks.refusal("{ not py") == ""
    assert "more than 10" in checks.refusal("{" * 11)


@pytest.mark.parametrize("name", SEEDS)
def test_the_founders_pass(name):
    assert (
        Checks(required_calls=("start", "register", "batches", "deliver")).refusal(SEEDS[name])
        == ""
    )


def test_a_program_that_does_the_same_as_another_is_refused_with_its_id():
    world = World(flat)
    world.evaluated("LR = 0.1\n")
    parent = individual(1, "LR = 0.1\n")
    twin = checked(Offer("op", (parent,), "LR  =  1e-1  # same\n", ()), Checks(), world.history())
    assert (twin.genome, twin.refusal) == (None, "it does the same as individual 1")
    other = checked(Offer("op", (parent,), "LR = 0.2\n", ()), Checks(), world.history())
    assert other.genome is not None and other.refusal == ""
    assert other.constants == {"LR": 0.2}
    assert other.structure == parent.structure
    assert other.fingerprint == individual(2, "LR = 0.2\n").fingerprint


def test_equal_edits_in_different_places_have_equal_diffs():
    before, after = "a\nLR = 1\nb\n", "a\nLR = 2\nb\n"
    assert normalised_diff(before, after) == "-LR = 1\n+LR = 2"
    assert normalised_diff("c\n" + before, "c\n" + after) == normalised_diff(before, after)
