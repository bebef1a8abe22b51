import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mutate.spending import Purse, Spent

CALL = Spent(0.3, 1_000)


def waiting(purse: Purse, most: Spent) -> tuple[threading.Thread, list[bool]]:
    """Start a reservation in a thread of its own; return that and where its result will be."""
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(purse.reserve(most)))
    thread.start()
    return thread, results


def test_a_call_is_reserved_at_its_worst_and_settled_at_what_it_cost() -> None:
    purse = Purse(1.0, None, Spent())
    assert purse.reserve(CALL)
    assert purse.spent == Spent()
    purse.settle(CALL, Spent(0.1, 400))
    assert purse.spent == Spent(0.1, 400)
    assert purse.reserve(Spent(0.9, 1))


def test_what_earlier_calls_of_the_run_have_spent_counts() -> None:
    purse = Purse(1.0, 10_000, Spent(0.8, 500))
    assert not purse.reserve(CALL)
    assert purse.reserve(Spent(0.2, 9_500))


@pytest.mark.parametrize("most", [Spent(1.1, 1), Spent(0.1, 10_001), Spent(0.0, 10_001)])
def test_what_can_never_fit_is_refused_at_once(most: Spent) -> None:
    purse = Purse(1.0, 10_000, Spent())
    assert purse.reserve(CALL)
    assert not purse.reserve(most)


def test_a_call_without_a_price_is_bound_by_the_tokens_alone() -> None:
    purse = Purse(1.0, 1_000, Spent(1.0, 0))
    free = Spent(0.0, 1_000)
    assert purse.reserve(free)
    purse.settle(free, free)
    assert not purse.reserve(Spent(0.0, 1))


def test_a_call_waits_for_the_reservations_of_others_and_goes_on_when_they_are_settled() -> None:
    purse = Purse(0.5, None, Spent())
    assert purse.reserve(CALL)
    thread, results = waiting(purse, CALL)
    thread.join(0.05)
    assert thread.is_alive()
    purse.settle(CALL, Spent(0.1, 10))
    thread.join(60)
    assert results == [True]


def test_a_call_that_waited_is_refused_when_the_others_have_used_up_what_it_needs() -> None:
    purse = Purse(0.5, None, Spent())
    assert purse.reserve(CALL)
    thread, results = waiting(purse, CALL)
    purse.settle(CALL, CALL)
    thread.join(60)
    assert results == [False]


def test_a_closed_purse_sends_away_who_waits_and_reserves_nothing() -> None:
    purse = Purse(0.5, None, Spent())
    assert purse.reserve(CALL)
    thread, results = waiting(purse, CALL)
    purse.close()
    thread.join(60)
    assert results == [False]
    assert not purse.reserve(Spent(0.0, 0))
    purse.settle(CALL, Spent(0.2, 5))
    assert purse.spent == Spent(0.2, 5)


def test_an_answer_dearer_than_reserved_is_counted_in_full_and_nothing_is_lent_on_it() -> None:
    purse = Purse(1.0, None, Spent())
    assert purse.reserve(CALL)
    purse.settle(CALL, Spent(1.5, 9_000))
    assert purse.spent == Spent(1.5, 9_000)
    assert not purse.reserve(Spent(1e-9, 1))


def test_rounding_leaves_nothing_reserved_so_that_the_last_call_still_fits() -> None:
    purse = Purse(1.0, None, Spent())
    odd = [Spent(usd, 1) for usd in (0.1, 0.2, 0.3)]
    assert all(purse.reserve(most) for most in odd)
    for most in odd:
        purse.settle(most, Spent())
    assert purse.reserve(Spent(1.0, 1))


@pytest.mark.parametrize("limits", [(1.0, None), (1e9, 1_000)])
def test_no_number_of_threads_overdraws_it(limits: tuple[float, int | None]) -> None:
    purse = Purse(*limits, Spent())
    begun, running, most_running = threading.Barrier(16), list[Spent](), list[Spent]()
    lock = threading.Lock()

    def spend(number: int) -> int:
        begun.wait(60)
        granted, most = 0, Spent(0.07, 70)
        while purse.reserve(most):
            with lock:
                running.append(most)
                most_running.append(sum(running, purse.spent))
            granted += 1
            with lock:
                running.remove(most)
                purse.settle(most, Spent(0.01 * (1 + number % 7), 10 * (1 + number % 7)))
        return granted

    with ThreadPoolExecutor(16) as threads:
        granted = sum(threads.map(spend, range(16)))
    assert granted >= 14
    assert max(one.usd for one in most_running) <= limits[0] + 1e-9
    assert max(one.tokens for one in most_running) <= (limits[1] or 1e9)
    spent = purse.spent
    assert spent.usd <= limits[0] + 1e-9
    assert spent.tokens <= (limits[1] or 1e9)
    assert not purse.reserve(Spent(0.07, 70))
