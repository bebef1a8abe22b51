"""Programs beside each other: what is trained, at which size, with which changes."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu import FOUNDERS, SMALL, programs, sized
from bench.gpu_reference import SMALL as REFERENCE
from mutate.genome import values


@pytest.mark.parametrize("founder", FOUNDERS, ids=lambda file: file.stem)
def test_a_small_founder_has_the_size_of_the_small_reference(founder: Path) -> None:
    source = founder.read_text("utf-8")
    small = values(sized(source, SMALL))
    assert small["DEPTH"] == REFERENCE["DEPTH"]
    assert small["WIDTH"] == int(REFERENCE["DEPTH"]) * int(REFERENCE["ASPECT_RATIO"])
    assert small["HEAD_WIDTH"] == REFERENCE["HEAD_DIM"]
    assert small["BATCH_TOKENS"] == REFERENCE["TOTAL_BATCH_SIZE"]
    assert small.keys() == values(source).keys()


def test_every_change_is_made_alone_and_only_where_it_is_declared() -> None:
    changes = ["DEPTH=3", "BIGRAM_ROWS=16384"]
    named = dict(programs(FOUNDERS, changes, SMALL))
    assert list(named) == [
        "gpt", "gpt DEPTH=3", "hybrid", "hybrid DEPTH=3",
        "ngrams", "ngrams DEPTH=3", "ngrams BIGRAM_ROWS=16384",
    ]  # fmt: skip
    changed = values(named["ngrams DEPTH=3"])
    assert (changed["DEPTH"], changed["BIGRAM_ROWS"]) == (3, SMALL["BIGRAM_ROWS"])


def test_a_change_of_what_nobody_declares_is_refused() -> None:
    with pytest.raises(SystemExit, match="no program declares DEPHT=3"):
        list(programs(FOUNDERS, ["DEPHT=3"], {}))


def test_neither_ray_nor_duckdb_is_needed_where_minutes_of_a_card_are_dear() -> None:
    program = "import sys, bench.gpu; print({'ray', 'duckdb'} & {*sys.modules})"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
