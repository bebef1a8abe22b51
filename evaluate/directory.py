"""A candidate's directory, read without trusting it: how much lies there, and how it goes away.

No symbolic link is followed, nothing that could block is opened, no depth or number of entries
breaks a walk: directories are opened relative to their parents and never by a long path.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_ENTRIES = 20_000
MAX_OPEN = 64
"""Directories that a walk holds open: those above it in which it has not seen everything yet."""


class TooLargeError(Exception):
    """A directory holds more than it may; the message says more of what."""


@dataclass(slots=True)
class _Folder:
    """An open directory; `left` are its subdirectories that are still to be visited."""

    descriptor: int
    left: list[str] = field(default_factory=list)


def _open(name: str, parent: int | None = None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)


def walk(top: Path) -> Iterator[tuple[int, os.DirEntry[str]]]:
    """Yield (descriptor of the directory, entry) for everything below `top`.

    A directory that vanished or was replaced in the meantime is passed over.

    Raises:
        TooLargeError: a directory cannot be opened, or too many of them are unfinished at once.
    """
    folders: list[_Folder] = []
    try:
        descriptor = _open(str(top))
        while True:
            folder = _Folder(descriptor)
            folders.append(folder)
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    yield descriptor, entry
                    if entry.is_dir(follow_symlinks=False):
                        folder.left.append(entry.name)
            following = _next(folders)
            if following is None:
                return
            descriptor = following
    finally:
        for folder in folders:
            os.close(folder.descriptor)


def _next(folders: list[_Folder]) -> int | None:
    """Open the next unvisited directory, closing those that are done with; None: there is none."""
    while folders:
        folder = folders[-1]
        if not folder.left:
            os.close(folders.pop().descriptor)
            continue
        name = folder.left.pop()
        try:
            found = _open(name, folder.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno == errno.ELOOP:
                continue
            raise TooLargeError(f"a directory in it cannot be read ({error.strerror})") from error
        if not folder.left:
            os.close(folders.pop().descriptor)
        if len(folders) >= MAX_OPEN:
            os.close(found)
            raise TooLargeError(f"its directories branch more than {MAX_OPEN} deep")
        return found
    return None


def check(top: Path, limit_bytes: int, elsewhere_bytes: int = 0) -> None:
    """Count what lies below `top`, together with what was counted elsewhere.

    Raises:
        TooLargeError: more than `limit_bytes` or `MAX_ENTRIES`, or it cannot be walked.
    """
    size = elsewhere_bytes
    if size > limit_bytes:
        raise TooLargeError(f"more than {limit_bytes} bytes in deleted files that are still open")
    for count, (_, entry) in enumerate(walk(top), 1):
        with contextlib.suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            size += max(found.st_size, found.st_blocks * 512)
        if count > MAX_ENTRIES:
            raise TooLargeError(f"more than {MAX_ENTRIES} files and directories")
        if size > limit_bytes:
            raise TooLargeError(f"more than {limit_bytes} bytes")


def keep_plain(top: Path) -> None:
    """Remove what is neither a regular file nor a directory, once nothing writes there any more.

    Raises:
        TooLargeError: it cannot be walked.
    """
    found = True
    while found:  # again: a directory that changes while it is listed may pass over entries
        found = False
        for descriptor, entry in walk(top):
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                os.unlink(entry.name, dir_fd=descriptor)
                found = True


def read_plain(path: Path, limit: int) -> bytes | None:
    """Return at most `limit` bytes of a regular file, None where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def remove(top: Path) -> None:
    """Remove a directory with everything in it, however deep, whatever its modes.

    Subdirectories are moved up to `top` before they are emptied, so that none is ever deep. What
    cannot be removed stays; nothing is raised.
    """
    with contextlib.suppress(OSError):
        descriptor = _open(str(top))
        try:
            os.fchmod(descriptor, 0o700)
            _empty(descriptor)
        finally:
            os.close(descriptor)
        top.rmdir()


def _empty(top: int) -> None:
    while folders := _unlink_files(top):
        for name in folders:
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=top)
                continue
            os.chmod(name, 0o700, dir_fd=top)
            below = _open(name, top)
            try:
                for child in _unlink_files(below):
                    os.chmod(child, 0o700, dir_fd=below)
                    os.rename(child, secrets.token_hex(16), src_dir_fd=below, dst_dir_fd=top)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=top)


def _unlink_files(descriptor: int) -> list[str]:
    """Remove all entries but directories, and return the names of those."""
    with os.scandir(descriptor) as listing:
        entries = list(listing)
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=descriptor)
    return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
