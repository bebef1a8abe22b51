import pytest

from evolve.doctor import NOTE, OK, memory


@pytest.mark.parametrize(("slots", "state"), [(4, OK), (5, NOTE)])
def test_more_candidates_at_once_than_the_memory_holds_are_told_of(slots: int, state: str) -> None:
    found = memory(slots, 4 << 30, 16 << 30)
    assert found.state == state
    assert f"16.0 GiB; {slots} at once may use 4 GiB each" in found.says
    assert bool(found.remedy) == (state == NOTE)
