"""Many connections at once: what idle ones cost, and that slow ones and a
neighbour that dies hold up nobody."""

import os
import re
import resource
import select
import socket
import time

import pytest

from lib import control
from lib.pace import within
from lib.server import until

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"

CONF = """
set access-log off
set header-timeout 1h
set body-timeout 1h
set idle-timeout 1h
module hello { run "$PROGRAMS/hello" }
module crash { run "$PROGRAMS/crash" }
forward http 127.0.0.1:$PORT to {
    map any /hello to hello
    map any /crash to crash
    map GET / to files "$DIR"
}
"""

# A fair share of a busy test machine, under sanitizers.
SOON = 1.0


@pytest.fixture(autouse=True)
def enough_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip(f"{hard} descriptors are too few (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(port, nth=0, window=0):
    """From an address of 127/8; with a small window if WINDOW is given."""
    s = socket.socket()
    if window:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    s.bind((f"127.0.2.{1 + nth % 250}", 0))
    s.connect(("127.0.0.1", port))
    return s


@pytest.fixture
def crowd():
    """crowd(port, n, first bytes): n connections, closed at the end."""
    made = []

    def grow(port, n, first=b"", window=0):
        some = [connect(port, i, window) for i in range(n)]
        made.extend(some)
        for s in some:
            s.sendall(first)
        return some

    yield grow
    for s in made:
        s.close()


def held_by_each(server):
    """How many connections each worker says that it holds."""
    state = control.status(control.path_of(server))
    return [w["connections"] for w in state["workers"]]


def held(server):
    return sum(held_by_each(server))


def until_held(server, n):
    until(lambda: held(server) >= n, 30, f"holding {n} connections")


def arena_bytes(pids):
    """Resident bytes of the workers' arenas: records, tables, segments. What
    a sanitizer adds lies elsewhere."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps", encoding="ascii") as f:
                text = f.read()
        except PermissionError:
            pytest.skip("only root may look at a worker")
        for part in re.findall(r"memfd:cardea-arena.*?Rss: *(\d+) kB", text,
                               re.DOTALL):
            total += 1024 * int(part)
    assert total > 0
    return total


def ask(s):
    """One request on a kept connection."""
    s.sendall(HELLO)
    answer(s)


def answer(s):
    s.settimeout(15)
    got = b""
    while not got.endswith(b"Well, hello to you too!\n"):
        more = s.recv(4096)
        assert more, got
        got += more
        assert got.startswith(b"HTTP/1.1 200 "[:len(got)]), got


def honest(port, n):
    """The 98th of 100 of how long N requests in turn took, in seconds."""
    took = []
    with connect(port) as s:
        for _ in range(n):
            began = time.monotonic()
            ask(s)
            took.append(time.monotonic() - began)
    return sorted(took)[n * 98 // 100]


def has_ended(s):
    poll = select.poll()
    poll.register(s, select.POLLIN | select.POLLRDHUP)
    return bool(poll.poll(0))


def test_two_thousand_idle_connections_cost_128_bytes_each(cardea, crowd):
    # All of the requests at once may wait.
    server = cardea("set queue 4096\n" + CONF)
    # Each worker has one already, and has served it: they stay open.
    first = []

    def each_has_one():
        first.extend(crowd(server.port, 4))
        until_held(server, len(first))
        return all(held_by_each(server))

    until(each_has_one, what="a connection of each worker")
    for s in first:
        ask(s)
    workers = server.workers()
    before = arena_bytes(workers)
    some = crowd(server.port, 2000)
    until_held(server, len(first) + 2000)
    # In whole pages: each worker's table ends within one.
    assert arena_bytes(workers) - before <= 2000 * 128 + len(workers) * 4096
    # A request on each at once needs a segment of 4 KiB for each, and that goes
    # back within seconds.
    for s in some:
        s.sendall(HELLO[:-1])
    until(lambda: arena_bytes(workers) - before >= 2000 * 4096, 15,
          "reading 2000 heads")
    for s in some:
        s.sendall(HELLO[-1:])
    for s in some:
        answer(s)
    # But for two segments that a worker keeps warm, the ends of its tables'
    # pages, which depend on how many connections each has, and the lines of the
    # door that calls have waited for (2 KiB, over one page or two).
    spare = len(workers) * 6 * 4096
    until(lambda: arena_bytes(workers) - before <= 2000 * 128 + spare, 15,
          "giving the requests' memory back")
    assert not any(has_ended(s) for s in some)
    assert held(server) >= len(first) + 2000


def test_slow_clients_of_each_kind_hold_up_nobody(cardea, crowd, folder):
    with open(os.path.join(folder, "big"), "wb") as f:
        f.write(bytes(1 << 20))
    server = cardea(CONF)
    slow = crowd(server.port, 300, b"GET /hello HTTP/1.1\r\nHost: a\r\nX: ")
    slow += crowd(server.port, 300, b"POST /hello HTTP/1.1\r\nHost: a\r\n"
                  b"Content-Length: 100000\r\n\r\n")
    readers = crowd(server.port, 300, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
                    window=4096)
    until_held(server, 900)
    for _ in range(3):
        for s in slow:
            s.send(b"a")
        for s in readers:
            s.setblocking(False)
            try:
                s.recv(256)
            except BlockingIOError:
                pass
        assert within(honest(server.port, 100), SOON)
    assert not any(has_ended(s) for s in slow)
    assert held(server) >= 900


def test_an_app_that_always_dies_hurts_no_other(cardea, crowd):
    server = cardea(CONF)
    alone = honest(server.port, 200)
    took = []

    def has_died(times):
        # Its callers wait for it while it dies, or learn that it is gone.
        crowd(server.port, 10, b"GET /crash?now=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        took.append(honest(server.port, 50))
        return times <= sum("event=died module=crash" in line
                            for line in list(server.log))

    until(lambda: has_died(4), 30, "the fourth death")
    assert within(sorted(took)[len(took) * 3 // 4], 10 * alone + 0.1)
    assert server.request("/hello").status == 200


def test_modules_have_the_limits_that_cardea_was_given(cardea):
    server = cardea(CONF)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    module, worker = server.modules("hello")[0], server.workers()[0]
    assert resource.prlimit(module, resource.RLIMIT_NOFILE) == (soft, hard)
    wanted = 131072 if hard >= 131072 else hard
    with open(f"/proc/{worker}/limits", encoding="ascii") as f:
        limit = re.search(r"Max open files +(\d+)", f.read()).group(1)
    assert int(limit) >= wanted


def test_workers_are_as_many_as_set(cardea):
    server = cardea("set workers 5\n" + CONF)
    server.wait_log(r"event=ready workers=5\b")
    assert len(server.workers()) == 5
    assert server.request("/hello").status == 200
