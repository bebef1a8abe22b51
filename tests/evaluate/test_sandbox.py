"""The probe says what a jail really is on this machine, and what that protects."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from evaluate.layers import compute
from evaluate.sandbox import exposed, probe, protects_data, require_all
from evolve.taskdata import prepared
from evolve.taskfile import load_task
from population.errors import SandboxError

ROOT = Path(__file__).resolve().parents[2]
DROP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(24, 21, 0, 0, 0) == 0  # CAP_SYS_ADMIN leaves the bounding set
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_every_layer_says_what_it_covers_and_a_missing_one_what_to_do() -> None:
    layers = probe()
    assert [layer.name for layer in layers[:2]] == ["limits", "environment"]
    assert all(layer.explanation for layer in layers)
    assert all(layer.remedy or layer.active for layer in layers)


def layers_after(
    program: str, device: str = "cpu", *readable: str
) -> "subprocess.CompletedProcess[str]":
    """Run a program that becomes `evaluate.layers` under an interpreter that others can reach."""
    return become_after(program, "-m", "evaluate.layers", device, "looks", *readable)


def become_after(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    known = (sys.executable, shutil.which("python3", path="/usr/bin"))
    usable = [python for python in known if python and open_to_others(Path(python))]
    if not usable:
        pytest.skip("no interpreter that others can reach")
    return subprocess.run(
        [sys.executable, "-c", program, usable[0], *arguments],
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
    assert {"network", "namespaces", "unprivileged"} <= held
    with tempfile.TemporaryDirectory() as data:  # that root alone can read
        rows = json.loads(layers_after(DROP, "cpu", data).stdout)
    missing = {row["name"]: row["remedy"] for row in rows if not row["active"]}
    assert missing.keys() == {"network", "namespaces"}
    assert "must be readable for all" in missing["network"]


MASK = """
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000) or libc.mount(b"none", b"/proc/tty", b"tmpfs", 0, None):
    sys.exit(errno.errorcode[ctypes.get_errno()])
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mask a part of /proc"
)
def test_where_no_proc_of_its_own_can_be_had_a_jail_on_a_gpu_does_without_its_processes() -> None:
    """As in a container: the driver of a GPU would look for itself in a /proc that shows others."""
    if subprocess.run([sys.executable, "-c", MASK], check=False, capture_output=True).returncode:
        pytest.skip("root may not mount here")
    held = {
        device: {
            row["name"]
            for row in json.loads(layers_after(MASK + DROP, device).stdout)
            if row["active"]
        }
        for device in ("cpu", "cuda")
    }
    assert held["cpu"] - held["cuda"] == {"namespaces"}
    assert {"network", "namespaces"} <= held["cpu"]
    done = become_after(MASK + DROP, "-c", ON_A_GPU)
    said, own, links = done.stdout.strip().rsplit("; ", 2)
    assert said == "open; Permission denied; open; open"
    assert own != "1"
    assert links == "lo"  # it has no network all the same


@pytest.mark.skipif(sys.platform != "linux", reason="a filter that refuses is made on Linux")
def test_a_layer_that_the_kernel_refuses_is_named_as_missing() -> None:
    refuse_landlock = """
import ctypes, os, struct, sys
from evaluate import seccomp
seccomp.SYSCALLS[os.uname().machine][1].clear()
seccomp.SYSCALLS[os.uname().machine][1].update(clone=9999, landlock=444, unshare=272)
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
assert seccomp.install(sockets=True, memfd=True, shared=True)
os.execv(sys.argv[1], sys.argv[1:])
"""
    done = layers_after(refuse_landlock)
    held = {row["name"] for row in json.loads(done.stdout) if row["active"]}
    assert not held & {"landlock", "network", "namespaces"} and "limits" in held
    assert not protects_data(held)


def test_a_network_that_is_not_ones_own_is_not_taken_for_a_layer() -> None:
    """Whatever the jail says that it has entered."""
    program = """
import os
from evaluate import layers, sandbox
layers.enter = lambda jail: ("limits", "network", "namespaces")
assert {one.name for one in layers.layers("cpu") if one.active} == {"limits"}
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_only_landlock_protects_the_data() -> None:
    assert protects_data(("limits", "landlock"))
    assert not protects_data(("limits", "network", "namespaces", "seccomp", "unprivileged"))


def test_whoever_requires_the_sandbox_gets_all_of_it_or_an_error() -> None:
    layers = probe()
    if all(layer.active for layer in layers):
        assert require_all("cpu") == tuple(layer.name for layer in layers)
    else:
        with pytest.raises(SandboxError, match="--require-sandbox"):
            require_all("cpu")


def test_data_is_not_prepared_where_candidates_read_the_interpreter(tmp_path: Path) -> None:
    assert exposed(tmp_path) == ""
    assert exposed(Path(sys.prefix) / "cache" / "text") != ""
    link = tmp_path / "cache"
    link.symlink_to(sys.prefix)
    with pytest.raises(SandboxError, match="which every candidate can read"):
        prepared(load_task(ROOT), link)


def test_texts_are_no_data_where_they_lead_to_what_candidates_read(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    (texts / "below").mkdir(parents=True)
    (texts / "below" / "own.txt").write_text("words\n" * 9)
    (texts / "below" / "library.py").symlink_to(os.__file__)
    with pytest.raises(SandboxError, match=r"library\.py lies in .* move the text elsewhere"):
        prepared(load_task(ROOT, data=str(texts)), tmp_path / "cache")


JAILED = """
import dataclasses, json, multiprocessing, os, sys, tempfile
from evaluate.sandbox import Jail, enter, owner

