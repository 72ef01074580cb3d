"""A descriptor whose close takes long (a TCP socket with unsent data and
SO_LINGER, sent over a Unix socket and closed by its sender) must not stop who
drops it: a worker, the keeper."""

import array
import ctypes
import os
import re
import signal
import socket
import struct
import time

import pytest

from lib import control
from lib.pace import within
from lib.server import stand_still, stat_of, until

LINGER = 30
SOCKET = """
module hello { run "$PROGRAMS/hello" }
forward http 127.0.0.1:$PORT to hello
forward http unix:web.sock to hello
"""
# What a request may take while somebody tries to freeze its worker.
PROMPT = 1.5


class Sticky:
    """A connection that nobody reads, full, lingering: who closes our end last
    waits for LINGER seconds."""

    def __init__(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            self.end = socket.socket()
            self.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            self.end.connect(listener.getsockname())
            self.reader, _ = listener.accept()
        self.end.setblocking(False)
        try:
            while True:
                self.end.send(b"x" * 65536)
        except BlockingIOError:
            pass
        self.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, LINGER))

    def pass_on(self, way, data):
        """Sends it beside DATA on WAY and drops ours, which does not wait: it
        is not the last. OSError: it was refused."""
        rights = array.array("i", [self.end.fileno()])
        way.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        self.end.close()

    def free(self):
        """A reset ends every wait for it."""
        self.reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.reader.close()
        if self.end.fileno() >= 0:
            self.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                struct.pack("ii", 0, 0))
            self.end.close()


@pytest.fixture
def sticky():
    made = Sticky()
    yield made
    made.free()


def has_passrights():
    if os.environ.get("CARDEA_KERNEL"):
        return False
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.getsockopt(socket.SOL_SOCKET, 83)
            return True
        except OSError:
            return False


NEEDS_PASSRIGHTS = pytest.mark.skipif(
    not has_passrights(), reason="SO_PASSRIGHTS came with Linux 6.16")


def dial_unix(server):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(15)
    s.connect(os.path.join(server.folder, "web.sock"))
    return s


@NEEDS_PASSRIGHTS
def test_a_client_cannot_send_descriptors(cardea, sticky):
    server = cardea("set workers 1\n" + SOCKET)
    with dial_unix(server) as s:
        with pytest.raises(PermissionError):
            sticky.pass_on(s, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    began = time.monotonic()
    assert server.request("/").status == 200
    assert within(time.monotonic() - began, PROMPT)


@NEEDS_PASSRIGHTS
def test_who_asks_the_keeper_cannot_send_descriptors(cardea, sticky):
    server = cardea("set workers 1\n" + SOCKET)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(control.path_of(server))
        with pytest.raises(PermissionError):
            sticky.pass_on(s, b"status\n")


def switches(pid):
    """How often it has gone to sleep."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^voluntary_ctxt_switches:\t(\d+)", f.read(),
                             re.M).group(1))


def test_a_frozen_worker_is_woken(cardea, sticky):
    """Without SO_PASSRIGHTS: the close waits, and a signal ends the wait."""
    server = cardea("set workers 1\n" + SOCKET, CARDEA_KERNEL="6.1")
    worker, = server.workers()
    with dial_unix(server) as s:
        sticky.pass_on(s, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        began = time.monotonic()
        assert server.request("/").status == 200
        assert within(time.monotonic() - began, 4)
        assert s.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.workers() == [worker]


def test_a_stopped_worker_is_taken_over(cardea):
    server = cardea("set workers 1\n" + SOCKET)
    worker, = server.workers()
    # One that is stopped before it has cloned them is as one without.
    path = control.path_of(server)
    until(lambda: control.status(path)["workers"][0]["heirs"] == 2,
          what="the heirs")
    held = server.wire()
    began = time.monotonic()
    stand_still(worker)
    server.wait_log(rf"event=kill worker=0 pid={worker} cause=stuck")
    took = time.monotonic() - began
    assert took > 0.9 and within(took, 3)
    server.wait_log(rf"event=died worker=0 pid={worker} cause=signal-KILL "
                    r"count=1 heir=yes")
    assert held.request("/").status == 200


@pytest.mark.parametrize("busy", [False, True])
def test_a_stopped_worker_is_killed(cardea, busy):
    server = cardea("set workers 1\nset heirs 0\n" + SOCKET)
    worker, = server.workers()
    held = server.wire()
    if busy:
        held.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    began = time.monotonic()
    stand_still(worker)
    server.wait_log(rf"event=kill worker=0 pid={worker} cause=stuck")
    took = time.monotonic() - began
    assert took > 4.5 and within(took, 8)
    server.wait_log(r"event=died worker=0 cause=signal-KILL count=1")
    assert server.request("/").status == 200


def test_a_worker_that_is_continued_lives(cardea):
    server = cardea("set workers 1\n" + SOCKET)
    worker, = server.workers()
    stand_still(worker)
    until(lambda: stat_of(worker)[1] == "T", what="the stop")
    os.kill(worker, signal.SIGCONT)
    assert server.request("/").status == 200
    assert server.workers() == [worker]


PTRACE_DETACH, PTRACE_SEIZE = 17, 0x4206


def ptrace(request, pid):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,
                            ctypes.c_void_p]
    if libc.ptrace(request, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def test_a_worker_in_a_debugger_is_left_alone(cardea):
    """What the keeper sees as stopped may be looked at by somebody."""
    server = cardea("set workers 1\n" + SOCKET)
    worker, = server.workers()
    stand_still(worker)
    until(lambda: stat_of(worker)[1] == "T", what="the stop")
    try:
        ptrace(PTRACE_SEIZE, worker)
    except PermissionError:
        pytest.skip("no ptrace(2) here")
    until(lambda: stat_of(worker)[1] == "t", what="the debugger's stop")
    server.wait_log(rf"event=traced worker=0 pid={worker} "
                    rf"tracer={os.getpid()}")
    assert server.workers() == [worker]
    ptrace(PTRACE_DETACH, worker)
    os.kill(worker, signal.SIGCONT)
    assert server.request("/").status == 200
    assert server.workers() == [worker]
    assert not [line for line in server.log if "cause=stuck" in line]


def test_the_keeper_of_idle_workers_sleeps(cardea):
    server = cardea(SOCKET)
    assert server.request("/").status == 200

    def three_quiet_seconds():
        before = switches(server.keeper())
        time.sleep(3)  # the time itself is what is measured
        return switches(server.keeper()) == before

    until(three_quiet_seconds, what="sleep")


def test_a_crash_before_a_stop_is_no_fault_of_the_stop(cardea):
    """A process that lost its door was ending already, however late its parent
    learns of that (a core file is written first; here, a tracer has it first)."""
    server = cardea(SOCKET)
    pid, = server.modules("hello")
    path = control.path_of(server)
    try:
        ptrace(PTRACE_SEIZE, pid)
    except OSError:
        pytest.skip("no ptrace(2) here")
    os.kill(pid, signal.SIGKILL)
    server.wait_log("event=door-lost module=hello .*cause=gone")
    server.child.send_signal(signal.SIGTERM)
    until(lambda: control.module(control.status(path), "hello")["state"]
          == "stopping", what="the stop of the module")
    assert os.waitpid(pid, 0)[0] == pid
    assert server.wait_exit() == 0
    server.wait_log("event=stopped module=hello cause=signal-KILL")
