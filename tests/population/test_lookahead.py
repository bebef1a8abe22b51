from population.lookahead import LONGEST_FILL_IN_PAUSE_S, MOST_AHEAD, Lookahead


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_there_are_as_many_proposals_as_slots_and_two_at_least():
    ahead = Lookahead()
    assert [ahead.wanted(slots, 100) for slots in (1, 2, 8)] == [2, 2, 8]
    assert ahead.wanted(8, 3) == 3


def test_each_slot_that_finds_none_ready_asks_one_more_ahead_up_to_a_bound():
    ahead, wanted = Lookahead(), []
    for _ in range(40):
        assert ahead.fill_in(4, 100, pending=4)
        wanted.append(ahead.wanted(4, 100))
    assert wanted[:3] == [5, 6, 7]
    assert wanted[-1] == 4 * MOST_AHEAD - 1


def test_what_piles_up_is_asked_for_less():
    ahead = Lookahead()
    for _ in range(5):
        ahead.fill_in(4, 100, pending=4)
    for _ in range(9):
        ahead.pile_up()
    assert ahead.wanted(4, 100) == 4


def test_no_slot_is_filled_where_nothing_is_pending_or_no_place_is_left():
    ahead = Lookahead()
    assert not ahead.fill_in(4, 100, pending=0)
    assert not ahead.fill_in(4, 3, pending=3)
    assert not ahead.fill_in(4, 100, pending=4 * MOST_AHEAD)


def test_quick_operators_with_nothing_to_offer_are_asked_ever_more_rarely():
    clock, asked = Clock(), 0
    ahead = Lookahead(clock)
    for tenth in range(3_000):
        clock.now = tenth / 10
        if ahead.fill_in(4, 100, pending=4):
            asked += 1
            ahead.refused(slow=False)
    assert 300 / LONGEST_FILL_IN_PAUSE_S < asked < 20
    ahead.refused(slow=True)
    clock.now += LONGEST_FILL_IN_PAUSE_S
    assert ahead.fill_in(4, 100, pending=4)
    ahead.refused(slow=False)
    clock.now += 1.0
    assert ahead.fill_in(4, 100, pending=4)


def test_a_slot_that_is_filled_in_vain_asks_one_more_ahead_only_once():
    clock = Clock()
    ahead = Lookahead(clock)
    for _ in range(6):
        clock.now += LONGEST_FILL_IN_PAUSE_S
        assert ahead.fill_in(4, 100, pending=4)
        ahead.refused(slow=False)
    assert ahead.wanted(4, 100) == 5
    ahead.accepted()
    clock.now += LONGEST_FILL_IN_PAUSE_S
    assert ahead.fill_in(4, 100, pending=4)
    assert ahead.wanted(4, 100) == 6
