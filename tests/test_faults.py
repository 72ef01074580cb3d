"""What breaks, and what the client and the next client see of it."""

import json
import os
import shutil
import signal
import threading
import time

import pytest

from lib.pace import within
from lib.server import alive, stat_of, until
from lib.wire import Wire

CONF = """
module hello { run "$PROGRAMS/hello" }
module crash { run "$PROGRAMS/crash" }
module echo  { run "$PROGRAMS/echo" }
module sleep { run "$PROGRAMS/sleep" }
module hurry { run "$PROGRAMS/sleep"; timeout 300ms }

forward http 127.0.0.1:$PORT to {
    map GET /hello to hello
    map GET /crash to crash
    map POST /echo to echo
    map GET /sleep to sleep
    map GET /hurry to hurry
    map GET /gone  to "$DIR/gone.door"
}
"""


@pytest.fixture
def server(cardea):
    return cardea(CONF)


def in_background(call):
    """Runs CALL on a thread; wait() gives what it returned, or raises."""
    box = {}

    def run():
        try:
            box["value"] = call()
        except BaseException as error:  # handed to wait()
            box["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait(limit=30):
        thread.join(limit)
        assert not thread.is_alive(), f"no answer within {limit} s"
        if "error" in box:
            raise box["error"]
        return box["value"]

    return wait


# Doors and calls

def test_no_door_is_503(server):
    assert server.request("/gone").status == 503


def test_a_crash_in_the_call_is_502(server):
    assert server.request("/crash").status == 200
    assert server.request("/crash?now=1").status == 502
    server.wait_log("event=died module=crash .*count=2")  # or its end would be
    # one of the stop


def test_a_module_that_crashed_comes_back(server):
    before = int(server.request("/crash").text)
    server.request("/crash?now=1")
    reply = until(lambda: (lambda r: r.status == 200 and r)(
        server.request("/crash")), what="the module's return")
    assert int(reply.text) != before


def test_a_crash_does_not_touch_the_others(server):
    wait = in_background(lambda: server.request("/sleep?ms=500"))
    server.wait_log("sleeping 500")
    server.request("/crash?now=1")
    assert server.request("/hello").status == 200
    assert wait().text == "slept 500 ms\n"


def test_a_connection_stays_open_after_a_502(server):
    with server.wire() as wire:
        assert wire.request("/crash?now=1").status == 502
        wire.assert_open()
    server.wait_log("event=died module=crash .*count=2")


def test_no_answer_in_time_is_504(server):
    began = time.monotonic()
    assert server.request("/hurry?ms=3000").status == 504
    took = time.monotonic() - began
    assert took > 0.25 and within(took, 2.5)


def test_a_late_answer_goes_to_nobody(server):
    with server.wire() as wire:
        assert wire.request("/hurry?ms=600").status == 504
        for _ in range(20):
            assert wire.request("/hello").text == "Well, hello to you too!\n"
        assert wire.request("/sleep?ms=700").text == "slept 700 ms\n"


def test_a_module_that_is_killed_comes_back(server):
    assert server.request("/hello").status == 200
    (pid,) = server.modules("hello")
    os.kill(pid, signal.SIGKILL)
    until(lambda: server.request("/hello").status == 200,
          what="the module's return")
    assert server.modules("hello") != [pid]


def test_a_program_that_vanished_does_not_stop_the_rest(cardea, build, folder):
    program = os.path.join(folder, "vanishes")
    shutil.copy(os.path.join(build, "tests", "programs", "hello"), program)
    server = cardea("""
        module hello    { run "$PROGRAMS/hello" }
        module vanishes { run "$DIR/vanishes" }
        forward http 127.0.0.1:$PORT to {
            map GET /hello    to hello
            map GET /vanishes to vanishes
        }
    """)
    assert server.request("/vanishes").status == 200
    (pid,) = server.modules("vanishes")
    os.unlink(program)
    start = server.lines()
    os.kill(pid, signal.SIGKILL)
    server.wait_log(r"event=start-failed module=vanishes .*"
                    r"cause=no-start-ENOENT", start=start)
    assert server.request("/vanishes").status == 503
    assert server.request("/hello").status == 200


def test_a_module_that_dies_at_once_is_not_started_without_limit(cardea):
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        module dies  { run "/bin/sh -c 'echo here >>$DIR/starts'" }
        forward http 127.0.0.1:$PORT to {
            map GET /hello to hello
            map GET /dies  to dies
        }
    """)
    starts = os.path.join(server.folder, "starts")

    def count():
        try:
            with open(starts, encoding="ascii") as f:
                return len(f.readlines())
        except OSError:
            return 0

    until(lambda: count() >= 3, what="the third start")
    began, first = time.monotonic(), count()
    until(lambda: time.monotonic() - began > 2, what="two seconds")
    # 20 ms, doubled each time up to 5 s: at most seven starts in two seconds.
    assert count() - first <= 7
    assert server.request("/hello").status == 200


def test_a_module_that_never_opens_its_door_holds_up_nobody(cardea):
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        module mute  { run "/bin/sleep 1000" }
        forward http 127.0.0.1:$PORT to {
            map GET /hello to hello
            map any /mute  to mute
        }
    """)
    server.wait_log(r"^ready .* waiting=mute$")
    assert server.request("/hello").status == 200
    with server.wire() as wire:
        reply = wire.request("/mute")
        assert reply.status == 503
        assert int(reply.get("Retry-After")) > 0
        wire.assert_open()
    # A body that nobody takes is not the next request.
    with server.wire() as wire:
        wire.ask("/mute", "POST", body=b"GET /hello HTTP/1.1\r\n\r\n")
        assert wire.reply().status == 503
        wire.assert_closed()


