"""What else leaves a run: `results.tsv`, and a git branch with one commit per ancestor."""

import os
import subprocess
from pathlib import Path
from typing import Any

from evolve.printing import caveats
from evolve.reading import Reading
from evolve.text import number, one_line
from population.errors import RunError

IDENTITY = {
    "GIT_AUTHOR_NAME": "evolve",
    "GIT_AUTHOR_EMAIL": "evolve@localhost",
    "GIT_COMMITTER_NAME": "evolve",
    "GIT_COMMITTER_EMAIL": "evolve@localhost",
}

_EXPERIMENTS = """
    WITH ranks AS (
        SELECT evaluation, rank FROM counted JOIN leaderboard USING (individual)
        WHERE quarantine NOT IN ('held', 'refused') AND isfinite(value)
    )
    SELECT e.individual, e.value, e.status,
        e.value IS NOT NULL AND NOT e.protected AND (SELECT data_sha256 FROM run) <> ''
            AS unprotected, s.source_sha256, s.operator, s.name, m.value AS memory,
        (SELECT list(parent ORDER BY ordinal) FROM parent p WHERE p.individual = e.individual)
            AS parents,
        ranks.rank = 1 OR ranks.rank > 1 AND (SELECT fitness_sign FROM run) * e.value > coalesce(
            max((SELECT fitness_sign FROM run) * e.value) FILTER (ranks.evaluation IS NOT NULL)
                OVER (ORDER BY e.ended_seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
            '-infinity'::DOUBLE) AS kept
    FROM evaluations e
    LEFT JOIN ranks USING (evaluation)
    JOIN individual s ON s.id = e.individual
    LEFT JOIN measurement m ON m.evaluation = e.evaluation AND m.name = 'peak_memory_bytes'
    WHERE e.purpose IN ('screen', 'race') AND e.status IN ('scored', 'failed')
    ORDER BY e.ended_seq
"""


def results_tsv(reading: Reading) -> str:
    """Return every ranking evaluation in the columns of autoresearch's `results.tsv`.

    `commit` is the start of the source's hash; `keep` marks a new best score among those that rank,
    and what the leader scored: one score of another may be luckier. Those rank that are neither
    held back or refused by the quarantine nor made on another kind of machine. Those that were made
    where candidates could read the validation data are marked `(unprotected)`, those that programs
    made of themselves `(self-reported)`.
    Source: karpathy/autoresearch, program.md, "Logging results".
    """
    reported = reading.self_reported()
    lines = [f"commit\t{reading.run()['metric']}\tmemory_gb\tstatus\tdescription"]
    for row in reading.query(_EXPERIMENTS).objects():
        status = "crash" if row["value"] is None else "keep" if row["kept"] else "discard"
        memory = (row["memory"] or 0.0) / (1 << 30)
        value = number(row["value"] or 0.0, 6)
        told = _description(row, reported)
        lines.append(f"{row['source_sha256'][:7]}\t{value}\t{memory:.1f}\t{status}\t{told}")
    return "\n".join(lines) + "\n"


def git_branch(reading: Reading, individual: int, folder: Path) -> str:
    """Write the line of descent as commits, founder first, and return the branch's name.

    An existing repository gets an orphan branch: neither its work tree nor its index is touched.
    Another folder becomes a new repository with the branch checked out.

    Raises:
        RunError: git is missing or refuses, the branch exists, or `folder` cannot be one.
    """
    branch = f"evolve/{reading.folder.name}"
    new = not (folder / ".git").exists()
    if new:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{folder} cannot be made a folder ({error.strerror}); name another with -o"
            ) from error
        if any(folder.iterdir()):
            raise RunError(f"{folder} is neither empty nor a git repository; name another folder")
        _git(folder, "init", "--quiet")
        _git(folder, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    elif _git(folder, "for-each-ref", f"refs/heads/{branch}"):
        raise RunError(f"branch {branch} exists in {folder}; rename it or name another folder")
    artifact = str(reading.run()["artifact"])
    steps = reading.descent(individual)
    told = reading.individuals([step["individual"] for step in steps])
    commit = ""
    for found, step in zip(told, steps, strict=True):
        commit = _commit(folder, artifact, found, step, commit)
    _git(folder, "update-ref", f"refs/heads/{branch}", commit)
    if new:
        _git(folder, "reset", "--quiet", "--hard")
    return branch


def _commit(
    folder: Path, artifact: str, found: dict[str, Any], step: dict[str, Any], parent: str
) -> str:
    blob = _git(folder, "hash-object", "-w", "--stdin", text=found["source"])
    tree = _git(folder, "mktree", text=f"100644 blob {blob}\t{artifact}\n")
    date = f"@{int(found['born_at'])} +0000"
    above = ("-p", parent) if parent else ()
    return _git(folder, "commit-tree", tree, *above, text=_message(found, step), date=date)


def _message(found: dict[str, Any], step: dict[str, Any]) -> str:
    gain = "" if step["gain"] is None else f", {step['gain']:+.4f} better than its parent"
    title = f"#{found['id']} {one_line(found['name'] or found['operator'])}"
    body = [f"mean {number(step['mean'])}{gain}"]
    body += [f"with #{other}" for other in step["others"] or ()]
    body += [one_line(change["hypothesis"], 400) for change in found["changes"]]
    body += caveats(found)
    return "\n".join([title, "", *body]) + "\n"


def _description(row: dict[str, Any], reported: bool) -> str:
    parents = ", ".join(f"#{parent}" for parent in row["parents"] or ())
    origin = f"{row['operator']} of {parents}" if parents else row["name"] or row["operator"]
    mark = " (unprotected)" if row["unprotected"] else ""
    if reported:
        mark = "" if row["value"] is None else " (self-reported)"
    return one_line(f"#{row['individual']} {origin}", 200) + mark


def _git(folder: Path, *words: str, text: str | None = None, date: str | None = None) -> str:
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date} if date else {}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "-c", "core.autocrlf=false", *words],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
            env=environment | IDENTITY | dates,
        )
    except FileNotFoundError as error:
        raise RunError("git is not installed; install it or use another --format") from error
    except subprocess.CalledProcessError as error:
        raise RunError(f"git {words[0]} failed in {folder}: {error.stderr.strip()}") from error
    return done.stdout.strip()
