"""What a program compiles before the clock, kept for the next training of the same code.

Compiling a model for a GPU takes a minute, loading what was compiled a few seconds. A kept folder
belongs to one text but for its module-level fractions, one torch and one device: whole numbers are
sizes, for which there are other kernels. So a program finds only what its own code compiled, in a
copy of its own. It is taken once, when the first batch is asked for and before it is told, and by
whoever was lent nothing: what a training has learnt cannot be in it, and nothing grows from run to
run. Start-up is billed on processors, where nothing is kept.

Compilers write down where they wrote: a kernel knows the file that it came from. Candidates'
directories have names of one length, so the name of the last one is exchanged for that of the next.
"""

import ast
import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

FOLDER = ".compiled"
"""Where compilers write, below a candidate's directory."""
MOST_BYTES, MOST_FILES = 512 << 20, 10_000
MOST_KEPT = 64
PARTIAL, PARTIAL_S = ".partial-", 3600.0
"""A copy that is being made, and the age at which nobody makes it any more."""
AUTOCAST = dict.fromkeys(
    ("torch.amp.autocast_mode._enter_autocast", "torch.amp.autocast_mode._exit_autocast"), "1"
)
"""What torch's compiler calls to compute in 16 bits, by the names under which it can be marked."""
SETS_A_TYPE = "set_autocast"
"""How the functions begin that set it: `torch.set_autocast_dtype` and its elders."""


def variables(workdir: Path) -> dict[str, str]:
    """Return what compilers and allocators are told in a candidate's environment on a GPU."""
    folder = workdir / FOLDER
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "CUDA_CACHE_PATH": str(folder / "driver"),
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    }


def set_up_compiler(processes: int, source: str) -> None:
    """Tell torch's compiler in how many processes it may work, and to keep what autocasts, too.

    Of itself it traces and divides anew every graph that enters autocast: the functions are missing
    from its list of those that are safe to keep, an oversight by the account of pytorch/pytorch
    issue 191106. What they are called with is part of the graph, and of its key. A type that a
    program sets for every autocast is not, so such a program has no share in this: torch 2.11 would
    keep it of itself, under one name for all types.

    Args:
        processes: how many.
        source: of the program that will compile.
    """
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor

    inductor.compile_threads = processes
    if SETS_A_TYPE in source:
        functorch.enable_autograd_cache = False
    else:
        inductor.unsafe_marked_cacheable_functions.update(AUTOCAST)


def key(source: str, *circumstances: str) -> str:
    """Return the name under which the compiled parts of a program are kept.

    Args:
        source: of the program.
        circumstances: whatever else the compiled code depends on: versions, the device.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the candidate's text
            tree = ast.parse(source)
        for statement in tree.body:
            value = getattr(statement, "value", None)
            value = value.operand if isinstance(value, ast.UnaryOp) else value  # a minus
            if isinstance(statement, ast.Assign) and isinstance(value, ast.Constant):
                value.value = None if isinstance(value.value, float) else value.value
        structure = ast.dump(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        structure = source
    return hashlib.sha256("\0".join((structure, *circumstances)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The kept folder of one structure, `kept`, which may not exist yet."""

    kept: Path

    def lend(self, workdir: Path, owner: tuple[int, int] | None) -> bool:
        """Copy what is kept into a candidate's directory; return whether there was something."""
        target = workdir / FOLDER
        try:
            shutil.copytree(self.kept, target, copy_function=_Exchange(*_names(workdir)[::-1]))
        except OSError:
            shutil.rmtree(target, ignore_errors=True)
            return False
        with contextlib.suppress(OSError):
            os.utime(self.kept)  # the one that was used longest ago goes first
        if owner is not None:
            for path in (target, *target.rglob("*")):
                os.chown(path, *owner)
        return True

    def keep(self, workdir: Path) -> bool:
        """Copy what a candidate has compiled, unless something is kept; return whether it was done.

        Its directory is not trusted: no link is followed, size and number of files are bounded.
        What cannot be kept is not, without a word: the next training compiles again.
        """
        if self.kept.exists():
            return False
        with contextlib.suppress(OSError, RecursionError, MemoryError):
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=self.kept.parent) as partial:
                copy = Path(partial) / "copy"
                if _copied(workdir / FOLDER, copy, _Exchange(*_names(workdir))):
                    copy.rename(self.kept)  # fails where another worker was quicker
                    self._forget()
                    return True
        return False

    def _sweep(self) -> None:
        """Remove copies that a worker began and was killed before it ended."""
        for left in self.kept.parent.glob(f"{PARTIAL}*"):
            with contextlib.suppress(OSError):
                if time.time() - left.lstat().st_mtime > PARTIAL_S:
                    shutil.rmtree(left, ignore_errors=True)

    def _forget(self) -> None:
        """Remove the folders that were not used for longest, beyond a bound."""
        kept = [path for path in self.kept.parent.iterdir() if not path.name.startswith(".")]
        for path in sorted(kept, key=lambda one: one.stat().st_mtime)[:-MOST_KEPT]:
            shutil.rmtree(path, ignore_errors=True)


def _names(workdir: Path) -> tuple[bytes, bytes]:
    """Return a directory's name as compilers write it, and one as long that stands for any."""
    own = os.fsencode(workdir)
    return own, b"/whoever-compiles".ljust(len(own), b"~")[: len(own)]


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Puts one text in the place of another that is as long: lengths and offsets stay true."""

    old: bytes
    new: bytes

    def within(self, content: bytes) -> bytes:
        return content.replace(self.old, self.new)

    def __call__(self, source: str, target: str) -> None:
        """Copy a file so, as `shutil.copytree` asks for it."""
        Path(target).write_bytes(self.within(Path(source).read_bytes()))


def _copied(source: Path, target: Path, exchange: _Exchange) -> bool:
    """Copy the regular files below a folder; return whether it holds few and small enough ones."""
    files = size = 0
    for folder, _, names, descriptor in os.fwalk(source, follow_symlinks=False):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True)
        files += 1
        for name in names:
            files += 1
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                opened = os.open(name, flags, dir_fd=descriptor)
            except OSError:  # gone, or a link
                continue
            with os.fdopen(opened, "rb") as file:
                if not stat.S_ISREG(os.fstat(opened).st_mode):  # a pipe, say
                    continue
                content = file.read(MOST_BYTES - size + 1)
            size += len(content)
            if files > MOST_FILES or size > MOST_BYTES:
                return False
            (place / name).write_bytes(exchange.within(content))
    return size > 0
