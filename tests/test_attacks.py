"""Attacks on a running server, of modules, callers and clients (tests/attacks):
who takes no part in them is served rightly, and soon, all the time."""

import concurrent.futures
import os
import signal
import socket
import struct
import threading
import time

import pytest

from lib.pace import within
from lib.server import alive, free_port, until

# No answer of a route beside an attack may take longer, sanitizers and all.
SOON = 1.0

HONEST = """
set access-log off
module app { run "$BUILD/tests/attacks/attack-app" }
"""
ROUTES = """
    map GET  /app to app
    map GET  /    to files "$DIR/site"
"""


def with_lies(*names):
    """A configuration with a module, and a route, for each lie."""
    modules = "".join(
        f'module {n} {{ run "$BUILD/tests/attacks/attack-liar {n}" }}\n'
        for n in names)
    routes = "".join(f"    map GET /{n} to {n}\n" for n in names)
    return (HONEST + modules + "forward http 127.0.0.1:$PORT to {" + ROUTES
            + routes + "}\n")


@pytest.fixture
def site(folder):
    path = os.path.join(folder, "site")
    os.mkdir(path)
    with open(os.path.join(path, "file.txt"), "w", encoding="ascii") as f:
        f.write("file\n")
    return path


@pytest.fixture
def attacker(helper):
    """attacker(name, argument ...): a program that says "ready"."""
    def start(name, *arguments):
        return helper(name, *arguments, says=(b"ready\n", b"attached\n"))

    return start