def test_a_module_that_opens_its_door_late_is_served_then(cardea, folder):
    now = os.path.join(folder, "now")
    os.mkfifo(now)
    server = cardea("""
        module late  { run "/bin/sh -c 'read x <$DIR/now; exec $PROGRAMS/hello'" }
        forward http 127.0.0.1:$PORT to late
    """)
    server.wait_log(r"^ready .* waiting=late$")
    assert server.request("/").status == 503
    with open(now, "w", encoding="ascii") as f:
        f.write("now\n")
    until(lambda: server.request("/").status == 200, what="its door")


# Growth

def test_calls_that_wait_get_threads_and_the_next_burst_uses_them(server):
    assert server.request("/sleep?ms=0").status == 200
    (pid,) = server.modules("sleep")[:1]
    for _ in range(2):
        waits = [in_background(lambda: server.request("/sleep?ms=300"))
                 for _ in range(30)]
        for wait in waits:
            assert wait().status == 200
    busiest = max(server.threads(p) for p in server.modules("sleep"))
    assert 30 <= busiest <= 36
    assert alive(pid)


# Clients

def test_a_client_that_leaves_is_499_in_the_log(server):
    with server.wire() as wire:
        wire.ask("/sleep?ms=500")
        server.wait_log("sleeping 500")
        wire.reset()
    server.wait_log(r"\bstatus=499\b")
    assert server.request("/hello").status == 200


def test_many_clients_leave_nothing_behind(server):
    assert server.request("/hello").status == 200
    counts = []

    def is_steady():
        # A worker opens its rings when their doors come.
        counts.append({w: server.fds(w) for w in server.workers()})
        return counts[-5:].count(counts[-1]) == 5

    until(is_steady, what="all rings being open")
    before = counts[-1]
    wires = [server.wire() for _ in range(200)]
    for wire in wires:
        wire.ask("/hello")
    for wire in wires:
        assert wire.reply().status == 200
        wire.close()
    until(lambda: all(server.fds(w) <= n + 2 for w, n in before.items()),
          what="the closing of all connections")


# The end

def test_term_lets_a_running_request_finish(server):
    wait = in_background(lambda: server.request("/sleep?ms=700"))
    server.wait_log("sleeping 700")
    server.stop(signal.SIGTERM)
    reply = wait()
    assert (reply.status, reply.text) == (200, "slept 700 ms\n")


def test_int_stops_it_too(server):
    assert server.request("/hello").status == 200
    server.stop(signal.SIGINT)


def test_a_second_int_does_not_wait(server):
    wait = in_background(lambda: server.request("/sleep?ms=20000"))
    server.wait_log("sleeping 20000")
    family = server.family()
    began = time.monotonic()
    server.child.send_signal(signal.SIGINT)
    server.wait_log(r"event=stop\b")
    server.child.send_signal(signal.SIGINT)
    assert server.wait_exit() == 2
    assert time.monotonic() - began < 10
    server.assert_gone(family)
    with pytest.raises((AssertionError, OSError)):
        wait()


def test_term_lets_an_upload_finish(server):
    with server.wire() as wire:
        wire.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
                  "Expect: 100-continue\r\nContent-Length: 6\r\n\r\n")
        assert wire.interim().status == 100
        wire.send("abc")
        server.child.send_signal(signal.SIGTERM)
        server.wait_log(r"event=stop\b")
        wire.send("def")
        reply = wire.reply()
        assert (reply.status, reply.body) == (200, b"abcdef")
        assert reply.get("Connection") == "close"
        wire.assert_closed()
    assert server.wait_exit() == 0


