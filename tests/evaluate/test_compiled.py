"""What a program compiled before the clock comes back to the same code, and to nobody else."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluate import compiled
from evaluate.compiled import FOLDER, Compiled, key
from evaluate.spec import trial_spec
from evaluate.trial import compiled_parts
from evolve.taskfile import load_task
from population.individual import (
    EvaluationId,
    Genome,
    IndividualId,
    Purpose,
    Request,
    Scored,
)

from .conftest import Trial, program

ROOT = Path(__file__).resolve().parents[2]


def left_by_a_candidate(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / FOLDER / "inductor" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def lent(kept: Compiled, folder: Path) -> dict[str, str]:
    folder.mkdir()
    kept.lend(folder, None)
    found = (path for path in (folder / FOLDER).rglob("*") if path.is_file())
    return {path.name: path.read_text() for path in found}


def test_what_was_compiled_is_found_again_by_the_next_training(tmp_path: Path) -> None:
    kept = Compiled(tmp_path / "cache" / "one")
    assert kept.keep(left_by_a_candidate(tmp_path / "a", kernel="code"))
    assert lent(kept, tmp_path / "b") == {"kernel": "code"}


def test_what_was_compiled_names_the_directory_of_whoever_has_it(tmp_path: Path) -> None:
    kept = Compiled(tmp_path / "cache" / "one")
    kernel = f"compiled from {tmp_path}/first/{FOLDER}/inductor/kernel, of {tmp_path}"
    assert kept.keep(left_by_a_candidate(tmp_path / "first", kernel=kernel))
    assert lent(kept, tmp_path / "other") == {"kernel": kernel.replace("first", "other")}


def test_nothing_is_lent_where_nothing_was_kept(tmp_path: Path) -> None:
    kept = Compiled(tmp_path / "cache" / "one")
    assert not kept.keep(tmp_path / "left nothing")
    assert lent(kept, tmp_path / "b") == {}


def test_what_is_kept_is_never_renewed_so_that_nothing_grows_from_run_to_run(
    tmp_path: Path,
) -> None:
    kept = Compiled(tmp_path / "cache" / "one")
    kept.keep(left_by_a_candidate(tmp_path / "a", kernel="first"))
    assert not kept.keep(left_by_a_candidate(tmp_path / "b", kernel="second", weights="learnt"))
    assert lent(kept, tmp_path / "c") == {"kernel": "first"}


def test_a_copy_that_is_changed_leaves_the_kept_one_alone(tmp_path: Path) -> None:
    kept = Compiled(tmp_path / "cache" / "one")
    kept.keep(left_by_a_candidate(tmp_path / "a", kernel="code"))
    lent(kept, tmp_path / "b")
    left_by_a_candidate(tmp_path / "b", kernel="poison")
    assert lent(kept, tmp_path / "c") == {"kernel": "code"}


def test_links_out_of_the_directory_are_not_followed_and_pipes_hold_nobody_up(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret").write_text("validation text")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "more").write_text("validation text")
    folder = left_by_a_candidate(tmp_path / "a", kernel="code")
    (folder / FOLDER / "link").symlink_to(tmp_path / "secret")
    (folder / FOLDER / "links").symlink_to(tmp_path / "secrets")
    os.mkfifo(folder / FOLDER / "pipe")
    writer = os.open(folder / FOLDER / "pipe", os.O_RDWR)
    kept = Compiled(tmp_path / "cache" / "one")
    kept.keep(folder)
    os.close(writer)
    assert lent(kept, tmp_path / "b") == {"kernel": "code"}


@pytest.mark.parametrize("bound", ["MOST_BYTES", "MOST_FILES"])
def test_too_much_is_not_kept_at_all(
    bound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, bound, 1)
    kept = Compiled(tmp_path / "cache" / "one")
    assert not kept.keep(left_by_a_candidate(tmp_path / "a", one="code", two="code"))
    assert not kept.kept.exists()
    assert not list((tmp_path / "cache").iterdir())


def test_the_oldest_go_when_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST_KEPT", 2)
    folder = left_by_a_candidate(tmp_path / "a", kernel="code")
    for age, name in enumerate(["old", "middle", "young"]):
        kept = Compiled(tmp_path / "cache" / name)
        kept.keep(folder)
        if kept.kept.exists():
            os.utime(kept.kept, (age, age))
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["middle", "young"]


SOURCE = "LR = 0.1  # 0..1\nSHIFT = -0.5  # -1..1\nWIDTH = 8  # 4..16\nNAME = 'x'\n\ndef model():\n    return 3\n"


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (SOURCE.replace("0.1 ", "0.2 "), True),
        (SOURCE.replace("-0.5", "-0.25"), True),
        (SOURCE + "# a remark\n", True),
        (SOURCE.replace("return 3", "return 4"), False),
        (SOURCE.replace("LR", "RATE"), False),
        (SOURCE.replace("'x'", "'y'"), False),
        (SOURCE.replace("= 8", "= 9"), False),
        (SOURCE.replace("0.1 ", f"{1 << 60} "), False),
        (SOURCE + "x = " + " + ".join(["a"] * 5000), False),
        ("def broken(:\n", False),
    ],
)
def test_programs_share_a_folder_when_they_differ_in_fractions_and_not_in_sizes(
    changed: str, same: bool
) -> None:
    assert (key(SOURCE, "torch 2") == key(changed, "torch 2")) is same


def test_another_device_or_version_has_a_folder_of_its_own() -> None:
    assert len({key(SOURCE), key(SOURCE, "a"), key(SOURCE, "b"), key(SOURCE, "a", "b")}) == 4


def test_a_copy_that_a_killed_worker_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    kept = Compiled(tmp_path / "cache" / "one")
    for name, age_s in ((".partial-old", 7_200.0), (".partial-new", 60.0)):
        (tmp_path / "cache" / name).mkdir(parents=True)
        at = time.time() - age_s
        os.utime(tmp_path / "cache" / name, (at, at))
    assert kept.keep(left_by_a_candidate(tmp_path / "a", kernel="code"))
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    assert names == {".partial-new", "one"}


@pytest.fixture(scope="module")
def compilers_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what all tests here compile into: kernels of one text are built once."""
    return tmp_path_factory.mktemp("compiled")


