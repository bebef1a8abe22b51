"""The reference on one GPU: an autoresearch checkout's train.py on our tokens and our evaluation.

    python -m bench.gpu_reference ~/autoresearch --data ~/.cache/evolve-train/FOLDER
    python -m bench.gpu_reference ~/autoresearch --data FOLDER --seconds 60 --constants best --json

The program runs as it stands in the checkout, with your rights and in no sandbox; only constants
may be replaced. What it imports comes from here: rows of `batch_source`, the bits per byte of the
rows that our search selects by, and attention, which is torch's own in place of the kernel that
the program would download (`scaled_dot_product_attention` for whole rows, flex attention for
shorter windows). Its data are ready-made tokens, so that its loop waits for less than in its own
repository. Pinned copies run beside the GPU's work.

Its clock is its own and kinder than ours: it starts after 11 steps that train and are not
counted (they hide compilation), and the step that crosses the budget is finished. `num_steps` and
`total_tokens_m` count those 11 steps, `training_seconds` does not.

The best constants are not all of the best public log: an initialisation, decays of embeddings,
window lengths and a momentum schedule are code there. `git worktree add DIR exp/H100/mar8` in the
checkout gives that log's last train.py, which runs here with `--constants published`, too.

On a processor (`bench/gpu.py --small`) it runs in float32, uncompiled and on one thread, as our
founders do there.

Exit code 1 where the program fails, 2 where there is no GPU, no data or no such constant.
"""

import argparse
import ast
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from evaluate.evaluator import Evaluator, load
from population.errors import DataError

ROOT = Path(__file__).resolve().parent.parent
BESIDE_S = 300.0
"""Seconds beside the counted ones: start, compilation, 11 steps, evaluation; 248 s were seen."""
TAIL_LINES, LINE_CHARACTERS = 15, 300  # of a failed program's output that are told
OWN_SEED = 42  # what the published program seeds torch with

Constants = Mapping[str, float | int | str]

PUBLISHED: Constants = {}
BEST: Constants = {
    "TOTAL_BATCH_SIZE": 2**18,
    "DEPTH": 9,
    "ASPECT_RATIO": 57,  # 9 * 57 = 513 is rounded up to 640, not to the 512 that the log names
    "WINDOW_PATTERN": "SSSSL",
    "_precompute_rotary_embeddings.base": 200_000,
    "EMBEDDING_LR": 0.8,  # the log ends with 0.9, which lost until embeddings decayed: code there
    "UNEMBEDDING_LR": 0.005,
    "WARMDOWN_RATIO": 0.75,
    "FINAL_LR_FRAC": 0.05,
}
"""What the best public log kept, as far as constants hold it: 0.9979 to 0.9697 on an H100.

Source: karpathy/autoresearch, branch exp/H100/mar8 (pull request 44), results.tsv and train.py at
6c087cb; rows b1d5004 and 8189d27 are EMBEDDING_LR 0.9 with and without decay.
"""


SMALL: Constants = {
    "DEPTH": 4,
    "ASPECT_RATIO": 32,
    "HEAD_DIM": 32,
    "TOTAL_BATCH_SIZE": 2**10,
    "DEVICE_BATCH_SIZE": 8,
}
"""A size that a processor trains at the scale of its data, 128 bytes a row: 8 rows a step."""
ON_A_PROCESSOR = {
    'torch.device("cuda")': 'torch.device("cpu")',
    'device_type="cuda", dtype=torch.bfloat16': 'device_type="cpu", enabled=False',
    "torch.bfloat16": "torch.float32",
    ".bfloat16()": ".float()",
}
"""What the program says in place of what it says for a GPU."""


class ReferenceFailedError(Exception):
    """The reference cannot run, or it failed; the message says what to do, or its last words."""


class ConstantError(ReferenceFailedError):
    """The program has no such constant to replace."""


class NoGpuError(ReferenceFailedError):
    """The program asks for CUDA, which this machine lacks."""


@dataclass(frozen=True, slots=True)
class ReferenceRun:
    """What the program printed at its end, under its own names and by its own clock.

    Attributes:
        val_bpb: bits per byte of the rows of our shard `selection`.
        training_seconds: without its first 11 steps; total_seconds: with all but imports.
        peak_vram_mb: MiB that torch allocated at most.
        mfu_percent: of an H100's bf16 peak, whatever the device.
        total_tokens_m: millions, in all steps; num_steps: all steps.
        output: everything that it printed.
    """

    val_bpb: float
    training_seconds: float
    total_seconds: float
    peak_vram_mb: float
    mfu_percent: float
    total_tokens_m: float
    num_steps: int
    output: str


