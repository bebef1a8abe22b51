"""A table of a TOML file, read key by key, with errors that name file, key and expectation."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from population.errors import TaskError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB)")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Table:
    """One table of `file`. Each read marks its key; `close` refuses the keys that nobody read.

    All reading methods raise TaskError when a key without a default is missing or when its value
    is of another type than the one that is asked for.
    """

    def __init__(self, file: Path, values: Mapping[str, Any], prefix: str = "") -> None:
        self._file = file
        self._values = values
        self._prefix = prefix
        self._known: set[str] = set()

    @classmethod
    def load(cls, file: Path) -> "Table":
        """Parse a TOML file.

        Raises:
            TaskError: the file is missing, is not UTF-8 or does not parse.
        """
        try:
            return cls(file, tomllib.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise TaskError(
                f"{file} cannot be read ({error.strerror}); name a task folder"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TaskError(f"{file} is not valid TOML: {error}; correct that place") from error

    def wrong(self, key: str, expected: str, got: object) -> TaskError:
        """Return the error for `key`: what was expected, what came."""
        return TaskError(f"{self._file}: `{self._prefix}{key}` must be {expected}; got {got!r}")

    def has(self, key: str) -> bool:
        """Return whether the file holds the key, which is known from then on."""
        self._known.add(key)
        return key in self._values

    def text(self, key: str, default: str | None = None) -> str:
        """Return a non-empty string."""
        value = self._take(key, default, "a text in quotes")
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a text in quotes", value)
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """Return a string that is one of `choices`."""
        expected = "one of " + ", ".join(f'"{choice}"' for choice in choices)
        value = self._take(key, default, expected)
        if value not in choices:
            raise self.wrong(key, expected, value)
        return str(value)

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return a non-empty list of non-empty strings."""
        value = self._take(key, default and list(default), "a list of texts")
        texts = isinstance(value, list) and all(v and isinstance(v, str) for v in value)
        if not value or not texts:
            raise self.wrong(key, "a list of texts", value)
        return tuple(value)

    def positive(self, key: str, default: float) -> float:
        """Return a number above zero."""
        value = self._take(key, default, "a number above 0")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.wrong(key, "a number above 0", value)
        return float(value)

    def whole(self, key: str, default: int) -> int:
        """Return a whole number above zero."""
        value = self._take(key, default, "a whole number above 0")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(key, "a whole number above 0", value)
        return value

    def size(self, key: str, default: int) -> int:
        """Return bytes, written as a whole number or as a text such as `"4 GiB"`."""
        expected = 'bytes or a text such as "4 GiB"'
        value = self._take(key, default, expected)
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match and (size := int(float(match[1]) * _UNITS[match[2]])):
            return size
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(key, expected, value)
        return value

    def table(self, key: str) -> "Table":
        """Return a table inside this one; an absent one reads as empty."""
        value = self._take(key, {}, "a table")
        if not isinstance(value, dict):
            raise self.wrong(key, "a table", value)
        return Table(self._file, value, f"{self._prefix}{key}.")

    def path(self, key: str, value: str) -> Path:
        """Return `value` as an existing file beside the TOML file."""
        found = self._file.parent / value
        if not found.is_file():
            raise self.wrong(key, f"a file in {self._file.parent}", value)
        return found

    def close(self) -> None:
        """Refuse keys that no reader asked for, with the nearest known one."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                hint = f"did you mean `{near[0]}`?" if near else "remove it"
                known = ", ".join(sorted(self._known))
                raise TaskError(
                    f"{self._file}: unknown key `{self._prefix}{key}` (known: {known}); {hint}"
                )

    def _take(self, key: str, default: object, expected: str) -> Any:
        self._known.add(key)
        if key in self._values:
            return self._values[key]
        if default is None:
            near = difflib.get_close_matches(key, self._values.keys() - self._known, n=1)
            hint = f"; is it meant by `{self._prefix}{near[0]}`?" if near else ""
            raise TaskError(
                f"{self._file}: `{self._prefix}{key}` is missing; it must be {expected}{hint}"
            )
        return default
