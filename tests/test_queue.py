"""Calls that wait for a program: how many, for how long, in which order, and
what becomes of those whose client has gone."""

import os
import signal
import socket
import time

import pytest

from lib.control import module, path_of, status
from lib.pace import within
from lib.server import stand_still, until
from lib.wire import Wire
from test_reload import reload

RING = 64  # calls that are the program's to take

CONF = """
set workers 1
set queue 40
# One thread: the order in which calls are taken is that in which they count.
module app { run "$PROGRAMS/order"; timeout 20s; calls per copy 1 }
forward http 127.0.0.1:$PORT to { map any / to app }
"""


class Stalled:
    """The program of SERVER stands still, and calls wait for it."""

    def __init__(self, server):
        until(lambda: server.request("/").status == 200, what="an answer")
        self.server = server
        self.wires = []
        self.programs = server.modules("order")
        assert len(self.programs) == 1

    def __enter__(self):
        stand_still(self.programs[0])
        return self

    def __exit__(self, *_):
        self.go_on()
        for wire in self.wires:
            wire.close()

    def go_on(self):
        os.kill(self.programs[0], signal.SIGCONT)

    def call(self, n, name, host=None):
        """N calls of /NAME, each on a connection of its own, from HOST."""
        new = []
        for _ in range(n):
            wire = Wire(self.server.port, source=host)
            wire.ask("/" + name)
            new.append(wire)
        self.wires += new
        return new

    def numbers(self):
        state = status(path_of(self.server))
        m = module(state, "app")
        return m["in_flight"], m["queued"]

    def wait_for(self, in_flight, queued):
        until(lambda: self.numbers() == (in_flight, queued),
              what=f"{queued} waiting")


@pytest.fixture
def server(cardea):
    return cardea(CONF)


def places(wires):
    """At which place each was called, as the program counts."""
    return [int(w.reply().text) for w in wires]


def test_calls_over_the_bound_are_refused_at_once(server):
    with Stalled(server) as app:
        app.call(RING + 40, "a")
        app.wait_for(RING, 40)
        before = time.monotonic()
        refused = app.call(1, "b")[0].reply()
        assert within(time.monotonic() - before, 1)
        assert refused.status == 503
        assert 1 <= int(refused.get("Retry-After")) <= 60
        app.go_on()
        assert all(w.reply().status == 200 for w in app.wires[:-1])
        app.wait_for(0, 0)
    server.wait_log(r"status=503 .*cause=full")


def test_a_module_may_have_a_bound_of_its_own(cardea):
    server = cardea(CONF.replace("calls per copy 1", "calls per copy 1; queue 3"))
    with Stalled(server) as app:
        app.call(RING + 3, "a")
        app.wait_for(RING, 3)
        assert app.call(1, "b")[0].reply().status == 503
        app.go_on()
        assert all(w.reply().status == 200 for w in app.wires[:-1])
    # Another one holds at once, and the program stays.
    reload(server, CONF.replace("calls per copy 1", "calls per copy 1; queue 5"))
    assert server.modules("order") == app.programs
    with Stalled(server) as app:
        app.call(RING + 5, "a")
        app.wait_for(RING, 5)
        assert app.call(1, "b")[0].reply().status == 503
        app.go_on()
        assert all(w.reply().status == 200 for w in app.wires[:-1])
    assert server.modules("order") == app.programs


def test_a_client_with_few_calls_does_not_wait_behind_one_with_many(server):
    with Stalled(server) as app:
        app.call(RING, "ring")
        many = app.call(30, "many")
        few = app.call(3, "few", "127.0.0.7")
        app.wait_for(RING, 33)
        app.go_on()
        assert max(places(few)) < sorted(places(many))[10]