def reference(
    directory: Path,
    data: Path,
    seconds: float,
    constants: Constants = PUBLISHED,
    seed: int | None = None,
    device: str = "cuda",
) -> ReferenceRun:
    """Train the checkout's program for `seconds` on our data and return what it printed.

    Args:
        directory: the checkout; only its train.py is read.
        data: a folder of prepared data.
        seconds: its TIME_BUDGET; the whole call takes up to `BESIDE_S` more.
        constants: as in `replaced`.
        seed: of its weights and of the rows' order; its own where None.
        device: `cpu` runs it on one thread of the processor, with what it says for a GPU replaced.

    Raises:
        ConstantError: it has no such constant.
        DataError: there is no prepared data in the folder.
        NoGpuError: it asks for CUDA and there is none.
        ReferenceFailedError: there is no program, it failed, took too long or printed no result.
    """
    program = directory / "train.py"
    try:
        source = program.read_text(encoding="utf-8")
    except OSError as error:
        raise ReferenceFailedError(
            f"{program} cannot be read ({error.strerror}): name an autoresearch checkout"
        ) from error
    source = replaced(source, constants, seed)
    if device == "cpu":
        for there, here in ON_A_PROCESSOR.items():
            source = source.replace(there, here)
    elif "cuda" in source and not torch.cuda.is_available():
        raise NoGpuError(f"{program} asks for CUDA and torch {torch.__version__} sees no such GPU")
    _checked(data)
    rows_seed = OWN_SEED if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="reference-") as name:
        folder = Path(name)
        (folder / "train.py").write_text(source, encoding="utf-8")
        (folder / "prepare.py").write_text(
            "from pathlib import Path\n\n"
            "from bench.gpu_reference import Offer\n\n"
            f"offer = Offer(Path({str(data.resolve())!r}), {rows_seed})\n"
            f"MAX_SEQ_LEN, TIME_BUDGET = offer.sequence_length, {seconds!r}\n"
            "Tokenizer, make_dataloader = offer.tokenizer, offer.make_dataloader\n"
            "evaluate_bpb = offer.evaluate_bpb\n"
        )
        (folder / "kernels.py").write_text(
            "from prepare import MAX_SEQ_LEN\n\n"
            "from bench.gpu_reference import kernels, stand_in_for_cuda\n\n"
            "get_kernel = kernels(MAX_SEQ_LEN)\n"
            + ("stand_in_for_cuda()\n" if device == "cpu" else "")
        )
        return parsed(_run(folder, seconds + BESIDE_S, device))


def _checked(data: Path) -> None:
    """Refuse a folder without prepared data before anything starts."""
    evaluator = load(ROOT / "prepare.py")
    try:
        evaluator.settings(data)
    except getattr(evaluator, "DataError", OSError) as error:
        raise DataError(str(error)) from error


