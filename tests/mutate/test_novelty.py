from mutate.novelty import Offer, checked, normalised_diff
from population.individual import Genome
from population.ports import Attempt, Proposal
from tests.mutate.programs import BASE, CHECKS, history, individual, standing

HISTORY = history([standing(1, BASE, 1.0), standing(2, BASE.replace("0.02", "0.03"), 0.5)])
PARENT = HISTORY.standings[next(iter(HISTORY.standings))].individual


def offered(source: str) -> Proposal:
    return checked(Offer("op", (PARENT,), source, (), (Attempt("a", "b"),)), CHECKS, HISTORY)


def test_a_program_that_exists_already_is_refused_by_its_owners_name() -> None:
    proposal = offered(BASE.replace("0.02", "0.03") + "# another comment\n")
    assert proposal.genome is None
    assert proposal.refusal == "it does the same as individual 2"


def test_a_program_that_fails_a_check_is_refused_with_what_it_took() -> None:
    proposal = offered("x = 1\n")
    assert proposal.genome is None
    assert "never calls deliver" in proposal.refusal
    assert proposal.attempts == (Attempt("a", "b"),)


def test_a_call_that_cannot_succeed_is_refused_unless_a_parent_has_it() -> None:
    wrong = f"{BASE}\n\ndef helper(a):\n    return a\n\n\nhelper()\n"
    line = wrong.splitlines().index("helper()") + 1
    assert offered(wrong).refusal == f"line {line} calls helper with other arguments than it takes"
    parent = individual(7, wrong)
    same = checked(Offer("op", (parent,), wrong + "X = 1\n", ()), CHECKS, HISTORY)
    assert same.refusal == ""


def test_a_new_program_is_offered_with_its_digests_and_constants() -> None:
    source = BASE.replace("0.02", "0.04")
    proposal, same = offered(source), individual(3, source)
    assert proposal.genome == Genome(source)
    assert proposal.refusal == ""
    assert (proposal.structure, proposal.fingerprint) == (same.structure, same.fingerprint)
    assert proposal.constants == same.constants
    assert proposal.parents == (1,)


def test_equal_edits_have_equal_diffs_wherever_they_stand() -> None:
    one = normalised_diff("a\nX = 1\nb\n", "a\nX = 2\nb\n")
    other = normalised_diff("X = 1\n" + "c\n" * 9, "X = 2\n" + "c\n" * 9)
    assert one == other == "-X = 1\n+X = 2"


def test_a_diff_keeps_lines_that_look_like_its_own_marks() -> None:
    assert normalised_diff("a\n-- b\n", "a\n++ b\n") == "--- b\n+++ b"
