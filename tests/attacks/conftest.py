"""The trials of `tests/evaluate`, for attacks."""

from tests.evaluate.conftest import text_data, trial

__all__ = ["text_data", "trial"]