def at_once(calls):
    """Runs all CALLS at the same time; what they returned, in their order."""
    results = [None] * len(calls)

    def run(i):
        results[i] = calls[i]()

    threads = [threading.Thread(target=run, args=(i,), daemon=True)
               for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def latencies(server, target, n, expect=200):
    """Sorted seconds of N requests, each on a connection of its own, so that
    every worker has its share."""
    took = []
    for _ in range(n):
        began = time.monotonic()
        assert server.request(target).status == expect
        took.append(time.monotonic() - began)
    return sorted(took)


def assert_served(server, target="/app/fast", seconds=0.4):
    """Nearly all are answered soon, for so long a time."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end or len(took) < 50:
        took += latencies(server, target, 10)
    took.sort()
    assert within(took[len(took) * 98 // 100], SOON), took[-5:]


def assert_same(server, workers):
    # A child of the keeper is one of its own for an instant, before its exec.
    assert set(workers) <= set(server.workers()), server.dump()
    assert not [l for l in server.log if "event=died worker=" in l]


# Doors that lie

# What cannot be an answer at all: the program is replaced. (Its first call
# must find out; those after it may find no door.)
MAD = ["far-file", "far-data", "wrapped-data", "far-head", "other-call",
       "other-time", "no-note"]
# What is an answer, but not a valid one: one call fails.
BAD = ["pipe", "socket", "write-only", "by-path", "past-end", "past-all",
       "bad-head", "bad-status", "framing"]


def test_answers_that_cannot_be_are_502_and_end_only_their_door(cardea, site):
    server = cardea(with_lies(*MAD, *BAD, "truth"))
    workers = server.workers()
    assert server.request("/truth").text == "true\n"
    for lie in MAD:
        assert server.request(f"/{lie}").status == 502, lie
        assert server.request("/app/fast").text == "fast", lie
        server.wait_log(rf"event=kill module={lie} .*cause=lied")
    for lie in BAD:
        with server.wire() as wire:
            for _ in range(10):
                assert wire.request(f"/{lie}").status == 502, lie
            wire.assert_open("/app/fast")
    killed = [l for l in server.log if "event=kill" in l]
    assert not [l for l in killed if any(f"module={b} " in l for b in BAD)]
    assert_same(server, workers)


def test_a_descriptor_from_a_plain_door_is_502(cardea, attacker, folder, site):
    attacker("attacks/attack-liar", "plain-file", f"{folder}/lie.door")
    server = cardea(HONEST + "forward http 127.0.0.1:$PORT to {" + ROUTES
                    + ' map GET /lie to "$DIR/lie.door"\n}')
    workers = server.workers()
    for _ in range(20):
        assert server.request("/lie").status == 502
        assert server.request("/app/fast").status == 200
    assert_same(server, workers)


@pytest.mark.parametrize("lie, status", [
    ("bad-head", 502), ("past-end", 502), ("pipe", 502),
    ("unused-files", 200), ("hoard", 200)])
def test_descriptors_do_not_pile_up_in_the_worker(cardea, site, lie, status):
    server = cardea(with_lies(lie))
    for target, expect in (("/app/fast", 200), (f"/{lie}", status)):
        assert latencies(server, target, 4, expect)
    before = {w: server.fds(w) for w in server.workers()}
    with server.wire() as one, server.wire() as two:
        for i in range(300):
            assert (one, two)[i % 2].request(f"/{lie}").status == status
        now = {w: server.fds(w) for w in server.workers()}
    assert before.keys() <= now.keys()
    # The two connections, what is on its way, and doors that came late.
    assert all(now[w] <= before[w] + 20 for w in before), (before, now)


@pytest.mark.parametrize("lie", [
    "truth", "bytes", "deaf", "claims", "lies", "file", "body"])
def test_a_door_that_lies_about_passed_connections(cardea, site, lie):
    """It takes them, as it says, and does not; answers, claims, gives back what
    nobody asked for. Each client sees an end, and nothing is lost."""
    tcp = free_port()
    server = cardea(with_lies() + f"""
        module pl {{ run "$BUILD/tests/attacks/attack-liar pass-{lie}"
                     timeout 500ms }}
        forward tcp 127.0.0.1:{tcp} pass pl
    """)
    workers = server.workers()
    assert server.request("/app/fast").status == 200

    def end(n):
        try:
            with socket.create_connection(("127.0.0.1", tcp), timeout=20) as s:
                s.sendall(b"x" * (n % 2))
                return s.recv(10)
        except (ConnectionResetError, BrokenPipeError):
            return b""

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        assert set(pool.map(end, range(100))) == {b""}
        before = {w: server.fds(w) for w in workers}
        # The liar with files waits for a worker that reads them now and then.
        assert set(pool.map(end, range(100 if lie == "file" else 400))) == {
            b""}
    assert server.request("/app/fast").status == 200
    assert server.workers() == workers
    if lie == "claims":  # it serves them, for all that we know
        for pid in server.modules("attack-liar"):
            os.kill(pid, signal.SIGKILL)
    until(lambda: all(server.fds(w) <= before[w] + 20 for w in workers),
          what=f"return to {before}")


@pytest.mark.parametrize("lie", ["flood", "flood-files"])
def test_a_module_that_floods_its_worker_holds_up_nobody(cardea, site, lie):
    server = cardea(with_lies(lie))
    workers = server.workers()
    for _ in range(6):  # until it floods every worker
        assert server.request(f"/{lie}").status == 200
    assert_served(server)
    assert_served(server, "/file.txt")
    assert_served(server, f"/{lie}")
    assert_same(server, workers)


@pytest.mark.parametrize("lie, status", [("lingering", 502),
                                         ("lingering-unused", 200)])
def test_a_descriptor_that_is_slow_to_close_stops_nobody(cardea, site, lie,
                                                         status):
    server = cardea(with_lies(lie))
    # As many as it takes until the worker reads its notes, twice.
    for _ in range(4 if status == 502 else 150):
        began = time.monotonic()
        assert server.request(f"/{lie}").status == status
        assert within(time.monotonic() - began, SOON)
    assert_served(server)


def test_a_caller_that_floods_a_plain_door_holds_up_nobody(
        cardea, attacker, folder, site):
    plain = attacker("programs/plain", f"{folder}/plain.door")
    server = cardea(HONEST + "forward http 127.0.0.1:$PORT to {" + ROUTES
                    + ' map GET /plain to "$DIR/plain.door"\n}')
    assert server.request("/plain").status == 200
    caller = attacker("attacks/attack-caller", f"{folder}/plain.door")
    assert_served(server, "/plain")
    assert_served(server)
    assert caller.poll() is None and plain.poll() is None


# Large answers

def test_large_answers_over_used_slots_are_each_clients_own(cardea, site):
    server = cardea(with_lies())
    # Each takes a run of 16 MiB: more at once than a ring's heap holds.
    kb, room = 256, 9000

    def client(k):
        seen = []
        with server.wire(60) as wire:
            for j in range(8):
                number = k * 100 + j + 1
                reply = wire.request(f"/app/words?id={number}&kb={kb}"
                                     f"&room={room}")
                want = struct.pack("<I", number) * (kb * 256)
                seen.append(reply.status if reply.status == 507 else
                            reply.status == 200 and reply.body == want)
        return seen

    seen = sum(at_once([lambda k=k: client(k) for k in range(48)]), [])
    assert set(seen) <= {True, 507}
    assert seen.count(True) > 48


def test_many_files_in_flight_at_once_arrive(cardea, site):
    server = cardea(with_lies())
    assert server.request("/app/fast").status == 200
    (pid,) = server.modules("attack-app")
    replies = at_once([lambda: server.request("/app/file?mb=1&ms=400")] * 60)
    assert {(r.status, len(r.body)) for r in replies} == {(200, 1 << 20)}
    assert server.modules("attack-app") == [pid]


def test_a_file_arrives_whole_although_its_program_was_killed(cardea, site):
    server = cardea(with_lies())
    size = 24 << 20
    with server.wire(room=65536) as wire:
        wire.ask("/app/file?mb=24")
        reply = wire.head()
        assert reply.get("Content-Length") == str(size)
        (pid,) = server.modules("attack-app")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid), what="its end")
        server.wait_log(r"event=died module=app")
        assert wire._exactly(size) == bytes(size)
        until(lambda: server.request("/app/fast").status == 200,
              what="the program's return")
        assert wire.request("/app/fast").text == "fast"


# Clients

def test_idle_uploads_shut_no_door(cardea, site):
    server = cardea("""
        set access-log off
        module echo { run "$PROGRAMS/echo" }
        forward http 127.0.0.1:$PORT to echo
    """)
    size = 16 << 20
    wires = [server.wire() for _ in range(40)]
    for i, wire in enumerate(wires):
        wire.send("POST / HTTP/1.1\r\nHost: a\r\n"
                  f"Content-Length: {size}\r\n\r\n" + "x" * (i % 3))
    # And those that send, of all sizes, until there is no more room for them.
    data = bytes(8 << 20)
    for part in [8] * 16 + [4, 2, 1, 0.5, 0.25, 0.1, 0.05] * 8:
        wire = server.wire()
        wires.append(wire)
        try:
            wire.send("POST / HTTP/1.1\r\nHost: a\r\n"
                      f"Content-Length: {size}\r\n\r\n")
            wire.send(data[:int(part * (1 << 20))] + b"x")
        except OSError:
            pass  # it was refused
    assert within(latencies(server, "/", 40)[-1], SOON)
    for wire in wires[40:]:
        wire.close()
    body = os.urandom(1 << 20) * 16
    for _ in range(2):
        reply = server.request("/", "POST", body=body)
        assert (reply.status, reply.body == body) == (200, True)
    for wire in wires:
        wire.close()
    assert within(latencies(server, "/", 10)[-1], SOON)


# With more of them than a pass can note down, too.
@pytest.mark.parametrize("n, rounds", [(1, 8), (400, 1)])
def test_clients_that_pipeline_without_end_starve_nobody(cardea, attacker,
                                                        site, n, rounds):
    server = cardea(with_lies())
    wires = [server.wire() for _ in range(16)]
    for wire in wires:
        assert wire.request("/app/fast").status == 200
    flood = attacker("attacks/attack-pipeline", server.port, n)
    took = []
    for _ in range(rounds):
        for wire in wires:
            began = time.monotonic()
            assert wire.request("/app/fast").status == 200
            assert wire.request("/file.txt").status == 200
            took.append(time.monotonic() - began)
    # A few may meet the server while the machine does something else.
    assert within(sorted(took)[len(took) * 9 // 10], SOON), sorted(took)[-5:]
    assert within(max(took), 5 * SOON), sorted(took)[-5:]
    assert flood.poll() is None


def test_what_is_pipelined_behind_a_504_is_answered_soon(cardea, site):
    server = cardea("""
        module app { run "$BUILD/tests/attacks/attack-app"; timeout 300ms }
        forward http 127.0.0.1:$PORT to app
    """)
    took = []
    for _ in range(3):
        with server.wire() as wire:
            wire.send("GET /slow?ms=900 HTTP/1.1\r\nHost: a\r\n\r\n"
                      "GET /fast HTTP/1.1\r\nHost: a\r\n\r\n")
            assert wire.reply().status == 504
            began = time.monotonic()
            assert wire.reply().text == "fast"
            took.append(time.monotonic() - began)
    # Not only when the next timer is due.
    assert within(min(took), 0.04)


# Small print

@pytest.fixture
def plain_lie(cardea, attacker, folder, site):
    def start(lie):
        attacker("attacks/attack-liar", lie, f"{folder}/lie.door")
        return cardea(HONEST + 'forward http 127.0.0.1:$PORT to {' + ROUTES
                      + ' map any /lie to "$DIR/lie.door"\n}')
    return start


def test_a_304_of_a_plain_door_may_have_a_length(plain_lie):
    server = plain_lie("plain-304")
    with server.wire() as wire:
        reply = wire.request("/lie")
        assert (reply.status, reply.get("ETag")) == (304, '"x"')
        wire.assert_open("/app/fast")


def test_a_head_answered_without_a_length_gets_none(plain_lie):
    server = plain_lie("plain-no-length")
    with server.wire() as wire:
        reply = wire.request("/lie", "HEAD")
        assert (reply.status, reply.get("X-Plain")) == (200, "yes")
        assert reply.get("Content-Length") is None
        assert wire.request("/lie").get("Content-Length") == "0"
        wire.assert_open("/app/fast")


def test_a_long_address_is_moved_with_its_location(cardea, site):
    server = cardea(with_lies())
    path = "/" + "a" * 233 + "/" + "b" * 235
    assert len(path) == 470
    os.makedirs(site + path)
    reply = server.request(path)
    assert (reply.status, reply.get("Location")) == (301, path + "/")


def test_an_absolute_target_leaves_target_and_host_whole(cardea, site):
    server = cardea(with_lies())
    target = "http://example.org/app/target?a=b"
    reply = server.request(target)
    assert reply.text == f"{target} of example.org"


def test_more_addresses_than_a_worker_can_watch_are_refused(cli, folder, site):
    path = os.path.join(folder, "many.conf")
    for n, status in ((32, 0), (33, 78)):
        with open(path, "w", encoding="ascii") as f:
            for i in range(n):
                f.write(f"forward http 127.0.0.1:{20000 + i} to files site\n")
        done = cli("check", "-f", path)
        assert done.returncode == status, done.stderr
        assert ("32" in done.stderr) == (status != 0)
