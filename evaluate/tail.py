"""What a candidate printed: head and tail kept, the middle dropped, the whole counted."""

import os
import re
from dataclasses import dataclass, field

HEAD_BYTES = 4 << 10
TAIL_BYTES = 16 << 10


@dataclass(slots=True)
class Tail:
    """Drains a pipe without ever holding more than a few KiB of it."""

    descriptor: int
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    total: int = 0
    open: bool = True

    def drain(self) -> None:
        """Take in what lies in the pipe now; `open` turns False at its end."""
        for _ in range(64):
            try:
                data = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self.open = False
                return
            self.total += len(data)
            room = HEAD_BYTES - len(self.head)
            self.head += data[:room]
            self.tail += data[room:]
            del self.tail[:-TAIL_BYTES]

    @property
    def dropped(self) -> int:
        """How many bytes were not kept."""
        return self.total - len(self.head) - len(self.tail)

    def last_lines(self) -> list[str]:
        """Return the lines at its end as far as none is missing or cut."""
        kept = self.tail if self.dropped else self.head + self.tail
        lines = re.split(rb"[\r\n]+", kept)
        return [line.decode("utf-8", "replace") for line in lines[bool(self.dropped) :]]

    def text(self) -> str:
        """Return head and tail as text, with a line in between where bytes were dropped."""
        dropped = self.dropped
        middle = f"\n[... {dropped} bytes ...]\n".encode() if dropped else b""
        whole = bytes(self.head) + middle + bytes(self.tail)
        return whole.decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
