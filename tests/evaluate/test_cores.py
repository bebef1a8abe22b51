"""A core belongs to one candidate at a time, across processes."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from evaluate import cores

from .conftest import Trial, program


@pytest.fixture(autouse=True)
def leases_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trials of other tests hold cores of this machine meanwhile."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_two_leases_at_once_hold_different_cores() -> None:
    if len(cores.available()) < 2:
        pytest.skip("this machine has one core")
    with cores.lease(1) as first, cores.lease(1) as second:
        assert set(first).isdisjoint(second)


def test_without_a_free_core_one_is_shared_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "PATIENCE_S", 0.2)
    with cores.lease(len(cores.available())), cores.lease(1) as shared:
        assert len(shared) == 1


def test_whoever_shares_a_core_has_a_place_of_his_own_until_he_leaves_it() -> None:
    with cores.place() as first:
        with cores.place() as second:
            assert first != second
        with cores.place() as third:
            assert third == second


def test_a_lease_ends_with_its_holder_however_it_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, signal\nfrom evaluate import cores\n"
        "with cores.lease(len(cores.available())):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=30)
    monkeypatch.setattr(cores, "PATIENCE_S", 0.0)
    with cores.lease(1) as held:
        assert len(held) == 1


def test_how_long_a_trial_waited_for_its_cores_is_told(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "PATIENCE_S", 1.2)
    assert trial(program()).measured("waited_s") is None
    with cores.lease(len(cores.available())):
        waited_s = trial(program()).measured("waited_s")
    assert waited_s is not None
    assert waited_s >= 1.2
