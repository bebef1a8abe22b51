"""The reference on one GPU: an autoresearch checkout's train.py on our tokens and our evaluation.

    python -m bench.gpu_reference ~/autoresearch --data ~/.cache/evolve-train/FOLDER
    python -m bench.gpu_reference ~/autoresearch --data FOLDER --seconds 60 --constants best --json

The program runs as it stands in the checkout, with your rights and in no sandbox; only constants
may be replaced. What it imports comes from `bench/gpu_reference_imports.py`: rows of our
`batch_source`, the bits per byte of the rows that our search selects by, and torch's attention in
place of the kernel that the program would download (`scaled_dot_product_attention` for whole rows,
flex attention for shorter windows). Its data are ready-made tokens, so that its loop waits for less
than in its own repository. Pinned copies run beside the GPU's work.

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
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from evaluate.evaluator import load
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
            "from bench.gpu_reference_imports import Offer\n\n"
            f"offer = Offer(Path({str(data.resolve())!r}), {rows_seed})\n"
            f"MAX_SEQ_LEN, TIME_BUDGET = offer.sequence_length, {seconds!r}\n"
            "Tokenizer, make_dataloader = offer.tokenizer, offer.make_dataloader\n"
            "evaluate_bpb = offer.evaluate_bpb\n"
        )
        (folder / "kernels.py").write_text(
            "from prepare import MAX_SEQ_LEN\n\n"
            "from bench.gpu_reference_imports import kernels, stand_in_for_cuda\n\n"
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
