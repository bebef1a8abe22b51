"""The probe says what a jail really is on this machine, and what that protects."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evaluate.sandbox import exposed, probe, protects_data, require_all
from evolve.composition import prepared
from evolve.taskfile import load_task
from population.errors import SandboxError

ROOT = Path(__file__).resolve().parents[2]
DROP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(24, 21, 0, 0, 0) == 0  # CAP_SYS_ADMIN leaves the bounding set
os.execv(sys.argv[1], [sys.argv[1], "-m", "evaluate.layers"])
"""


def test_every_layer_says_what_it_covers_and_a_missing_one_what_to_do() -> None:
    layers = probe()
    assert [layer.name for layer in layers[:2]] == ["limits", "environment"]
    assert all(layer.explanation for layer in layers)
    assert all(layer.remedy or layer.active for layer in layers)


def layers_after(program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that becomes `evaluate.layers` under an interpreter that others can reach."""
    known = (sys.executable, shutil.which("python3", path="/usr/bin"))
    usable = [python for python in known if python and open_to_others(Path(python))]
    if not usable:
        pytest.skip("no interpreter that others can reach")
    return subprocess.run(
        [sys.executable, "-c", program, usable[0]],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )


def open_to_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root has a capability to lose"
)
def test_root_without_the_right_to_make_namespaces_has_them_as_an_ordinary_user() -> None:
    if Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
        pytest.skip("this machine has no user namespaces")
    done = layers_after(DROP)
    held = {row["name"] for row in json.loads(done.stdout) if row["active"]}
    assert {"namespaces", "unprivileged"} <= held


@pytest.mark.skipif(sys.platform != "linux", reason="a filter that refuses is made on Linux")
def test_a_layer_that_the_kernel_refuses_is_named_as_missing() -> None:
    refuse_landlock = """
import ctypes, os, struct, sys
from evaluate import seccomp
seccomp.SYSCALLS[os.uname().machine][1].clear()
seccomp.SYSCALLS[os.uname().machine][1].update(clone=9999, landlock=444, unshare=272)
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
assert seccomp.install(sockets=True, memfd=True)
os.execv(sys.argv[1], [sys.argv[1], "-m", "evaluate.layers"])
"""
    done = layers_after(refuse_landlock)
    held = {row["name"] for row in json.loads(done.stdout) if row["active"]}
    assert "landlock" not in held and "limits" in held
    assert not protects_data(held)


def test_only_landlock_protects_the_data() -> None:
    assert protects_data(("limits", "landlock"))
    assert not protects_data(("limits", "namespaces", "seccomp", "unprivileged"))


def test_whoever_requires_the_sandbox_gets_all_of_it_or_an_error() -> None:
    layers = probe()
    if all(layer.active for layer in layers):
        assert require_all() == tuple(layer.name for layer in layers)
    else:
        with pytest.raises(SandboxError, match="--require-sandbox"):
            require_all()


def test_data_is_not_prepared_where_candidates_read_the_interpreter(tmp_path: Path) -> None:
    assert exposed(tmp_path) == ""
    assert exposed(Path(sys.prefix) / "cache" / "text") != ""
    link = tmp_path / "cache"
    link.symlink_to(sys.prefix)
    with pytest.raises(SandboxError, match="which every candidate can read"):
        prepared(load_task(ROOT), link)
