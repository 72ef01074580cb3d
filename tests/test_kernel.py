"""CARDEA_KERNEL feigns an older kernel, and what is newer than Linux 6.1 in us
is what docs/kernels.md lists."""

import os
import re
import signal
import subprocess

import pytest

from lib.server import Server

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONF = r"""
module hello { run "$PROGRAMS/hello" }
module echo  { run "$PROGRAMS/echo" }
module env   { exec "printf 'Content-Type: a/b\\n\\nok'" }
forward http 127.0.0.1:$PORT to {
    map GET /       to hello
    map GET /echo   to echo
    map GET /env    to env
    map GET /files  to files "$DIR"
}
"""
# System calls of Linux 6.1 end here, on every machine.
LAST = 450
# NUMBER: `[ 319] memfd_create(`, behind a thread's number and before the call.
CALL = re.compile(r"^(?:\d+ +)?\[ *(\d+)\] (\w+)\((.*)", re.M)
# Flags that 6.1 does not have, as strace shows them, by name or by number.
NEWER_FLAGS = {
    "memfd_create": r"MFD_NOEXEC_SEAL|MFD_EXEC|0x(?:[0-9a-f]*[89a-f]|1[0-9a-f])"
                    r"\b(?= /\* MFD)|\|0x8\b|\|0x10\b",
    "setsockopt": r"SOL_SOCKET, (?:SO_PASSPIDFD|SO_PASSRIGHTS|0x4[c-f]|0x5)",
    "getsockopt": r"SOL_SOCKET, (?:SO_PEERPIDFD|0x4[c-f]|0x5)",
    "pidfd_open": r"PIDFD_THREAD|O_EXCL",
    "prctl": r"PR_SET_MDWE|PR_SET_MEMORY_MERGE",
}


@pytest.mark.parametrize("value", ["6.0", "5.15", "new", "6.1.7", "6.99"])
def test_a_kernel_that_is_not_known_is_a_start_error(cli, value):
    done = cli("version", env=dict(os.environ, CARDEA_KERNEL=value))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"cardea: CARDEA_KERNEL={value}: no kernel that can be feigned; known "
        "are 6.1 to 6.19\n")


def test_every_process_of_the_server_is_on_the_old_kernel(cardea):
    server = cardea(CONF, CARDEA_KERNEL="6.1")
    for path in ("/", "/echo", "/env"):
        assert server.request(path).status == 200
    assert len(server.family()) >= 5
    for pid, _ in server.family():
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            assert re.search(r"^Seccomp:\t2$", f.read(), re.M)


def documented():
    """The newer things that docs/kernels.md says we use."""
    with open(os.path.join(ROOT, "docs", "kernels.md"), encoding="utf-8") as f:
        rows = re.findall(r"^\| `(\w+)` \| 6\.\d+ \|", f.read(), re.M)
    assert rows
    return set(rows)


def test_what_is_newer_than_6_1_is_documented(build, folder):
    """Every system call of every process, from start to stop."""
    server = Server(build, folder, CONF, {"ASAN_OPTIONS": "detect_leaks=0"})
    trace = os.path.join(folder, "trace")
    program = os.path.join(build, "cardea")
    wrapped = os.path.join(folder, "cardea")
    with open(wrapped, "w", encoding="ascii") as f:
        f.write(f'#!/bin/sh\nexec strace -f -n -qq -s 0 -o "{trace}" '
                f'"{program}" "$@"\n')
    os.chmod(wrapped, 0o755)
    server.build = folder
    server.environment["PATH"] = os.environ["PATH"]
    try:
        server.start()
        for path in ("/", "/echo", "/env", "/files/cardea.conf"):
            assert server.request(path).status == 200
        subprocess.run(["kill", "-TERM", str(server.pid)], check=True)
        for pid, _ in server.family():
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if f.read().startswith(program.encode()):
                    os.kill(pid, signal.SIGTERM)
                    break
        server.wait_exit()
    finally:
        server.destroy()
    with open(trace, encoding="utf-8", errors="replace") as f:
        calls = CALL.findall(f.read())
    assert len({name for _, name, _ in calls}) > 40
    assert {"memfd_create", "execve", "epoll_wait", "futex"} & \
        {name for _, name, _ in calls}
    # libc may try newer calls by itself; it falls back, and is not us.
    # A number beyond all is that of a call that was cut within by a signal.
    late = {name for number, name, _ in calls
            if LAST < int(number) < 1 << 31}
    used = {name for _, name, rest in calls
            if name in NEWER_FLAGS and re.search(NEWER_FLAGS[name],
                                                 rest.split(" = ")[0])}
    assert late | used == documented()
