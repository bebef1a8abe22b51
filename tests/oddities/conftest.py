"""The small text task of the tests of evaluation, on all rows: an alarm may be rare."""

from tests.evaluate.conftest import trial
from tests.evaluate.conftest import whole_data as text_data

__all__ = ["text_data", "trial"]
