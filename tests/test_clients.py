"""Clients that come in crowds, by other ways, or leave in the middle; and what
the server keeps of them: nothing."""

import os
import select
import socket

import pytest

from lib.pace import slowness
from lib.server import until
from lib.wire import Wire

CONF = """
set header-timeout 20s
set body-limit 2M

module hello { run "$PROGRAMS/hello" }
module echo  { run "$PROGRAMS/echo" }
module file  { run "$PROGRAMS/file" }
module reply { run "$PROGRAMS/reply" }
module sleep { run "$PROGRAMS/sleep" }
module hurry { run "$PROGRAMS/sleep"; timeout 100ms }

forward http 127.0.0.1:$PORT to {
    map GET /hello to hello
    map any /echo  to echo
    map GET /file  to file
    map GET /reply to reply
    map GET /sleep to sleep
    map GET /hurry to hurry
    map GET /www   to files "$DIR"
}
"""
PART_OF_HEAD = "POST /echo HTTP/1.1\r\nHost: a\r\nX-Half: "
PART_OF_BODY = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"
PART_OF_MORE = PART_OF_BODY.replace(": 9", ": 2000000")


@pytest.fixture(scope="module")
def server(shared):
    return shared(CONF)


@pytest.fixture
def wire(server):
    with server.wire() as connection:
        yield connection


# Leaving

def leave(wire, way):
    if way == "reset":
        wire.reset()
    else:
        wire.close()


@pytest.mark.parametrize("way", ["reset", "close"])
@pytest.mark.parametrize("sent, names", [
    (PART_OF_HEAD, ""),
    (PART_OF_BODY, "target=/echo "),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
     "5\r\nab", "target=/echo "),
], ids=["head", "body", "chunk"])
def test_who_leaves_in_a_request_is_499_in_the_log(server, sent, names, way):
    start = server.lines()
    with server.wire() as wire:
        # Its bytes come with a request that is answered: the server has them.
        wire.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" + sent)
        assert wire.reply().status == 200
        leave(wire, way)
        port = wire.port
        server.wait_log(rf"client=127.0.0.1:{port} .*{names}.*status=499 "
                        r".*cause=client-gone", start=start)
    assert server.request("/hello").status == 200


def test_who_leaves_in_a_call_is_499_in_the_log(server):
    start = server.lines()
    with server.wire() as wire:
        wire.ask("/sleep?ms=500")
        server.wait_log("sleeping 500", start=start)
        wire.reset()
    server.wait_log(r"status=499 .*module=sleep .*cause=client-gone",
                    start=start)
    assert server.request("/hello").status == 200


def test_who_leaves_in_a_reply_is_in_the_log(server):
    start = server.lines()
    with server.wire(room=16384) as wire:
        wire.ask("/file?size=9000000")
        wire.head()
        wire.reset()
    server.wait_log(r"target=\"/file.*status=200 .*cause=client-gone",
                    start=start)


