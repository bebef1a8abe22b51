"""The bench of populations: settings are told apart, searches repeat, tables compare in pairs."""

from dataclasses import replace
from pathlib import Path

from bench.recombination import EVOLVE, SETTINGS, Kept, search, table


def test_every_setting_has_a_name_of_its_own() -> None:
    settings = {one for group in SETTINGS.values() for one in group}
    assert EVOLVE.name == "evolve"
    assert len({one.name for one in settings}) == len(settings)


def test_a_search_repeats_to_the_last_digit_and_is_read_back_as_it_was(tmp_path: Path) -> None:
    first = list(search(EVOLVE, 0, 0, 2, [8, 16]))
    assert list(search(EVOLVE, 0, 0, 2, [8, 16])) == first
    assert [one.evaluations for one in first] == [8, 16]
    assert all(one.regret > 0 for one in first)
    Kept(tmp_path / "kept.csv").add(first)
    again = Kept(tmp_path / "kept.csv")
    assert again.found == first
    assert again.has("evolve", 0, 0, 2, 16)


def test_a_table_tells_gains_on_the_first_setting() -> None:
    (one,) = search(EVOLVE, 0, 0, 1, [8])
    better = replace(one, setting="better", regret=one.regret - 2)
    lines = table([one, better], ["evolve", "better"], 1, 8)
    assert [line.split()[-2] for line in lines[2:]] == ["+0.00", "+2.00"]
