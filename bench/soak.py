"""Does a run lose anything? Harms one at random moments, and looks at what is left.

    python -m bench.soak RUNS                        40 harms, a task without torch
    python -m bench.soak RUNS --harms 10 --task . --budget 3s --seed 1
    python -m bench.soak RUNS --llm                  beside a scripted language model

One run is started, harmed after a while, and continued, over and over. The harms, drawn evenly:

    driver      SIGKILL for the driver alone
    power       SIGKILL for all of its processes at once, as when the power goes
    part        SIGKILL for one of them, whichever: a candidate, its guard, a worker, Ray's own
    interrupt   Ctrl-C
    stop        the driver stands still for some seconds, and goes on

Afterwards the state is compared with what it was before: every row must still be there as it was,
but for derived ones. No evaluation may have been made twice while its first result was kept and
was not to be repeated. No process may outlive its driver by more than two minutes, no temporary
directory the next call. At the end the run is completed undisturbed: nobody may have been given up
for what our side lost, and what is exported must be the leader.

With `--llm` it is told, too, how many tokens the language model charged for, and of how many no
record knows: answers that were under way when the driver died.

Exit code 1 where a promise was broken: each is told in a line, and the run's folder stays.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import psutil

from evaluate.trial import PREFIX
from evolve.reading import Reading
from evolve.taskfile import REPOSITORY
from tests.evolve.scripted_model import ScriptedModel
from tests.mutate.messages_server import MessagesServer

RUN = "soak"
FIRST_S, LAST_S = 1.0, 45.0
"""A harm comes so long after its call began: before the first record, or amid the search."""
PATIENCE_S = 120.0
"""For processes that have lost their driver; Ray's own take a minute and more."""
DERIVED = ("estimate", "segment")
"""Tables that are written anew, from others."""
TWICE = """
    SELECT e.individual, e.seed, e.shard, e.purpose, count(*)
    FROM evaluation e JOIN result r ON r.evaluation = e.id
    WHERE NOT r.contended AND coalesce(r.stage, '') <> 'infrastructure'
    GROUP BY ALL HAVING count(*) > 1
"""


class Soak:
    """A run that is harmed; `broken` collects the promises that did not hold."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.runs: Path = options.runs
        self.folder = self.runs / RUN
        self.temporary = self.runs / "temporary"
        self.temporary.mkdir(parents=True)
        words = ["--run", RUN, "--task", options.task, "--evaluations", options.evaluations]
        words += ["--budget", options.budget] if options.budget else []
        words += ["--slots", options.slots] if options.slots else []
        words += ["--llm", "--cost", "1000"] if options.llm else []
        self.words = [str(word) for word in words]
        self.environment = {
            name: text for name, text in os.environ.items() if "ANTHROP" not in name
        }
        self.environment |= {"TMPDIR": str(self.temporary)}
        self.model = ScriptedModel()
        self.chance = random.Random(options.seed)
        self.broken: list[str] = []
        self.counted: Counter[str] = Counter()
        self._before: Path | None = None

    def call(self) -> "subprocess.Popen[bytes]":
        """Start or continue the run; its output goes to a file."""
        with (self.runs / "output.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "evolve.cli", "run", *self.words, "--runs", str(self.runs)],
                stdout=log, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=self.environment,
            )  # fmt: skip

    def turn(self, number: int) -> bool:
        """Start the run, harm it, look at what is left; return whether it had ended by itself."""
        process = self.call()
        wait_s = self.chance.uniform(FIRST_S, LAST_S)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        over = process.poll() is not None
        harm = self.chance.choice(list(HARMS))
        family = family_of(process.pid)
        if over:
            harm = "none"
            self.claim(process.returncode == 0, f"a call ended with {process.returncode}")
        else:
            HARMS[harm](process, family, self.chance)
            self.end(process, harm)
        self.counted[harm] += 1
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
        left = [" ".join(command(one))[:100] for one in alive if one.is_running()]
        self.claim(not left, f"{harm}: processes outlive their driver: {left}")
        kept = self.look(harm)
        print(f"{number:4d}  after {wait_s:4.1f} s  {harm:9}  {kept} results", flush=True)
        return over

    def end(self, process: "subprocess.Popen[bytes]", harm: str) -> None:
        """Wait until the driver is dead; one that has survived its harm is interrupted later on."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.chance.uniform(5.0, 15.0))
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.claim(False, f"{harm}: Ctrl-C did not end the driver within {PATIENCE_S:.0f} s")
            process.kill()
            process.wait()
        told = {0, 130, -signal.SIGKILL} | ({2} if harm == "part" else set())  # Ray did not start
        self.claim(process.returncode in told, f"{harm}: exit code {process.returncode}")

    def look(self, harm: str) -> int:
        """Compare the state with what it was at the last look; return how many results it has."""
        state = self.folder / "state.duckdb"
        if not state.exists():
            self.claim(self._before is None, f"{harm}: the state is gone")
            return 0
        now = Path(tempfile.mkdtemp(dir=self.runs, prefix="look-"))
        for file in self.folder.glob("state.duckdb*"):
            shutil.copy(file, now)
        with database(now) as connection:
            tables = [name for (name,) in connection.execute("SHOW TABLES").fetchall()]
            if "result" not in tables:
                self.claim(self._before is None, f"{harm}: the tables are gone")
                return 0
            twice = connection.execute(TWICE).fetchall()
            self.claim(not twice, f"{harm}: evaluated twice: {twice}")
            for table, lost in self.lost(connection, tables):
                self.claim(not lost, f"{harm}: rows of {table} are gone or changed: {lost}")
            (results,) = connection.execute("SELECT count(*) FROM result").fetchone() or (0,)
        if self._before is not None:
            shutil.rmtree(self._before)
        self._before = now
        return int(results)

    def lost(
        self, connection: duckdb.DuckDBPyConnection, tables: list[str]
    ) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
        """Yield for each table some rows of the last look that it has no more."""
        if self._before is None:
            return
        connection.execute(f"ATTACH '{self._before / 'state.duckdb'}' AS before")
        known = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'before'"
        ).fetchall()
        for (table,) in known:
            if table not in tables:
                yield table, [("the table",)]
            elif table not in DERIVED:
                query = f"FROM before.main.{table} EXCEPT ALL FROM main.{table} LIMIT 3"
                yield table, connection.execute(query).fetchall()

    def complete(self) -> None:
        """Go on to the end without harm, and hold what the run exports against its lineage."""
        process = self.call()
        family = family_of(process.pid)
        self.claim(process.wait() == 0, f"the last call ended with {process.returncode}")
        psutil.wait_procs(family, timeout=PATIENCE_S)
        results = self.look("the end")
        with Reading(self.folder) as reading:
            leader = reading.leader()
            source = reading.individual(leader)["source"]
            rows = reading.query(
                "SELECT count(*) FROM individual i LEFT JOIN sources s ON s.individual = i.id "
                "WHERE s.source IS NULL"
            ).rows
            given_up = reading.query(
                "SELECT individual FROM evaluations GROUP BY individual "
                "HAVING bool_and(status = 'abandoned' OR coalesce(stage, '') = 'infrastructure')"
            ).rows
            read = reading.query("SELECT coalesce(sum(tokens_in), 0) FROM calls").rows[0][0]
        exported = {path.read_text() for path in (self.folder / "best").glob("*.py")}
        self.claim(source in exported, f"best/ does not hold the leader, #{leader}")
        self.claim(not given_up, f"individuals were given up for what was done here: {given_up}")
        self.claim(rows == ((0,),), f"individuals without their source: {rows}")
        left = [path.name for path in self.temporary.glob(f"{PREFIX}*")]
        self.claim(not left, f"temporary directories are left: {left[:5]}")
        print(f"{sum(self.counted.values())} calls ({dict(self.counted)}), {results} results")
        if charged := sum(usage.read for usage in self.model.usages):
            print(f"the language model charged for {charged} tokens read; {read} are recorded")

    def claim(self, holds: bool, what: str) -> None:
        """Note a promise that does not hold."""
        if not holds:
            self.broken.append(what)
            print(f"BROKEN  {what}", flush=True)