def square(x):
    return x * x

def inside(jail, write):
    enter(jail)
    said = {}
    try:
        with multiprocessing.Pool(2) as pool:
            said["pool"] = pool.map(square, [2, 3])
        with open("/dev/shm/mine", "wb") as file:
            for _ in range(8):
                file.write(bytes(1 << 20))
                file.flush()
    except OSError as error:
        said["refused"] = error.strerror
    said["seen"] = os.path.exists(sys.argv[2])
    os.write(write, json.dumps(said).encode())
    os._exit(0)

with tempfile.TemporaryDirectory() as room:
    jail = Jail(workdir=room, shared_bytes=int(sys.argv[1]))
    if (ids := owner(jail)) is not None:
        os.chown(room, *ids)
    read, write = os.pipe()
    if os.fork() == 0:
        inside(jail, write)
    os.close(write)
    os.wait()
    print(os.fdopen(read).read())
"""


def jailed(shared_bytes: int) -> dict[str, object]:
    """Return what happens in a jail that starts workers and fills /dev/shm."""
    ours = Path(f"/dev/shm/evolve-test-{os.getpid()}")
    ours.touch(mode=0o666)
    try:
        done = subprocess.run(
            [sys.executable, "-c", JAILED, str(shared_bytes), str(ours)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )
    finally:
        ours.unlink()
    assert not Path("/dev/shm/mine").exists()
    return dict(json.loads(done.stdout))


HOLDS = {layer.name for layer in probe() if layer.active} if sys.platform == "linux" else set()


@pytest.mark.skipif(not {"namespaces", "landlock"} <= HOLDS, reason="a layer is missing here")
def test_processes_of_a_jail_share_no_memory_unless_they_are_lent_a_little_of_their_own() -> None:
    alone, lent = jailed(0), jailed(4 << 20)
    assert alone == {"refused": "Permission denied", "seen": True}
    assert lent == {
        "pool": [4, 9],
        "refused": "No space left on device",
        "seen": False,
    }


ON_A_GPU = """
import os, socket, sys, tempfile
from pathlib import Path
from evaluate.sandbox import Jail, enter, owner

with tempfile.TemporaryDirectory() as room:
    Path(room).chmod(0o711)
    readable = Path(room, "dev")
    readable.mkdir()
    file = readable / "library.py"
    file.write_text("")
    file.chmod(0o666)
    workdir = Path(room, "own")
    workdir.mkdir()
    jail = Jail(workdir=str(workdir), readable=(str(readable) + "/",), device="cuda")
    if (ids := owner(jail)) is not None:
        os.chown(workdir, *ids)
    read, write = os.pipe()
    if os.fork() == 0:
        held = enter(jail)
        said = []
        name_of_thread = f"/proc/self/task/{os.getpid()}/comm"
        tried = (file, "r"), (file, "r+"), (name_of_thread, "r+"), (name_of_thread, "w")
        for name, mode in tried:
            try:
                open(name, mode).close()
                said.append("open")
            except OSError as error:
                said.append(error.strerror)
        links = (name for _, name in socket.if_nameindex())
        os.write(write, "; ".join([*said, os.readlink("/proc/self"), *links]).encode())
        os._exit(0)
    os.close(write)
    os.wait()
    print(os.fdopen(read).read())
"""


@pytest.mark.skipif(not {"namespaces", "landlock"} <= HOLDS, reason="a layer is missing here")
def test_on_a_gpu_a_path_that_has_dev_in_it_is_read_only_and_threads_can_be_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_A_GPU],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "open; Permission denied; open; open; 1; lo", done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device that can be used")
def test_a_device_that_fails_inside_the_sandbox_is_told_with_its_error_and_what_to_compare() -> (
    None
):
    with pytest.raises(SandboxError, match=r"from inside the sandbox .*: no candidate will start"):
        compute("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device that can be used")
def test_only_whoever_asks_has_a_device_tried_from_inside() -> None:
    assert probe("cuda")
    with pytest.raises(SandboxError, match="from inside the sandbox"):
        probe("cuda", computes=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_every_layer_holds_beside_a_driver_that_works() -> None:
    assert all(layer.active for layer in probe("cuda", computes=True))
