"""An end without an answer is told by the limit that was met, where the log or the signal says so."""

import pytest

from evaluate.diagnosis import diagnose
from evaluate.warm import Exit
from population.individual import Stage

FORK = """
  File "train.py", line 3, in <module>
    if os.fork() == 0: work()
       ^^^^^^^^^
BlockingIOError: [Errno 11] Resource temporarily unavailable
"""
PIPE = """
  File "train.py", line 3, in <module>
    os.read(end, 1)
BlockingIOError: [Errno 11] Resource temporarily unavailable
"""
GOES_ON = "goes on\n" * 20 + "ValueError: no\n"
LONG_AGO = "OSError: [Errno 27] File too large\n" + GOES_ON
REFUSED = "prepare.HandInRefusedError: forward does not trace\n"


TRACEBACK = "Traceback (most recent call last):\n" + PIPE.replace("BlockingIOError", "KeyError")


@pytest.mark.parametrize(
    ("code", "log", "detail"),
    [
        (3, "val_loss: 0.1\n", "ended with exit code 3 after it printed: val_loss: 0.1"),
        (1, "no luck\n", "ended with exit code 1 after it printed: no luck"),
        (4, "", "ended with exit code 4 and printed nothing"),
        (245, "", "was ended by SIGSEGV and printed nothing"),
        (250, "no luck\n", "was ended by SIGABRT after it printed: no luck"),
        (1, TRACEBACK, "KeyError: [Errno 11] Resource temporarily unavailable"),
    ],
)
def test_a_crash_is_told_by_what_was_raised_or_else_by_its_exit_code(
    code: int, log: str, detail: str
) -> None:
    failed = diagnose(Stage.TRAINING, Exit(code, 0.0, 0, 0.0), log, None)
    assert (failed.reason, failed.detail) == ("crash", detail)


@pytest.mark.parametrize(
    ("code", "log", "reason"),
    [
        (1, "OSError: [Errno 27] File too large: 'big'", "file_limit"),
        (1, "died with <Signals.SIGXFSZ: 25>.", "file_limit"),
        (231, "", "file_limit"),  # a guard ends with its child's signal
        (153, "", "file_limit"),
        (1, "RuntimeError: can't start new thread", "process_limit"),
        (1, "libgomp: Thread creation failed: Resource temporarily unavailable", "process_limit"),
        (1, FORK, "process_limit"),
        (1, PIPE, "crash"),
        (1, LONG_AGO, "crash"),
        (0, "OSError: [Errno 27] File too large", "no_handin"),
        (1, "ValueError: no", "crash"),
        (1, REFUSED + GOES_ON, "crash"),
        (1, REFUSED, "refused"),
        (0, REFUSED + GOES_ON, "refused"),
    ],
)
def test_the_limit_that_ended_a_program_is_named(code: int, log: str, reason: str) -> None:
    failed = diagnose(Stage.TRAINING, Exit(code, 0.0, 0, 0.0), log, None)
    assert failed.stage is (Stage.HANDIN if reason == "refused" else Stage.TRAINING)
    assert failed.reason == reason