def _run(folder: Path, limit_s: float, device: str) -> str:
    """Run the folder's train.py in a process group of its own and return all that it printed."""
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
    }
    if device == "cpu":
        environment |= {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "train.py"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # compilers that outlive the program go with it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = log.read_bytes().decode("utf-8", "replace")  # as bytes: its carriage returns stay
    if code is None:
        raise ReferenceFailedError(f"train.py did not end within {limit_s:g} s{_last_words(text)}")
    if code:
        raise ReferenceFailedError(f"train.py ended with exit code {code}{_last_words(text)}")
    return text


def _last_words(text: str) -> str:
    """Return the last lines as a terminal would leave them: overwritten progress is gone."""
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return "\n".join(
        [", its last words:", *[line[:LINE_CHARACTERS] for line in lines if line][-TAIL_LINES:]]
    )


def parsed(output: str) -> ReferenceRun:
    """Return the result that stands below the last line `---` of a program's output.

    Raises:
        ReferenceFailedError: a figure is missing or not finite.
    """
    _, mark, summary = output.replace("\r\n", "\n").rpartition("\n---\n")
    found = re.findall(r"^(\w+):[ \t]+(-?\d+(?:\.\d+)?)$", summary if mark else "", re.MULTILINE)
    figures = {name.lower(): figure for name, figure in found}
    names = [name for name in ReferenceRun.__dataclass_fields__ if name != "output"]
    if missing := [name for name in names if name not in figures]:
        raise ReferenceFailedError(f"train.py printed no {', '.join(missing)}{_last_words(output)}")
    floats = {name: float(figures[name]) for name in names if name != "num_steps"}
    return ReferenceRun(**floats, num_steps=int(figures["num_steps"]), output=output)


def replaced(source: str, constants: Constants, seed: int | None = None) -> str:
    """Return the program with other constants; all else, comments included, stays as it is.

    Args:
        source: the program.
        constants: NAME, assigned once at module level from literals; or FUNCTION.ARGUMENT, whose
            default is such a value. Methods are functions here.
        seed: replaces the literal in each `manual_seed(LITERAL)`.

    Raises:
        ConstantError: there is no such constant, or more than one.
    """
    tree = ast.parse(source)
    places = _assigned(tree) | _defaults(tree)
    edits: list[tuple[ast.expr, str]] = []
    for name, value in constants.items():
        here = places.get(name, [])
        if len(here) != 1 or not _literal(here[0]):
            raise ConstantError(
                f"{name} is assigned {len(here)} times from a literal, expected once: is this "
                "train.py the reference's?"
            )
        edits.append((here[0], repr(value)))
    if seed is not None:
        seeds = list(_seeds(tree))
        if not seeds:
            raise ConstantError("no manual_seed(LITERAL) in the program: its seed stays unknown")
        edits += [(node, repr(seed)) for node in seeds]
    lines = [line.encode() for line in source.split("\n")]  # ast counts columns in UTF-8 bytes
    for node, text in sorted(edits, key=lambda edit: (-edit[0].lineno, -edit[0].col_offset)):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        lines[first : last + 1] = [before + text.encode() + after]
    return b"\n".join(lines).decode()


def _assigned(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """Return the values of plain assignments at module level, by name."""
    found: dict[str, list[ast.expr]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        if isinstance(target, ast.Name):
            found.setdefault(target.id, []).append(value)
    return found


def _defaults(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """Return the defaults of all arguments, by FUNCTION.ARGUMENT."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            positional = node.args.posonlyargs + node.args.args
            given = positional[len(positional) - len(node.args.defaults) :]
            pairs = [
                *zip(given, node.args.defaults, strict=True),
                *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
            ]
            for argument, default in pairs:
                if default is not None:
                    found.setdefault(f"{node.name}.{argument.arg}", []).append(default)
    return found


def _literal(node: ast.expr) -> bool:
    """Whether a value is written with literals alone: `2**19` is, `depth * 64` is not."""
    return not any(isinstance(part, ast.Name | ast.Call) for part in ast.walk(node))


def _seeds(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the literals that `manual_seed` is called with."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "manual_seed"
            and len(node.args) == 1
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.args[0]


# From here on: what the program imports, in its own process.


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """All that a program asks of a tokenizer: how many tokens there are."""

    vocab_size: int

    def from_directory(self) -> "Tokenizer":
        """Return itself: the program calls this on what it takes for the class."""
        return self

    def get_vocab_size(self) -> int:
        """Return V."""
        return self.vocab_size


class Offer:
    """What autoresearch's prepare.py offers to a program, made of our prepared data.

    Args:
        data: a folder of prepared data.
        seed: of the order of the training rows.

    Raises:
        prepare.DataError: there is no prepared data in the folder.
    """

    def __init__(self, data: Path, seed: int) -> None:
        self._evaluator: Evaluator = load(ROOT / "prepare.py")  # `prepare` itself is the shim
        self._data, self._seed = data, seed
        settings = self._evaluator.settings(data)
        self.sequence_length = settings.sequence_length
        self.tokenizer = Tokenizer(settings.vocab_size)

    def make_dataloader(
        self, tokenizer: Tokenizer, B: int, T: int, split: str
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Yield `(x, y, epoch)` without end: int64 (B, T) twice on the device, epochs from 1.

        Each batch has pinned memory of its own until its copy is done, so that a program that
        runs ahead of its GPU never overwrites rows that are still on their way.

        Raises:
            ValueError: `T` is not the data's, or `split` is not `train`.
        """
        if (T, split) != (self.sequence_length, "train"):
            raise ValueError(
                f"expected T = {self.sequence_length} and split 'train', got {T} and {split!r}"
            )
        batch = self._evaluator.batch_source(self._data, self._seed)
        tokens = np.load(self._data / "train" / "tokens.npy", mmap_mode="r")
        rows = len(tokens) if tokens.ndim == 2 else len(tokens) // T  # packed, or cut from a text
        return _batches(batch, B, rows)

    @torch.no_grad()
    def evaluate_bpb(
        self, model: Callable[..., torch.Tensor], tokenizer: Tokenizer, batch_size: int
    ) -> float:
        """Return bits per byte of the shard `selection`, as our own `metric` counts them.

        Args:
            model: `model(x, y, reduction="none")`: int64 (B, T) twice -> nats, B * T of them.
            tokenizer: ignored.
            batch_size: B of every call, the last one included: its missing rows are zeros, which
                do not count. Another shape would be compiled anew.
        """
        rows = self._evaluator.evaluation_rows(self._data, "selection")  # (N, T + 1)
        sizes = np.load(self._data / "token_bytes.npy").astype(np.int64)
        token_bytes = torch.from_numpy(sizes).to(_device())
        nats, counted_bytes = 0.0, 0
        for start in range(0, len(rows), batch_size):
            taken = rows[start : start + batch_size]
            padded = np.zeros((batch_size, rows.shape[1]), rows.dtype)
            padded[: len(taken)] = taken
            x, y = _on_device(padded)
            loss = model(x, y, reduction="none").view(batch_size, -1)[: len(taken)]  # (B, T)
            size = token_bytes[y[: len(taken)]]
            nats += float(loss.double()[size > 0].sum())
            counted_bytes += int(size.sum())
        return nats / math.log(2) / counted_bytes


def _batches(
    batch: Callable[[int], Any], B: int, rows: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    served = 0
    while True:
        x, y = _on_device(batch(B))
        yield x, y, 1 + served // rows
        served += B


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _on_device(rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets of rows (B, T + 1) as int64 (B, T) on the device."""
    pair = torch.from_numpy(np.stack([rows[:, :-1], rows[:, 1:]]).astype(np.int64))
    if _device().type == "cuda":
        pair = pair.pin_memory().to(_device(), non_blocking=True)
    return pair[0], pair[1]


def kernels(T: int, flex: bool | None = None) -> Callable[[str], SimpleNamespace]:
    """Return what stands for `get_kernel`, for rows of T tokens: torch's own attention.

    Args:
        T: tokens of a row.
        flex: use flex attention, which needs a GPU for training, for windows; default: on a GPU.
            Masks of the windows that the reference has used are made ahead; another window makes
            its own while the program compiles, which then happens twice.
    """
    flex = _device().type == "cuda" if flex is None else flex
    masks = {(T, window): _block_mask(T, window) for window in (T // 2, T // 8) if flex}

    def flash_attn_func(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
    ) -> torch.Tensor:
        """Return causal attention, (B, T, H, D) each: key j for query i where i - window <= j <= i.

        Raises:
            ValueError: it is not causal.
        """
        window = window_size[0]
        if not causal or window_size[1] > 0:
            raise ValueError(f"expected causal attention, got {causal} and window {window_size}")
        length, kind = q.shape[1], v.dtype
        q, k, v = q.to(kind).transpose(1, 2), k.to(kind).transpose(1, 2), v.transpose(1, 2)
        if window < 0 or window >= length - 1:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif flex:
            if (length, window) not in masks:
                masks[length, window] = _block_mask(length, window)
            y = flex_attention(q, k, v, block_mask=masks[length, window])
        else:
            ago = torch.arange(length)[:, None] - torch.arange(length)
            seen = (ago >= 0) & (ago <= window)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen.to(q.device))
        return y.transpose(1, 2)

    interface = SimpleNamespace(flash_attn_func=flash_attn_func)
    return lambda repository: SimpleNamespace(flash_attn_interface=interface)


def stand_in_for_cuda() -> None:
    """Let the program ask torch about a GPU where there is none: it is told of an H100, empty."""
    torch.cuda.get_device_capability = lambda device=None: (9, 0)  # type: ignore[assignment]
    torch.cuda.manual_seed = lambda seed: None
    torch.cuda.synchronize = lambda device=None: None
    torch.cuda.max_memory_allocated = lambda device=None: 0


def _block_mask(T: int, window: int) -> BlockMask:
    def seen(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (query >= key) & (query - key <= window)

    return create_block_mask(seen, None, None, T, T, device=_device())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="an autoresearch checkout")
    parser.add_argument("--data", type=Path, required=True, help="a folder of prepared data")
    parser.add_argument("--seconds", type=float, default=300.0, help="its training, by its clock")
    parser.add_argument("--constants", choices=("published", "best"), default="published")
    parser.add_argument("--seed", type=int, help="in place of the program's own")
    parser.add_argument("--log", type=Path, help="write what the program printed to this file")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    constants = {"published": PUBLISHED, "best": BEST}[options.constants]
    try:
        run = reference(options.directory, options.data, options.seconds, constants, options.seed)
    except (ReferenceFailedError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConstantError | NoGpuError | DataError) else 1)
    if options.log:
        options.log.write_text(run.output, encoding="utf-8")
    figures = {name: value for name, value in asdict(run).items() if name != "output"}
    if options.json:
        print(json.dumps({"constants": constants, "seed": options.seed, **figures}))
    else:
        for name, value in figures.items():
            print(f"{name:18}{value:>14,}")


if __name__ == "__main__":
    main()
