import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.controls import Found, Plan, table


def found(search: str, seed: int, *scores: float) -> Found:
    return Found(search, seed, "constants", scores, (2.5, 2.5), 2.2, 60, 1, 360.0)


def printed(*rows: Found) -> list[str]:
    text = StringIO()
    Console(width=200, file=text).print(table(rows, "evolve"))
    return text.getvalue().splitlines()


def test_searches_are_compared_in_pairs_of_one_seed() -> None:
    lines = printed(
        found("evolve", 0, 2.1, 2.3),
        found("evolve", 1, 2.2, 2.4),
        found("greedy", 0, 2.4),
        found("greedy", 1, 2.5),
        found("tpe", 1, 2.6),
    )
    evolve, greedy, tpe = (
        next(x for x in lines if name in x[:9]) for name in ("evo", "gre", "tpe")
    )
    assert "2.2000 2.3000" in evolve
    assert "-0.2500 +- 0.6353" in evolve  # t of one degree of freedom, 12.7, times 0.05
    assert "-0.2000 +- 0.0000" in greedy
    assert "-0.3000 +- inf" in tpe


def test_what_was_found_is_not_searched_again(tmp_path: Path) -> None:
    kept = found("greedy", 3, 2.4, 2.6)
    (tmp_path / "greedy-3.json").write_text(json.dumps(asdict(kept)), "utf-8")
    assert Plan(tmp_path, ("--evaluations", "60"), 5, "exam").found("greedy", 3) == kept


def test_a_search_that_cannot_begin_is_an_error_and_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="returned non-zero exit status"):
        Plan(tmp_path, ("--evaluations", "60"), 5, "exam").found("no-such-search", 0)
    assert not list(tmp_path.glob("*.json"))
