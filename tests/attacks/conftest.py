"""The trials of `tests/evaluate`, for attacks: on all rows, since a peek may be rare or faint."""

from tests.evaluate.conftest import trial
from tests.evaluate.conftest import whole_data as text_data

__all__ = ["text_data", "trial"]