COMPILES = """
import torch._dynamo.utils, torch._inductor.config
from evaluate.compiled import set_up_compiler

set_up_compiler(1, {source!r})
torch._inductor.config.cpp_cache_precompile_headers = False

@torch.compile
def step(x):
    with torch.autocast("cpu"{type}):
        y = x @ x
    return y.sin()

{source}
assert step(torch.ones(8, 8)).dtype is torch.{kind}
print(torch._dynamo.utils.counters["aot_autograd"]["autograd_cache_hit"])
"""


def test_what_computes_in_16_bits_is_found_again_and_another_kind_of_them_is_not(
    compilers_cache: Path,
) -> None:
    kinds = "bfloat16", "float16", "bfloat16"
    assert [hits(compilers_cache, kind, f", dtype=torch.{kind}") for kind in kinds] == [0, 0, 1]


def test_a_program_that_sets_the_type_of_every_autocast_computes_in_the_one_that_it_sets(
    compilers_cache: Path,
) -> None:
    for kind in ("bfloat16", "float16"):
        source = f"torch.set_autocast_dtype('cpu', torch.{kind})"
        assert hits(compilers_cache, kind, "", source) == 0


def hits(cache: Path, kind: str, type: str, source: str = "") -> int:
    """Compile a step in a process of its own; return how often it was found, and see its type."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILES.format(kind=kind, type=type, source=source)],
        cwd=ROOT,
        env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_directories_elsewhere_whose_names_have_another_length_have_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task(ROOT)
    request = Request(
        EvaluationId(1), IndividualId(1), Genome(SOURCE), 1, task.shards[0], Purpose.TRY
    )
    spec = replace(trial_spec(task, request, data=tmp_path, data_sha256="", slots=1), device="mps")
    kept = set()
    for place in (tmp_path, tmp_path / "further"):
        place.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        parts = compiled_parts(spec)
        assert parts is not None
        kept.add(parts.kept.name)
    assert len(kept) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_second_training_starts_with_what_the_first_one_compiled(trial: Trial) -> None:
    compiles = "torch.compile(model)(run.warmup_tokens(4)).sum().backward()\n"
    source = program(before_clock=compiles)
    source = source.replace("Model(run.vocab_size)", "Model(run.vocab_size).to(run.device)")
    results = [trial(source, device="cuda", seed=seed) for seed in (1, 2)]
    assert all(isinstance(result.outcome, Scored) for result in results), results
    first, second = (result.measured("startup_s") or 0.0 for result in results)
    assert second < first
