"""Nothing of another program may live on a device that a candidate gets for itself."""

from pathlib import Path

import pytest

from evaluate import device
from evaluate.device import (
    DeviceBusyError,
    DeviceMissingError,
    accelerator,
    device_free,
    device_name,
    driver_version,
    memory_used_bytes,
    peak_flops,
    require_device,
    visible_cards,
)


def answering(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called nvidia-smi first in the search path."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_processor_is_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(tmp_path, "touch asked; echo 123", monkeypatch)
    monkeypatch.chdir(tmp_path)
    device_free("cpu")
    assert not (tmp_path / "asked").exists()
    assert device_name("cpu")


def test_a_device_on_which_a_process_stays_is_refused_with_its_pid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, "echo 4711", monkeypatch)
    monkeypatch.setattr(device, "PATIENCE_S", 0.5)
    with pytest.raises(DeviceBusyError, match="4711"):
        device_free("cuda")


def test_a_process_that_is_on_its_way_out_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, "test -e gone || echo 4711; touch gone", monkeypatch)
    monkeypatch.chdir(tmp_path)
    device_free("cuda")
    assert (tmp_path / "gone").exists()


@pytest.mark.parametrize("script", ["echo broken; exit 9", "sleep 30", "echo '[N/A]'"])
def test_a_query_that_fails_or_hangs_holds_nobody_up(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, f"exec {script}" if "sleep" in script else script, monkeypatch)
    monkeypatch.setattr(device, "QUERY_S", 0.5)
    device_free("cuda")


def test_only_the_devices_that_are_ours_are_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, 'echo "$@" > asked', monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    device_free("cuda")
    assert "--id=3" in (tmp_path / "asked").read_text()


def test_a_card_is_named_and_its_memory_read_without_opening_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(
        tmp_path,
        'case "$*" in *name*) echo "NVIDIA H100 80GB HBM3";; *memory.used*) echo 2048;; esac',
        monkeypatch,
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert device_name("cuda") == "NVIDIA H100 80GB HBM3"
    assert memory_used_bytes("cuda") == 2 << 30
    assert memory_used_bytes("cpu") is None


def test_a_worker_that_is_given_another_card_names_and_opens_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(
        tmp_path,
        'for word; do case "$word" in --id=*) id=${word#--id=};; esac; done\n'
        'case "$*" in *bus_id*) echo "00000000:0$id:00.0";; *name*) echo "card $id";; '
        '*driver*) echo "$id.0";; esac',
        monkeypatch,
    )
    for number in (8, 9):
        folder = tmp_path / f"0000:0{number}:00.0"
        folder.mkdir()
        (folder / "information").write_text(f"Device Minor: \t{number}\n")
    monkeypatch.setattr(device, "CARDS", tmp_path)
    for number in ("8", "9"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", number)
        assert device_name("cuda") == f"card {number}"
        assert driver_version("cuda") == f"{number}.0"
        assert visible_cards("cuda") == (f"nvidia{number}",)


def test_a_card_that_told_nothing_at_first_is_asked_again_and_then_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(
        tmp_path, 'echo >> asked; test "$(wc -l < asked)" -gt 1 || exit 9; echo 5', monkeypatch
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6")
    assert [driver_version("cuda") for _ in range(3)] == ["", "5", "5"]
    assert (tmp_path / "asked").read_text() == "\n\n"


def test_memory_that_is_not_told_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, "echo '[N/A]'", monkeypatch)
    assert memory_used_bytes("cuda") is None


def test_the_peak_of_a_card_is_known_by_its_name_alone() -> None:
    assert peak_flops("NVIDIA L40S") != peak_flops("NVIDIA L4")
    assert peak_flops("NVIDIA L40") != peak_flops("NVIDIA L4")
    assert peak_flops("NVIDIA H100 PCIe") != peak_flops("NVIDIA H100 80GB HBM3")
    assert peak_flops("NVIDIA GB200") is None
    assert peak_flops("some processor") is None


def test_a_machine_without_device_files_trains_on_its_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "DEVICE_FILES", ("no such device",))
    accelerator.cache_clear()
    try:
        assert accelerator() == "cpu"
    finally:
        accelerator.cache_clear()


def test_a_device_that_torch_does_not_see_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "device_count", lambda: 0)
    monkeypatch.setattr(device, "_torch", lambda program: "False")
    for name in ("cuda", "mps"):
        with pytest.raises(DeviceMissingError, match=f"no {name} device on this machine"):
            require_device(name)
    require_device("cpu")
    monkeypatch.setattr(device, "device_count", lambda: 1)
    require_device("cuda")