def test_after_term_a_connection_is_not_used_again(server):
    with server.wire() as wire:
        wire.send("GET /sleep?ms=600 HTTP/1.1\r\nHost: a\r\n\r\n"
                  "GET /hello HTTP/1.1\r\nHo")
        server.wait_log("sleeping 600")
        server.child.send_signal(signal.SIGTERM)
        server.wait_log(r"event=stop\b")
        reply = wire.reply()
        assert (reply.status, reply.text) == (200, "slept 600 ms\n")
        # It says that nothing more will be answered.
        assert reply.get("Connection") == "close"
        wire.assert_closed()
    assert server.wait_exit() == 0


def test_after_term_nobody_new_is_served(server):
    port = server.port
    wait = in_background(lambda: server.request("/sleep?ms=700"))
    server.wait_log("sleeping 700")
    server.child.send_signal(signal.SIGTERM)
    server.wait_log(r"event=stop\b")

    def refused():
        try:
            with server.wire(timeout=0.2) as wire:
                wire.request("/hello")
        except (AssertionError, OSError):
            return True
        return False

    until(refused, what="the end of listening")
    assert wait().status == 200
    assert server.wait_exit() == 0
    with pytest.raises(OSError):
        Wire(port).request("/hello")


def test_idle_connections_do_not_delay_the_end(server):
    with server.wire() as wire:
        assert wire.request("/hello").status == 200
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5
        wire.assert_closed()


def test_a_killed_worker_is_replaced(server):
    workers = server.workers()
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert server.request("/hello").status == 200
    now = until(lambda: (lambda w: len(w) == len(workers) and w)(
        server.workers()), what="the new workers")
    assert not set(now) & set(workers)


def test_workers_and_then_modules_may_be_killed(server):
    for _ in range(3):
        for pid in server.workers() + server.modules("hello"):
            os.kill(pid, signal.SIGKILL)
        until(lambda: server.request("/hello").status == 200,
              what="the return of all")
    assert len(server.modules("hello")) == 1


def test_a_request_that_comes_with_a_new_worker_waits_for_its_doors(server):
    """No 503 between a worker's birth and its doors' coming."""
    for _ in range(5):
        old = server.workers()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        wires = [server.wire() for _ in range(10)]
        for wire in wires:
            try:
                wire.ask("/hello")
                assert wire.reply().status == 200
            except (ConnectionResetError, BrokenPipeError):
                pass  # it was accepted by a worker in the moment of its death
            wire.close()


def test_a_killed_worker_refuses_no_connection(server):
    """The listening socket stays open in the keeper: who connects waits."""
    stop = threading.Event()

    def load():
        served = 0
        while not stop.is_set():
            with server.wire() as wire:
                try:
                    wire.ask("/hello")
                    served += wire.reply().status == 200
                except (AssertionError, ConnectionResetError,
                        BrokenPipeError):
                    pass  # it was the dead worker's own
        return served

    wait = in_background(load)
    for _ in range(3):
        pid = server.workers()[0]
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: server.workers() and not alive(pid),
              what="the new worker")
    assert server.request("/hello").status == 200
    stop.set()
    # ConnectionRefusedError would have come out of here.
    assert wait() > 0


def test_workers_have_no_privileges(server):
    if os.geteuid() != 0:
        pytest.skip("only root has something to drop")
    for pid in server.workers():
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f
                          if ":\t" in line)
        assert "0" not in status["Uid"].split()
        assert int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"] == "1"


# Error pages

def test_an_error_page_shows_the_request_id(server):
    reply = server.request("/gone")
    identity = reply.get("X-Request-Id")
    assert identity and identity in reply.text
    assert reply.get("Content-Type").startswith("text/html")


def test_an_error_page_is_json_where_asked_for(server):
    reply = server.request("/gone", fields=["Accept: application/json"])
    assert reply.get("Content-Type").startswith("application/json")
    page = json.loads(reply.body)
    assert page["status"] == 503
    assert reply.get("X-Request-Id") in page.values()


def test_each_request_has_its_own_id(server):
    with server.wire() as wire:
        ids = {wire.request("/gone").get("X-Request-Id") for _ in range(20)}
    assert len(ids) == 20 and None not in ids


def test_only_error_pages_carry_the_id(server):
    assert server.request("/hello").get("X-Request-Id") is None


def test_the_access_log_has_the_id_and_the_status(server):
    identity = server.request("/gone").get("X-Request-Id")
    line = server.wait_log(rf".*{identity}.*").group(0)
    assert "status=503" in line
    assert "cause=" in line


def test_the_processes_have_names_that_ps_shows(server):
    names = {stat_of(p)[0] for p, _ in server.family() if stat_of(p)}
    assert "hello" in names
