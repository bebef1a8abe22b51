"""Text that a server or another program sent: keys taken out, encodable, bounded."""

from collections.abc import Iterable

ANSWER_BYTES = 2**20
"""What is kept of an answer; a train.py is a fortieth of it."""
EXCERPT = 300
SECRET_LENGTH = 8
"""Shorter keys are placeholders such as `local`, which occur in ordinary text."""
MOST_TOKENS = 10**9


def sound(text: str) -> str:
    r"""Return text that can be encoded: lone halves of a surrogate pair become U+FFFD.

    JSON can spell them (`\ud800`), and a pair may have come in two pieces.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return text with `[key]` for every secret in it: servers may send back what they got."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SECRET_LENGTH:
            text = text.replace(secret, "[key]")
    return text


def beginning(text: str, limit_bytes: int = ANSWER_BYTES) -> str:
    """Return as much of a sound text as fits into a number of bytes."""
    return text.encode()[:limit_bytes].decode(errors="ignore")


def excerpt(value: object, secrets: Iterable[str] = ()) -> str:
    """Return what a server said for a message of ours: one line, bounded, without secrets."""
    line = " ".join(redacted(sound(str(value)), secrets).split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


def tokens(value: object) -> int | None:
    """Return a number of tokens as a server reports it, None where it is none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if number and 0 <= value <= MOST_TOKENS else None  # type: ignore[operator,call-overload]
