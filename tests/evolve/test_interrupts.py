"""The first Ctrl-C asks, the second one interrupts."""

import os
import signal

import pytest

from evolve.interrupts import interruptible

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_asks_and_the_second_interrupts(
    first: signal.Signals, second: signal.Signals
) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    with interruptible() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), first)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
    assert [signal.getsignal(one) for one in SIGNALS] == before