def test_after_a_stall_the_newest_is_called_first(server):
    with Stalled(server) as app:
        app.call(RING, "ring")
        old = app.call(10, "old")
        app.wait_for(RING, 10)
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 1.1)
        new = app.call(10, "new")
        app.wait_for(RING, 20)
        app.go_on()
        # Its threads may come to its lock in another order than they were
        # given their calls.
        assert sorted(places(new))[7] < sorted(places(old))[2]


def test_a_client_that_leaves_takes_its_call_along(server):
    with Stalled(server) as app:
        ring = app.call(RING, "ring")
        gone = app.call(20, "gone")
        app.wait_for(RING, 20)
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 0.2)
        for wire in gone + ring[:30]:
            wire.close()
        app.wait_for(RING, 0)
        stays = app.call(1, "stays")
        app.go_on()
        assert max(places(ring[30:] + stays)) <= 36
        app.wait_for(0, 0)
    server.wait_log(r"target=/gone .*cause=client-gone")
    assert not [l for l in server.log if "called /gone" in l]


def test_who_half_closes_with_the_request_is_answered(server):
    with Stalled(server) as app:
        app.call(RING, "ring")
        wire = Wire(server.port)
        app.wires.append(wire)
        # In one packet: later than 100 ms after its request it would have left.
        wire.socket.send(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n",
                         socket.MSG_MORE)
        wire.half_close()
        app.wait_for(RING, 1)
        app.go_on()
        assert wire.reply().status == 200


def test_who_half_closes_right_after_a_slow_body_is_answered(server):
    with Stalled(server) as app:
        app.call(RING, "ring")

        def in_time():
            """A connection that was closed so; None: we were late ourselves."""
            wire = Wire(server.port)
            app.wires.append(wire)
            wire.send(b"POST /slow HTTP/1.1\r\nHost: a\r\n"
                      b"Content-Length: 2\r\n\r\na")
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 0.2)
            waiting = app.numbers()[1]
            began = time.monotonic()
            wire.send(b"b")
            until(lambda: app.numbers()[1] > waiting)
            wire.half_close()
            return wire if time.monotonic() - began < 0.08 else None

        wire = until(in_time, what="an end within 80 ms")
        # What comes later is seen later.
        app.call(1, "later")
        until(lambda: app.numbers()[1] >= 2)
        app.go_on()
        assert wire.reply().status == 200


def test_waiting_calls_go_on_in_the_heir(server):
    with Stalled(server) as app:
        app.call(RING + 30, "a")
        app.wait_for(RING, 30)
        before = server.lines()
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait_log(r"event=took-over", start=before)
        app.wait_for(RING, 30)
        app.go_on()
        assert all(w.reply().status == 200 for w in app.wires)


def test_a_call_that_never_had_its_turn_is_refused_when_its_time_is_over(
        cardea):
    server = cardea(CONF.replace("timeout 20s", "timeout 700ms"))
    with Stalled(server) as app:
        app.call(RING, "ring")
        last = app.call(1, "last")[0]
        reply = last.reply()
        assert reply.status == 503
        assert reply.get("Retry-After")
    server.wait_log(r"status=503 .*cause=no-time")


COPIES = """
module app { run "$PROGRAMS/copies"; floor 3; ceiling 3 }
forward http 127.0.0.1:$PORT to { map any / to app }
"""


def test_no_call_waits_behind_a_busy_copy_while_another_is_free(cardea):
    server = cardea(COPIES)
    until(lambda: server.request("/").status == 200, what="an answer")
    until(lambda: len(server.modules("copies")) == 4, what="three copies")
    with Wire(server.port) as one, Wire(server.port) as two:
        for wire in one, two:
            wire.ask("/?ms=3000")
        until(lambda: module(status(path_of(server)), "app")["in_flight"] == 2)
        before = time.monotonic()
        answers = [server.request("/").text.split()[0] for _ in range(40)]
        assert within(time.monotonic() - before, 2)
        assert len(set(answers)) == 1
        busy = {wire.reply().text.split()[0] for wire in (one, two)}
        assert len(busy | set(answers)) == 3
