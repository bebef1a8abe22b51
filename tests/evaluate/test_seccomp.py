"""The filter of system calls: what it refuses, what it lets pass, and that its numbers are right."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evaluate.seccomp import SYSCALLS, WITHOUT_EFFECT, install

needs_filter = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SYSCALLS,
    reason="seccomp filters exist on Linux, and tables for two machines",
)
HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}
TRY = """
import ctypes, os, sys, threading
from evaluate import seccomp
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
assert seccomp.install(sockets=False, memfd={memfd}, shared={shared})
def call(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments), ctypes.get_errno()
numbers = seccomp.SYSCALLS[os.uname().machine][1]
"""


def inside(body: str, memfd: bool = False, shared: bool = False) -> str:
    """Return what a process prints that runs `body` under the filter."""
    done = subprocess.run(
        [sys.executable, "-c", TRY.format(memfd=memfd, shared=shared) + body],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=Path(install.__code__.co_filename).parents[1],
    )
    return done.stdout.strip()


@pytest.mark.parametrize("machine", SYSCALLS)
def test_the_numbers_are_those_of_the_kernel_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"no {header} here")
    lines = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    known = {name: int(number) for name, number in lines}
    ours = SYSCALLS[machine][1]
    assert {name: known[name] for name in ours if name in known} == {
        name: number for name, number in ours.items() if name in known
    }
    assert len(ours.keys() & known.keys()) > 40


@needs_filter
def test_every_call_of_the_table_fails_or_does_nothing_whatever_its_arguments() -> None:
    body = """
for name, number in sorted(numbers.items()):
    if name not in ("clone", "clone3", "prctl", "fallocate", "mmap", "rt_sigaction", "prlimit64"):
        print(name, *call(number, 0, 0, 0, 0, 0, 0))
"""
    answers = [line.split() for line in inside(body).splitlines()]
    assert len(answers) > 60
    for name, *answer in answers:
        assert answer == (["0", "0"] if name in WITHOUT_EFFECT else ["-1", "1"]), name


@needs_filter
def test_namespaces_cannot_be_made_by_clone_and_clone3_is_not_there() -> None:
    body = """
for bit in (17, 25, 26, 27, 28, 29, 30):
    answer = call(numbers["clone"], 1 << bit | 17, 0, 0, 0, 0)
    if answer[0] == 0:
        os._exit(0)
    print(*answer)
print(*call(numbers["clone3"], 0, 0))
"""
    assert inside(body).splitlines() == ["-1 1"] * 7 + ["-1 38"]


@needs_filter
def test_limits_are_one_s_own() -> None:
    body = """
import resource
print(*call(numbers["prlimit64"], os.getppid(), resource.RLIMIT_CPU, 0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert inside(body).splitlines() == ["-1 1", "32 32"]


@needs_filter
def test_a_file_is_filled_by_writing_and_by_nothing_quicker() -> None:
    body = """
import tempfile
with tempfile.TemporaryFile() as file:
    print(*call(numbers["fallocate"], file.fileno(), 0, 0, 1 << 20))
    os.posix_fallocate(file.fileno(), 0, 1 << 20)
    print(os.fstat(file.fileno()).st_size)
"""
    assert inside(body).splitlines() == ["-1 95", str(1 << 20)]


@needs_filter
def test_threads_forks_and_subprocesses_still_work() -> None:
    body = """
import subprocess
thread = threading.Thread(target=print, args=("thread",), kwargs={"flush": True})
thread.start(); thread.join()
if os.fork() == 0:
    os._exit(0)
print(os.wait()[1], subprocess.run(["echo", "child"], capture_output=True).stdout)
"""
    assert inside(body).splitlines() == ["thread", "0 b'child\\n'"]


@needs_filter
def test_no_process_can_outlive_its_guard_or_hide_its_files() -> None:
    body = """
for option in (1, 4, 3):  # clear the death signal, be undumpable; ask whether it is dumpable
    print(*call(numbers["prctl"], option, 0, 0, 0, 0))
"""
    assert inside(body).splitlines() == ["-1 1", "-1 1", "1 0"]


@needs_filter
def test_only_a_role_that_lends_memory_can_make_memory_files() -> None:
    assert inside("print(os.memfd_create('x') > 2)", memfd=True) == "True"
    assert "refused" in inside(
        "try: os.memfd_create('x')\nexcept PermissionError: print('refused')"
    )


MAP = """
import mmap
for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
    try: mmap.mmap(-1, 1 << 20, flags | mmap.MAP_ANONYMOUS)[:] = bytes(1 << 20)
    except PermissionError: print("refused")
    else: print("mapped")
with open(__import__("tempfile").mkstemp()[1], "r+b") as file:
    os.unlink(file.name)
    file.truncate(1 << 20)
    mmap.mmap(file.fileno(), 0)[:] = bytes(1 << 20)
"""


@needs_filter
def test_memory_without_a_file_can_be_shared_only_where_a_driver_may_need_it() -> None:
    assert inside(MAP).split() == ["refused", "mapped"]
    assert inside(MAP, shared=True).split() == ["mapped", "mapped"]


@needs_filter
def test_no_process_can_let_the_kernel_reap_its_children_uncounted() -> None:
    body = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # it seems to work
if os.fork() == 0: os._exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]))
room = ctypes.create_string_buffer(64)
print(*call(numbers["rt_sigaction"], 17, None, room, 8), int.from_bytes(room[:8], "little"))
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
"""
    assert inside(body).splitlines() == ["3", "0 0 0"]