def test_who_leaves_while_pipelining_takes_nobody_along(server):
    with server.wire() as wire:
        wire.send("GET /sleep?ms=100 HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
        wire.reset()
    with server.wire() as wire:
        for _ in range(20):
            assert wire.request("/hello").status == 200


def test_a_late_answer_to_a_call_that_was_left_goes_to_nobody(server):
    """The next client soon has the same descriptor, and other answers."""
    for _ in range(5):
        wires = [server.wire() for _ in range(10)]
        for wire in wires:
            wire.ask("/sleep?ms=50")
            wire.reset()
        for n in range(20):
            assert server.request(f"/reply?text={n}").text == str(n)


# Half a good-bye

@pytest.mark.parametrize("sent, body", [
    ("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", b"Well, hello to you too!\n"),
    ("GET /sleep?ms=200 HTTP/1.1\r\nHost: a\r\n\r\n", b"slept 200 ms\n"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
     "3\r\nabc\r\n0\r\n\r\n", b"abc"),
    ("GET /reply?size=1000000 HTTP/1.1\r\nHost: a\r\n\r\n", b"x" * 1000000),
    ("GET /www/absent HTTP/1.1\r\nHost: a\r\n\r\n", None),
])
def test_who_sends_no_more_still_gets_the_answer(wire, sent, body):
    wire.send(sent)
    wire.half_close()
    reply = wire.reply()
    assert body is None or reply.body == body
    wire.assert_closed()


def test_pipelined_requests_before_a_half_close_are_all_answered(wire):
    wire.send("".join(f"GET /reply?text={n} HTTP/1.1\r\nHost: a\r\n\r\n"
                      for n in range(50)))
    wire.half_close()
    assert [wire.reply().text for _ in range(50)] == \
        [str(n) for n in range(50)]
    wire.assert_closed()


@pytest.mark.parametrize("sent", ["", PART_OF_HEAD, PART_OF_BODY])
def test_who_sends_no_more_in_the_middle_is_closed(wire, sent):
    wire.send(sent)
    wire.half_close()
    wire.assert_closed()


# Crowds

def test_1000_connections_are_served_beside_one_another(server):
    wires = [server.wire(timeout=60) for _ in range(1000)]
    try:
        for turn in range(3):
            for n, wire in enumerate(wires):
                wire.ask(f"/reply?text={n}-{turn}")
            for n, wire in enumerate(wires):
                assert wire.reply().text == f"{n}-{turn}"
    finally:
        for wire in wires:
            wire.close()


def test_connections_are_spread_over_the_workers(server):
    workers = server.workers()
    if len(workers) < 2:
        pytest.skip("one worker")
    before = {w: server.fds(w) for w in workers}
    wires = [server.wire() for _ in range(100)]
    for wire in wires:
        assert wire.request("/hello").status == 200
    more = [server.fds(w) - before[w] for w in workers]
    for wire in wires:
        wire.close()
    # Who has fewer has 20 ms to take one, and a CPU of its own if it is idle.
    assert min(more) >= 100 / len(workers) / 2 / slowness(), more


def test_slow_heads_do_not_hold_up_others(server):
    wires = [server.wire() for _ in range(200)]
    for wire in wires:
        wire.send(PART_OF_HEAD)
    assert server.request("/hello").status == 200
    for wire in wires:
        wire.send("b\r\nContent-Length: 1\r\n\r\nx")
    for wire in wires:
        assert wire.reply().body == b"x"
        wire.close()


def test_calls_over_their_time_give_their_places_back(server):
    """More of them than one worker has places in a ring (1024), a few at a
    time: were a place lost each time, none would be left to be late in. Those
    that never had their turn are 503."""
    places = 1024 * max(len(server.workers()), 1)
    late = 0
    wires = [server.wire(timeout=60) for _ in range(250)]
    while late < places + 250:
        for wire in wires:
            wire.ask("/hurry?ms=300")
        got = [wire.reply().status for wire in wires]
        # After 300 ms an answer may be there before a worker that waits for a
        # CPU sees that 100 are over.
        assert set(got) <= {503, 504} or (set(got) <= {200, 503, 504}
                                          and slowness() > 2), set(got)
        assert 504 in got
        late += got.count(504)
    for wire in wires:
        wire.close()
    until(lambda: server.request("/hurry?ms=0").status == 200,
          what="a place for the next call")


# Other ways in

def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def test_ipv6(cardea):
    if not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    server = cardea("""
        module reply { run "$PROGRAMS/reply" }
        forward http [::1]:$PORT to reply
    """)
    assert server.url == f"http://[::1]:{server.port}/"
    with server.wire(host="::1") as wire:
        told = wire.request("/").text
        assert "\npeer ::1\n" in told
    server.wait_log(rf"client=\[::1\]:{wire.port} ")


def test_all_addresses_are_one_listener(cardea):
    server = cardea("""
        module reply { run "$PROGRAMS/reply" }
        forward http :$PORT to reply
    """)
    assert server.url == f"http://localhost:{server.port}/"
    assert "\npeer 127.0.0.1\n" in server.request("/").text
    if has_ipv6():
        with server.wire(host="::1") as wire:
            assert "\npeer ::1\n" in wire.request("/").text


def test_two_listeners_have_their_own_maps(cardea):
    server = cardea("""
        module reply { run "$PROGRAMS/reply" }
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to { map GET /a to reply }
        forward http 127.0.0.2:0     to { map GET /b to hello }
    """)
    first = server.wire()
    second = Wire(server.port_of("url2=http://127.0.0.2"), host="127.0.0.2")
    for _ in range(5):
        assert first.request("/a?text=one").text == "one"
        assert second.request("/b").text == "Well, hello to you too!\n"
        assert first.request("/b").status == 404
        assert second.request("/a").status == 404
    first.close()
    second.close()


# Leaks

def used_memory(pid):
    """Bytes of the worker's arena and of the rings' memories that are really
    there (all are memory files of ours)."""
    files = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        try:
            if os.readlink(path).startswith("/memfd:"):
                stat = os.stat(path)
                files[stat.st_ino] = stat.st_blocks * 512
        except OSError:
            pass
    return sum(files.values())


def mixed(server, turns):
    """All that can happen to a request, over and over."""
    keep = server.wire()
    for n in range(turns):
        assert keep.request("/hello").status == 200
        assert keep.request(f"/reply?size={n * 37 % 9000}").status == 200
        assert keep.request("/www/cardea.conf").status == 200
        assert keep.request("/absent").status == 404
        assert keep.request("/file?size=70000").status == 200
        body = b"x" * (n * 997 % 30000)
        assert keep.request("/echo", "POST", body=body).body == body
        keep.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n4e20\r\n"
                  + "c" * 20000 + "\r\n0\r\n\r\n")
        assert keep.reply().body == b"c" * 20000
        for sent in (PART_OF_HEAD, PART_OF_BODY, "BAD\r\n\r\n",
                     # Together these are more than a ring's 256 MiB.
                     PART_OF_MORE, PART_OF_MORE,
                     "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
                     "GET /file?size=3000000 HTTP/1.1\r\nHost: a\r\n\r\n",
                     "GET /sleep?ms=5 HTTP/1.1\r\nHost: a\r\n\r\n"):
            wire = server.wire(room=8192)
            wire.send(sent)
            if n % 2:
                select.select([wire.socket], [], [], 0.01)
            leave(wire, "reset" if n % 3 else "close")
    keep.close()


def test_thousands_of_mixed_requests_leave_nothing_behind(server):
    mixed(server, 20)  # threads, buffers and libraries have come by now
    processes = server.workers() + [
        p for name in ("hello", "echo", "file", "reply", "sleep")
        for p in server.modules(name)]
    assert len(processes) >= 6

    def settled():
        fds = {p: server.fds(p) for p in processes}
        select.select([], [], [], 0.1)
        return fds if fds == {p: server.fds(p) for p in processes} else None

    before = until(settled, what="calm")
    memory = {w: used_memory(w) for w in server.workers()}
    mixed(server, 250)
    until(lambda: all(server.fds(p) <= before[p] for p in processes),
          what="as many descriptors as before")
    for worker, bytes_before in memory.items():
        until(lambda w=worker, b=bytes_before: used_memory(w) <= b + (1 << 20),
              what="as much memory as before")
    # Each place in the rings is free: as many calls at once as ever.
    wires = [server.wire(timeout=60) for _ in range(300)]
    for wire in wires:
        wire.ask("/sleep?ms=100")
    for wire in wires:
        assert wire.reply().status == 200
        wire.close()
