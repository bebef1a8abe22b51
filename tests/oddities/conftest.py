"""The same small text task as the tests of evaluation."""

from tests.evaluate.conftest import text_data, trial, whole_data

__all__ = ["text_data", "trial", "whole_data"]
