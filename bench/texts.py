"""Fills a folder with texts of this machine: data for comparisons of programs, without a network.

    python -m bench.texts /tmp/texts --bytes 1e9
    python -m bench.gpu --data /tmp/texts --reference ~/autoresearch

Source files, headers and documentation below the given places, in an order that depends on their
names alone, so that a smaller folder holds the beginning of a larger one. Values on such data
compare with each other on this machine, and with no public ones. For programs that are known, and
for no search: many of the originals are libraries, which every candidate can read.
"""

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PLACES = ("/opt", "/usr")
_SUFFIXES = """
.c .cc .cmake .cpp .css .cu .cuh .cxx .el .f .f90 .go .h .hpp .html .hxx .inc .inl .java .jl .js .m4
.md .pl .pm .po .pod .proto .pxd .py .pyi .pyx .r .rb .rs .rst .sh .sql .tcl .tex .texi .toml .ts
.txt .yaml
"""
KINDS = frozenset(_SUFFIXES.split())
NAMES = frozenset({"ChangeLog", "LICENSE", "METADATA", "NEWS", "README", "copyright"})
LEAST_BYTES, MOST_BYTES = 200, 3_000_000


def texts(places: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """Yield each file below these folders that looks like a text by its name, with its bytes."""
    for place in places:
        for root, folders, names in os.walk(place):
            folders[:] = [name for name in folders if name != ".git"]
            for name in names:
                path = Path(root, name)
                if path.suffix.lower() not in KINDS and name not in NAMES:
                    continue
                if path.is_symlink() or not os.access(path, os.R_OK):
                    continue
                size = path.stat().st_size
                if LEAST_BYTES <= size <= MOST_BYTES:
                    yield path, size


def gather(folder: Path, places: Iterable[Path], most_bytes: float) -> tuple[int, int]:
    """Copy texts below `places` into a new folder until they hold so many bytes.

    Returns:
        The number of files and of bytes.

    Raises:
        FileExistsError: the folder is there.
    """
    folder.mkdir(parents=True)
    found = sorted(
        (hashlib.sha256(os.fsencode(path)).hexdigest(), path, size) for path, size in texts(places)
    )
    files = total = 0
    for digest, path, size in found:
        if total + size > most_bytes:
            break
        shutil.copyfile(path, folder / f"{digest[:16]}-{path.name.lstrip('.')}")
        files, total = files + 1, total + size
    return files, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="is made")
    parser.add_argument("--bytes", type=float, default=1e9, help="at most (default: 1e9)")
    parser.add_argument("--places", type=Path, nargs="+", default=[*map(Path, PLACES)])
    options = parser.parse_args()
    try:
        files, total = gather(options.folder, options.places, options.bytes)
    except FileExistsError:
        sys.exit(f"error: {options.folder} is there already: name a folder that is not")
    if not files:
        options.folder.rmdir()
        sys.exit(f"error: no texts below {', '.join(map(str, options.places))}: name --places")
    print(f"{files:,} files, {total:,} bytes in {options.folder}")


if __name__ == "__main__":
    main()