@contextmanager
def database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(str(folder / "state.duckdb"))
    try:
        yield connection
    finally:
        connection.close()


def family_of(driver: int) -> list[psutil.Process]:
    """Return the processes below a driver; those that are gone are none."""
    with suppress(psutil.NoSuchProcess):
        family: list[psutil.Process] = psutil.Process(driver).children(recursive=True)
        return family
    return []


def command(process: psutil.Process) -> list[str]:
    """Return a process's command line, empty where it has ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        words: list[str] = process.cmdline()
        return words
    return []


Harm = Callable[["subprocess.Popen[bytes]", list[psutil.Process], random.Random], None]


def kill_driver(
    process: "subprocess.Popen[bytes]", _: list[psutil.Process], __: random.Random
) -> None:
    process.kill()


def kill_all(
    process: "subprocess.Popen[bytes]", family: list[psutil.Process], _: random.Random
) -> None:
    for one in [psutil.Process(process.pid), *family]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def kill_part(
    process: "subprocess.Popen[bytes]", family: list[psutil.Process], chance: random.Random
) -> None:
    if not family:
        process.kill()
        return
    with suppress(psutil.NoSuchProcess):
        chance.choice(family).kill()


def interrupt(
    process: "subprocess.Popen[bytes]", _: list[psutil.Process], __: random.Random
) -> None:
    process.send_signal(signal.SIGINT)


def stop(
    process: "subprocess.Popen[bytes]", _: list[psutil.Process], chance: random.Random
) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(1.0, 20.0))
    process.send_signal(signal.SIGCONT)


HARMS: dict[str, Harm] = {
    "driver": kill_driver, "power": kill_all, "part": kill_part, "interrupt": interrupt,
    "stop": stop,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="a new folder")
    parser.add_argument("--harms", type=int, default=40)
    parser.add_argument("--task", type=Path, default=REPOSITORY / "tests" / "tasks" / "polynomial")
    parser.add_argument("--budget")
    parser.add_argument("--slots", type=int)
    parser.add_argument("--llm", action="store_true", help="ask a scripted language model, too")
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.runs = options.runs.resolve()
    if options.runs.exists():
        parser.error(f"{options.runs} is there already: name a new folder")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores Ctrl-C
    soak = Soak(options)
    with MessagesServer(soak.model) as server:
        soak.environment |= {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "none"}
        for number in range(1, options.harms + 1):
            if soak.turn(number):
                break
        soak.words += ["--evaluations", "1"]  # whoever is in flight is awaited, nobody else begun
        soak.complete()
    if soak.broken:
        sys.exit(f"{len(soak.broken)} promises were broken; the run is in {soak.folder}")
    print("nothing was lost, nothing made twice, nothing left behind")


if __name__ == "__main__":
    main()
