"""The text climbmix: what is downloaded, from where, and what becomes of it on a bad network."""

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

import prepare
from tests.climbmix_hub import Hub, serving

PROGRAM = Path(prepare.__file__)
TRAIN = [f"shard_{number:05}.parquet" for number in range(2)]
SHARDS = {
    "selection": "shard_06542.parquet",
    "confirmation": "shard_06541.parquet",
    "exam": "shard_06540.parquet",
}


def parquet(path: Path, word: str) -> None:
    """Write 400 numbered documents of one word among common ones."""
    rng = np.random.default_rng(len(word))
    words = ["the", "then", "theory", "of", word]
    rows = [{"text": f"{n} " + " ".join(rng.choice(words, 40))} for n in range(400)]
    (path.parent / "rows.json").write_text(json.dumps(rows))
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM '{path.parent / 'rows.json'}') TO '{path}'")
    (path.parent / "rows.json").unlink()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for word, name in zip(("first", "second"), TRAIN, strict=True):
        parquet(folder / name, word)
    for part, name in SHARDS.items():
        parquet(folder / name, part)
    return folder


@pytest.fixture
def hub(copy: Path) -> Iterator[Hub]:
    with serving(Hub({path.name: path.read_bytes() for path in copy.iterdir()})) as hub:
        yield hub


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prepare.SCALES, "gpu", prepare.Scale(32, 320, 2, 40))
    monkeypatch.setattr(prepare, "PAUSE_S", 0.0)
    monkeypatch.delenv("EVOLVE_MIRROR", raising=False)


def prepared(cache: Path, mirror: str | Path, shards: int = 2) -> Path:
    return prepare.prepare(f"climbmix:{shards}", cache, scale="gpu", mirror=str(mirror))


def downloads(cache: Path) -> Path:
    return cache / "downloads" / "climbmix"


def texts(directory: Path, part: str) -> str:
    from tokenizers import Tokenizer

    rows = np.load(directory / part / "tokens.npy")
    return str(Tokenizer.from_file(str(directory / "tokenizer.json")).decode(rows.ravel().tolist()))


def test_the_first_shards_train_and_the_last_three_judge(copy: Path, tmp_path: Path) -> None:
    directory = prepared(tmp_path, copy)
    words = {"train": {"first", "second"}} | {part: {part} for part in SHARDS}
    for part, own in words.items():
        text = texts(directory, part)
        assert {word for word in ("first", "second", *SHARDS) if word in text} == own
    assert prepare.settings(directory).evaluation_rows == 40
    prepare.verify(directory)


