from bench.ladder import Row, kept, regret, spread, table


def test_programs_are_spread_over_all_ranks() -> None:
    ranked = [(float(n), str(n)) for n in range(10)]
    assert spread(ranked, 4) == ["0", "3", "6", "9"]
    assert spread(ranked, 20) == [str(n) for n in range(10)]
    assert spread(ranked[:1], 3) == ["0"]


def test_regret_is_what_the_best_of_those_let_through_lacks() -> None:
    pairs = [(5.0, 1.0), (3.0, 2.0), (4.0, 3.0), (1.0, 4.0)]  # (full, short)
    assert regret(pairs, 0.5) == 2.0
    assert regret(pairs, 0.25) == 4.0
    assert regret(pairs, 1.0) == 0.0


def test_a_failed_training_counts_for_no_correlation_and_rows_are_found_again(tmp_path) -> None:
    rows = [
        Row(str(n), share, seed, None if (n, share) == (3, 0.2) else float(n))
        for n in range(4)
        for share, seed in ((0.2, 7), (1.0, 7), (1.0, 8))
    ]
    found = table(rows, [0.2], 7)
    cells = [list(column.cells) for column in found.columns]
    assert cells[0] == ["0.2", "again in full"]
    assert cells[1] == ["3", "4"]
    assert cells[4] == ["30%, 0.0000", ""]
    assert kept(tmp_path / "none") == kept(None) == []
