"""Large bodies, both ways, and clients that are slow at either."""

import hashlib
import os
import signal
import socket
import threading
import time

import pytest

from lib.server import stand_still, until
from lib.wire import Broken

CONF = """
module echo  { run "$PROGRAMS/echo" }
module file  { run "$PROGRAMS/file" }
module reply { run "$PROGRAMS/reply" }
module sleep { run "$PROGRAMS/sleep" }

forward http 127.0.0.1:$PORT to {
    map any /echo  to echo
    map GET /file  to file
    map GET /reply to reply
    map GET /sleep to sleep
}
"""
MIB = 1 << 20
CHUNKED = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(shared):
    return shared(CONF)


@pytest.fixture
def wire(server):
    with server.wire() as connection:
        yield connection


def pattern(size, start=0):
    """What tests/programs/file sends."""
    period = bytes(i % 251 for i in range(251))
    whole = period * ((start + size) // 251 + 1)
    return whole[start:start + size]


def in_chunks(data, sizes):
    """DATA as chunks of SIZES, over and over."""
    parts, at, n = [], 0, 0
    while at < len(data):
        part = data[at:at + sizes[n % len(sizes)]]
        parts.append(b"%x\r\n%s\r\n" % (len(part), part))
        at, n = at + len(part), n + 1
    return b"".join(parts) + b"0\r\n\r\n"


class Sender(threading.Thread):
    """Sends beside the test, which reads meanwhile."""

    def __init__(self, wire, data):
        super().__init__(daemon=True)
        self.wire, self.data, self.error = wire, data, None
        self.start()

    def run(self):
        try:
            self.wire.send(self.data)
        except OSError as error:
            self.error = error


def digest(data):
    return hashlib.sha256(data).hexdigest()


# Upwards

def test_16_mb_go_up_and_come_back(wire):
    body = os.urandom(16 * MIB)
    reply = wire.request("/echo", "POST", body=body)
    assert (reply.status, digest(reply.body)) == (200, digest(body))
    wire.assert_open("/reply")


@pytest.mark.parametrize("sizes", [[65536], [1, 16383, 3, 100000], [5 * MIB]])
def test_chunks_grow_to_megabytes(wire, sizes):
    body = os.urandom(5 * MIB + 7)
    sender = Sender(wire, CHUNKED.encode() + in_chunks(body, sizes))
    reply = wire.reply()
    sender.join()
    assert (reply.status, digest(reply.body)) == (200, digest(body))
    wire.assert_open("/reply")


def test_growing_bodies_do_not_touch_one_another(server):
    """All grow beside one another in one ring's memory."""
    bodies = [os.urandom(700000 + 13 * n) for n in range(12)]
    wires = [server.wire() for _ in bodies]
    parts = [in_chunks(b, [30011]) for b in bodies]
    for wire in wires:
        wire.send(CHUNKED)
    for at in range(0, max(len(p) for p in parts), 50000):
        for wire, part in zip(wires, parts):
            wire.send(part[at:at + 50000])
    for wire, body in zip(wires, bodies):
        assert digest(wire.reply().body) == digest(body)
        wire.close()


def test_pipelined_posts_with_bodies_are_answered_in_order(wire):
    bodies = [os.urandom(n * n * 37 % 40000) for n in range(60)]
    requests = b"".join(
        CHUNKED.encode() + in_chunks(b, [997, 8191]) if n % 3 == 0 else
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
        % (len(b), b) for n, b in enumerate(bodies))
    sender = Sender(wire, requests)
    assert [digest(wire.reply().body) for _ in bodies] == \
        [digest(b) for b in bodies]
    sender.join()


def test_surplus_behind_the_last_chunk_is_the_next_request(wire):
    """Read with the body, into the door's memory: it must come back."""
    sender = Sender(wire, CHUNKED.encode() + in_chunks(b"x" * 200000, [16384])
                    + b"GET /reply?text=next HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
    assert wire.reply().body == b"x" * 200000
    for _ in range(50):
        assert wire.reply().text == "next"
    sender.join()


def test_a_slow_upload_is_not_cut_while_the_server_is_idle(server):
    """What large bodies have grown is given back after some idle seconds: an
    upload that takes longer than that is not idleness."""
    body = os.urandom(2 * MIB)
    with server.wire() as wire:
        wire.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n")
        began, at = time.monotonic(), 0
        while time.monotonic() - began < 6:
            wire.send(body[at:at + 1000])
            at += 1000
            until(lambda: time.monotonic() - began > at / 1000 * 0.05)
        wire.send(body[at:])
        assert digest(wire.reply().body) == digest(body)


def test_memory_is_given_back_without_an_error(server):
    """After a large body and idle seconds the door's memory is made anew; who
    asks meanwhile does not notice, and no worker pays with its life."""
    workers = server.workers()
    for _ in workers * 4:
        assert server.request("/echo", "POST", body=b"x" * 4 * MIB).status \
            == 200
    start = server.lines()
    server.wait_log(r"level=info event=door-renewed module=echo door=\S+ "
                    r"worker=\d+ count=\d+$", start=start)
    began = time.monotonic()
    while time.monotonic() - began < 2:
        assert server.request("/echo", "POST", body=b"abc").body == b"abc"
    assert set(workers) <= set(server.workers())
    assert not [line for line in server.log if "event=door-lost" in line]
    assert len([line for line in server.log
                if "event=door-open module=echo " in line]) == 1


# Downwards

def test_16_mb_come_down(wire):
    reply = wire.request(f"/reply?size={16 * MIB}")
    assert (len(reply.body), digest(reply.body)) == \
        (16 * MIB, digest(b"x" * 16 * MIB))
    wire.assert_open("/reply")


def test_more_than_a_handler_may_write_is_refused_to_it(wire):
    """The handler stops at the first error; what was written stays."""
    reply = wire.request(f"/reply?size={16 * MIB + 1}")
    assert reply.status == 200
    assert len(reply.body) <= 16 * MIB


def test_64_mb_by_descriptor_read_slowly(server):
    size = 64 * MIB
    with server.wire(room=65536) as wire:
        wire.ask(f"/file?size={size}")
        head = wire.head()
        assert head.get("Content-Length") == str(size)
        got, seen = hashlib.sha256(wire.buffer), len(wire.buffer)
        wire.buffer = b""
        others = 0
        while seen < size:
            data = wire.socket.recv(40000)
            assert data, f"closed after {seen} bytes"
            got.update(data)
            seen += len(data)
            if seen > others * MIB:
                others += 1
                assert server.request("/reply?text=x").text == "x"
        assert got.hexdigest() == digest(pattern(size))
        wire.assert_open("/reply")


def test_a_descriptor_may_be_sent_from_an_offset(wire):
    reply = wire.request("/file?size=300000&from=1234")
    assert reply.get("Content-Type") == "application/octet-stream"
    assert reply.body == pattern(300000 - 1234, 1234)
    assert wire.request("/file?size=0").body == b""
    assert wire.request("/file?size=100000", "HEAD").body == b""
    assert wire.request("/file?size=100").body == pattern(100)


def test_a_descriptor_with_less_than_said_is_refused(wire):
    assert wire.request("/file?size=100&over=1").text == \
        "this is replaced, but for EBADF"


def test_a_client_that_reads_slowly_gets_it_all(server):
    with server.wire(room=16384) as wire:
        wire.ask("/reply?size=3000000")
        seen = 0
        while seen < 200000:
            seen += len(wire.socket.recv(1000))
        # Meanwhile another one is served.
        assert server.request("/reply?text=x").text == "x"
        while len(wire.buffer) < 3000000 - seen:
            assert wire._more()


def test_replies_wait_for_a_client_that_first_sends_all(server):
    """Pipelined requests whose replies fill every buffer: nothing is lost, and
    nothing is held for it but what the kernel holds."""
    with server.wire(room=16384) as wire:
        sender = Sender(wire, b"GET /reply?size=100000 HTTP/1.1\r\n"
                              b"Host: a\r\n\r\n" * 100)
        for _ in range(100):
            assert wire.reply().body == b"x" * 100000
        sender.join()


def test_a_client_that_never_reads_is_cut(cardea):
    server = cardea("set body-timeout 300ms\n" + CONF)
    with server.wire(room=16384) as wire:
        wire.ask("/file?size=20000000")
        server.wait_log(r"target=\"/file.*cause=client-gone")
        with pytest.raises((Broken, ConnectionResetError)):
            wire.reply()
    assert server.request("/reply?text=x").text == "x"


# Refusals while the client is still sending

@pytest.mark.parametrize("size", [100 * 1024, 8 * MIB])
def test_a_refusal_reaches_a_client_that_is_still_sending(cardea, size):
    """It reads only after it has sent everything: the page is still there."""
    server = cardea("set body-limit 64K\n" + CONF)
    with server.wire() as wire:
        wire.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
                  f"Content-Length: {size}\r\n\r\n")
        wire.send(b"x" * size)
        reply = wire.reply()
        assert reply.status == 413
        assert reply.get("Connection") == "close"
        wire.assert_closed(clean=True)


def test_a_refusal_reaches_a_client_that_has_half_closed(cardea):
    """While the first call runs, all that follows arrives: it lies unread
    when the refusal is sent, and the good-bye behind it."""
    server = cardea("set body-limit 1K\n" + CONF)
    with server.wire() as wire:
        wire.send(b"GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n"
                  b"POST /echo HTTP/1.1\r\nHost: a\r\n"
                  b"Content-Length: 40000\r\n\r\n" + b"x" * 40000)
        wire.half_close()
        assert wire.reply().status == 200
        assert wire.reply().status == 413
        wire.assert_closed(clean=True)


def test_a_client_that_sends_on_for_ever_is_cut(cardea):
    server = cardea("set body-limit 64K\n" + CONF)
    with server.wire() as wire:
        wire.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
                  "Content-Length: 99999999999\r\n\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 20:
                wire.send(b"x" * 10000)
        assert time.monotonic() - began < 10


def test_chunks_over_the_limit_are_refused_while_they_come(cardea):
    server = cardea("set body-limit 64K\n" + CONF)
    with server.wire() as wire:
        sender = Sender(wire, CHUNKED.encode()
                        + in_chunks(b"x" * 3 * MIB, [10000]))
        assert wire.reply().status == 413
        sender.join()
        assert sender.error is None
        wire.assert_closed(clean=True)


def test_a_gone_client_does_not_leave_its_file_open(server):
    def worker_fds():
        return sum(server.fds(w) for w in server.workers())

    server.request("/reply")
    before = worker_fds()
    for _ in range(10):
        with server.wire(room=16384) as wire:
            wire.ask("/file?size=5000000")
            wire.head()
            wire.reset()
    until(lambda: worker_fds() <= before, what="the closing of all files")


@pytest.mark.parametrize("before, after", [
    ("", "abcdefghi"),  # within the head
    ("ab", "cdefghi"),
    ("abcdefghi", ""),
])
def test_an_urgent_byte_stands_where_it_was_sent(server, wire, before, after):
    """A read ends before it, with more behind it: all came before the worker
    looked."""
    head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
    whole = head + before + after
    at = len(head + before) - 1
    workers = server.workers()
    for pid in workers:
        stand_still(pid)
    try:
        wire.send(whole[:at])
        wire.socket.send(whole[at].encode(), socket.MSG_OOB)
        wire.send(whole[at + 1:])
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    assert wire.reply().body == b"abcdefghi"