def test_no_token_is_learned_from_a_shard_that_judges(copy: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((prepared(tmp_path, copy) / "tokenizer.json").read_text())
    learned = set(vocabulary["model"]["vocab"])
    assert {"Ġfirst", "Ġsecond"} <= learned
    assert not {f"Ġ{part}" for part in SHARDS} & learned


def test_the_tokens_are_learned_from_a_bounded_portion(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "LEARNED_CHARACTERS", 10_000)
    vocabulary = json.loads((prepared(tmp_path, copy) / "tokenizer.json").read_text())
    assert "Ġfirst" in vocabulary["model"]["vocab"]
    assert "Ġsecond" not in vocabulary["model"]["vocab"]


def test_ten_shards_are_usual_and_the_number_is_part_of_the_data_set(tmp_path: Path) -> None:
    usual = prepare.data_dir("climbmix", tmp_path, "gpu")
    assert usual == prepare.data_dir("climbmix:10", tmp_path, "gpu")
    assert usual != prepare.data_dir("climbmix:2", tmp_path, "gpu")


@pytest.mark.parametrize("shards", ["0", "-1", "6541", "two"])
def test_a_number_of_shards_that_there_is_not_is_refused(shards: str, tmp_path: Path) -> None:
    with pytest.raises(prepare.DataError, match="expected 1 to 6540 training shards"):
        prepare.data_dir(f"climbmix:{shards}", tmp_path, "gpu")


def test_climbmix_is_for_the_gpu_scale(tmp_path: Path) -> None:
    with pytest.raises(prepare.DataError, match="climbmix is for GPUs"):
        prepare.prepare("climbmix", tmp_path)


def test_the_command_line_takes_the_number_of_shards_and_a_mirror(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["--scale", "gpu", "--mirror", str(copy), "--cache", str(tmp_path)]
    assert prepare.main([*usual, "--data", "climbmix", "--shards", "2", "--verify"]) == 0
    directory = prepare.data_dir("climbmix:2", tmp_path, "gpu")
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == str(directory)
    assert prepare.data_sha256(directory) in said.out
    with pytest.raises(SystemExit):
        prepare.main([*usual, "--shards", "3"])
    assert "--shards is for --data climbmix" in capsys.readouterr().err


def test_size_and_terms_are_said_before_anything_is_downloaded(
    hub: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.statuses = [403] * 10
    with pytest.raises(prepare.DataError, match="HTTP 403"):
        prepared(tmp_path, hub.url)
    said = capfd.readouterr().err
    total = sum(map(len, hub.files.values()))
    assert f"5 files, {total / 1e9:.2f} GB" in said
    assert hub.url in said
    assert "CC BY-NC 4.0" in said


def test_what_is_downloaded_is_what_the_server_has_and_is_not_fetched_again(
    hub: Hub, copy: Path, tmp_path: Path
) -> None:
    directory = prepared(tmp_path, hub.url + "/")
    assert prepare.data_sha256(directory) == prepare.data_sha256(prepared(tmp_path / "b", copy))
    for name, content in hub.files.items():
        assert (downloads(tmp_path) / name).read_bytes() == content
        assert hub.gets(name) == [""]
    assert len(list(downloads(tmp_path).iterdir())) == 5
    prepared(tmp_path, hub.url)
    shutil.rmtree(directory)
    prepared(tmp_path, hub.url)
    prepared(tmp_path, hub.url, shards=1)
    assert len(hub.asked) == 5


@pytest.mark.parametrize("hashes", [True, False])
def test_a_download_that_breaks_off_goes_on_where_it_was_as_often_as_more_comes(
    hub: Hub, hashes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "TRIES", 2)
    hub.breaks, hub.hashes = 5, hashes
    prepare.verify(prepared(tmp_path, hub.url))
    for name, content in hub.files.items():
        assert (downloads(tmp_path) / name).read_bytes() == content
        first, *others = hub.gets(name)
        assert first == ""
        assert len(set(others)) == 5
        assert all(where.startswith("bytes=") for where in others)


@pytest.mark.parametrize("hashes", [True, False])
def test_a_server_without_ranges_is_asked_from_the_beginning(
    hub: Hub, hashes: bool, tmp_path: Path
) -> None:
    hub.breaks, hub.ranges, hub.hashes = 1, False, hashes
    prepare.verify(prepared(tmp_path, hub.url))
    for name, content in hub.files.items():
        assert (downloads(tmp_path) / name).read_bytes() == content
        assert len(hub.gets(name)) == 2


def test_redirections_that_lead_nowhere_end_in_an_error(hub: Hub, tmp_path: Path) -> None:
    hub.circles = True
    with pytest.raises(prepare.DataError, match="redirect"):
        prepared(tmp_path, hub.url)


def test_what_an_earlier_call_left_is_continued(hub: Hub, tmp_path: Path) -> None:
    downloads(tmp_path).mkdir(parents=True)
    part = downloads(tmp_path) / f"{TRAIN[0]}.part"
    part.write_bytes(hub.files[TRAIN[0]][:1000])
    prepare.verify(prepared(tmp_path, hub.url))
    assert hub.gets(TRAIN[0]) == ["bytes=1000-"]
    assert not part.exists()


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_had_arrived_whole_is_taken_as_it_is(
    hub: Hub, known: bool, tmp_path: Path
) -> None:
    hub.hashes = hub.lengths = known
    downloads(tmp_path).mkdir(parents=True)
    content = hub.files[TRAIN[0]]
    (downloads(tmp_path) / f"{TRAIN[0]}.part").write_bytes(content)
    prepare.verify(prepared(tmp_path, hub.url))
    assert hub.gets(TRAIN[0]) == ([] if known else [f"bytes={len(content)}-"])


@pytest.mark.parametrize(
    ("left", "hashes"),
    [(b"another file" * 10, True), (b"PAR1" * 100_000, True), (b"PAR1" * 100_000, False)],
)
def test_what_was_left_of_another_file_is_replaced(
    hub: Hub, left: bytes, hashes: bool, tmp_path: Path
) -> None:
    hub.hashes = hashes
    downloads(tmp_path).mkdir(parents=True)
    (downloads(tmp_path) / f"{TRAIN[0]}.part").write_bytes(left)
    prepare.verify(prepared(tmp_path, hub.url))
    assert (downloads(tmp_path) / TRAIN[0]).read_bytes() == hub.files[TRAIN[0]]


def test_a_file_with_another_hash_is_refused_and_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.digest = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(prepare.DataError, match=f"the server says {hub.digest}"):
        prepared(tmp_path, hub.url)
    assert not list(downloads(tmp_path).glob("*.parquet"))


def test_a_page_in_place_of_a_file_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.hashes, hub.files[TRAIN[0]] = False, b"<html>Please log in</html>"
    with pytest.raises(prepare.DataError, match=f"{TRAIN[0]}: no Parquet file"):
        prepared(tmp_path, hub.url)
    assert not (downloads(tmp_path) / TRAIN[0]).exists()


def test_a_file_that_is_not_there_is_named_before_any_is_fetched(hub: Hub, tmp_path: Path) -> None:
    del hub.files[SHARDS["exam"]]
    with pytest.raises(prepare.DataError, match=f"{SHARDS['exam']}: HTTP 404"):
        prepared(tmp_path, hub.url)
    assert {method for method, _, _ in hub.asked} <= {"HEAD"}


def test_a_server_that_is_busy_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    hub.statuses = [503, 429, 500]
    prepare.verify(prepared(tmp_path, hub.url))


def test_a_server_that_stays_busy_is_given_up_with_a_remedy(hub: Hub, tmp_path: Path) -> None:
    hub.statuses = [503] * 100
    with pytest.raises(prepare.DataError, match=r"HTTP 503.*EVOLVE_MIRROR.*--data PATH"):
        prepared(tmp_path, hub.url)


def test_a_network_that_is_not_there_is_called_so_with_a_remedy(tmp_path: Path) -> None:
    with serving(Hub({})) as hub:
        gone = hub.url
    with pytest.raises(prepare.DataError, match=r"ConnectError.*Check the network.*--data PATH"):
        prepared(tmp_path, gone)


def test_too_little_space_is_noticed_before_the_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        prepare.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 10)
    )
    with pytest.raises(prepare.DataError, match=r"no space left in .*--cache"):
        prepared(tmp_path, hub.url)
    assert not hub.gets(TRAIN[0])


def test_a_disk_that_fills_up_on_the_way_is_called_so(hub: Hub, tmp_path: Path) -> None:
    hub.hashes = hub.lengths = False  # so that nobody can know before
    script = (
        'mount -t tmpfs -o size=20k none "$1" || exit 77; '
        '"$2" "$3" --scale gpu --data climbmix --shards 2 --mirror "$4" --cache "$1"'
    )
    names = [str(tmp_path), sys.executable, str(PROGRAM), hub.url]
    try:
        command = ["unshare", "-rm", "sh", "-c", script, "sh", *names]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("no private file system can be mounted here")
    assert "no space left" in done.stderr
    assert "--cache" in done.stderr


def test_a_folder_is_read_in_place_and_the_terms_are_said(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVOLVE_MIRROR", str(copy))
    prepare.verify(prepare.prepare("climbmix:2", tmp_path, scale="gpu"))
    assert "CC BY-NC 4.0" in capfd.readouterr().err
    assert not downloads(tmp_path).exists()


def test_files_that_a_folder_lacks_are_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(prepare.DataError, match=r"lacks shard_00002.parquet, shard_00003.parquet:"):
        prepared(tmp_path, copy, shards=4)


def test_a_damaged_file_is_named(copy: Path, tmp_path: Path) -> None:
    own = shutil.copytree(copy, tmp_path / "own")
    (own / TRAIN[1]).write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(prepare.DataError, match=f"{TRAIN[1]}: expected Parquet"):
        prepared(tmp_path, own)


def test_a_terminal_shows_how_much_has_come(hub: Hub, tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    hub.digest = "0" * 64  # the download is all that there is to see
    command = [
        sys.executable,
        str(PROGRAM),
        "--scale",
        "gpu",
        "--data",
        "climbmix",
        "--shards",
        "2",
    ]
    command += ["--mirror", hub.url, "--cache", str(tmp_path)]
    subprocess.run(command, stderr=end, stdout=subprocess.DEVNULL, timeout=60, check=False)
    assert b"] download 5 files: 0.00 GB are here" in os.read(terminal, 10_000)
    os.close(terminal)
    os.close(end)
