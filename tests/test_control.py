"""The control socket: what it tells, whom, and that nobody can hold it up."""

import json
import os
import re
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from lib import control
from lib.pace import within
from lib.server import Server, until

SITE = """
    module hello { run "$PROGRAMS/hello" }
    module sleepy { run "$PROGRAMS/sleep"; timeout 60s }
    module crash { run "$PROGRAMS/crash" }
    module date { exec "/bin/date" }
    forward http 127.0.0.1:$PORT to {
        map any / to hello
        map any /sleep to sleepy
        map any /crash to crash
        map any /date to date
        map any /door to "$DIR/none.door"
        map any /files to files "$DIR"
    }
"""


@pytest.fixture
def server(cardea):
    return cardea(SITE)


def calls_of(path, name):
    return control.module(control.status(path), name)["calls"]


def test_it_lies_in_the_run_folder_for_its_owner_alone(server):
    path = control.path_of(server)
    mode = os.lstat(path).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    server.stop()
    assert not os.path.exists(os.path.dirname(path))


def test_who_stops_reading_leaves_nothing_to_the_next(server):
    """Its reply is freed with it, and so is the count of what was left."""
    path = control.path_of(server)
    before = control.ask(path, "help")
    assert before[0] == "ok"
    for _ in range(300):
        with control.connect(path) as s:
            s.shutdown(socket.SHUT_RD)
            s.sendall(b"status json\n")
    for _ in range(20):
        assert control.ask(path, "help") == before


def test_what_an_earlier_life_left_at_its_place_is_replaced(build, folder):
    # In a folder of its own: what a dead server left at the usual place, the next
    # start of any other sweeps away.
    text = SITE + '    set run-folder "$DIR/run"\n'
    server = Server(build, folder, text)
    try:
        path = control.path_of(server.start())
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit()
        assert os.path.exists(path)
        again = Server(build, folder, text)
        try:
            again.start()
            assert control.status(path)["pid"] == again.pid
            again.stop()
        finally:
            again.destroy()
    finally:
        server.destroy()


def test_a_module_is_told_where_it_is(server):
    path = control.path_of(server)
    pids = server.modules("hello") + server.modules("cardea-exec")
    assert len(pids) >= 2
    for pid in pids:
        with open(f"/proc/{pid}/environ", "rb") as f:
            assert f"CARDEA_CONTROL={path}".encode() in f.read().split(b"\0")


def test_status_counts_calls_answers_and_errors(server):
    path = control.path_of(server)
    for target in ("/", "/", "/date", "/files/cardea.conf", "/files/none",
                   "/door"):
        server.request(target)
    # One that is not made again: how long the next process takes is another's
    # matter.
    assert server.request("/crash?now=1", "POST", body=b"").status == 502
    state = control.status(path)
    assert (state["version"], state["pid"], state["state"]) == (
        subprocess.check_output([os.path.join(server.build, "cardea"),
                                 "version"], text=True).split()[1],
        server.pid, "running")
    assert state["configuration"] == os.path.realpath(server.conf)
    assert state["listeners"] == [{
        "url": server.url, "protocol": "http",
        "written": f"127.0.0.1:{server.port}"}]
    hello = control.module(state, "hello")
    assert (hello["kind"], hello["state"], hello["calls"]) == (
        "run", "running", 2)
    assert hello["answers"] == {"2xx": 2, "3xx": 0, "4xx": 0, "5xx": 0}
    assert (hello["errors"], hello["in_flight"]) == ({}, 0)
    date = control.module(state, "date")
    assert (date["kind"], date["calls"]) == ("exec", 1)
    crash = control.module(state, "crash")
    assert (crash["calls"], crash["errors"]) == (1, {"crash": 1})
    assert crash["answers"]["5xx"] == 1
    door, = state["doors"]
    assert (door["path"], door["state"], door["calls"], door["threads"]) == (
        os.path.join(server.folder, "none.door"), "waiting", 0, None)
    assert door["errors"] == {"no-door": 1}
    files, = state["files"]
    assert files["answers"] == {"2xx": 1, "3xx": 0, "4xx": 1, "5xx": 0}
    assert (files["errors"], files["client_errors"]) == ({}, {"not-found": 1})
    assert control.requests(state) == 7
    until(lambda: control.module(control.status(path), "crash")["restarts"]
          == 1)
    crash = control.module(control.status(path), "crash")
    assert crash["last_cause"] == "signal-ABRT"
    assert crash["causes"] == {"signal-ABRT": 1}


def test_requests_without_a_target_are_counted_apart(cardea):
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to { map GET /hello to hello }
    """)
    path = control.path_of(server)
    assert server.request("/nothing").status == 404
    with server.wire() as wire:
        wire.send(b"nonsense\r\n\r\n")
        wire.reply()
    state = control.status(path)
    assert state["unrouted"] == {
        "requests": 2,
        "answers": {"2xx": 0, "3xx": 0, "4xx": 2, "5xx": 0},
        "errors": {},
        "client_errors": {"no-route": 1, "bad-request": 1}}
    assert control.requests(state) == 2


def test_threads_are_the_high_water_mark_of_calls(server):
    path = control.path_of(server)
    wires = [server.wire() for _ in range(9)]
    for wire in wires:
        wire.send(b"GET /sleep?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n")
    busy = until(lambda: [m for m in [control.module(control.status(path),
                                                     "sleepy")]
                          if (m["threads"] or 0) >= 9])[0]
    assert (busy["in_flight"], busy["calls"]) == (9, 9)
    for wire in wires:
        assert wire.reply().status == 200
        wire.close()
    sleepy = control.module(control.status(path), "sleepy")
    assert sleepy["in_flight"] == 0
    assert sleepy["threads_high"] >= 9
    assert sleepy["threads_high"] == server.threads(
        server.modules("sleep")[0]) - 1  # the one that listens is no server
    assert sleepy["run_ms"] >= 9 * 1500
    assert sum(sleepy["run_buckets"]) == sum(sleepy["wait_buckets"]) == 9
    assert sleepy["run_buckets"][21] == 9  # 1.07 to 2.15 s
    assert sleepy["median_run_ms"] >= 1500
    assert 0 < sleepy["wait_ms"] < 9 * 1000


def test_sums_survive_the_death_of_a_worker(server):
    path = control.path_of(server)
    for _ in range(8):
        server.request("/")
    before = control.status(path)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(w["takeovers"] == 1 and w["ready"]
                      for w in control.status(path)["workers"]))
    after = control.status(path)
    assert control.module(after, "hello")["calls"] == 8
    assert control.requests(after) == control.requests(before) == 8
    assert [w["last_cause"] for w in after["workers"]] == [
        "signal-KILL"] * len(after["workers"])
    until(lambda: server.request("/").status == 200)
    assert calls_of(path, "hello") >= 9


def test_a_module_without_a_process_has_no_number(cardea):
    server = cardea("""
        module broken { run "/bin/false" }
        forward http 127.0.0.1:$PORT to broken
    """)
    path = control.path_of(server)
    broken = until(lambda: [m for m in control.status(path)["modules"]
                            if m["state"] == "waiting"])[0]
    assert (broken["pid"], broken["up_s"]) == (None, None)
    assert broken["last_cause"] == "exit-1"
    assert broken["causes"]["exit-1"] >= 1
    assert broken["door_state"] == "waiting"


@pytest.mark.parametrize("name", [
    'quote " and \\ back.conf', "new\nline\ttab\x01.conf", "ä€🚪.conf",
    b"bad \xff\xc3( utf.conf", "\x1b[31mred.conf"])
def test_json_holds_nasty_names(build, folder, name):
    nasty = os.path.join(os.fsencode(folder), os.fsencode(name))
    server = Server(build, folder, SITE + 'set run-folder "$DIR/r"\n')
    os.rename(server.conf, nasty)
    server.conf = nasty
    try:
        path = control.path_of(server.start())
        with control.connect(path) as s:
            s.sendall(b"status json\n")
            body = control.rest_of(s).partition("\n")[2]
        assert json.loads(body)["configuration"] == os.path.realpath(
            nasty).decode("utf-8", "replace")
        text = control.ask(path, "status")[1]
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
        server.stop()
    finally:
        server.destroy()


def test_the_table_fits_80_columns(server):
    path = control.path_of(server)
    for target in ("/", "/crash?now=1", "/door", "/files/none"):
        server.request(target)
    server.wait_log("event=died module=crash ")
    # Workers tell their numbers when they come to it.
    until(lambda: re.search(
        r"^hello +run +\d+ running +\d +\d +1 +0 +0 +0$",
        control.ask(path, "status")[1], re.M))
    first, body = control.ask(path, "status")
    assert first == "ok"
    assert "  last end: signal-ABRT\n" in body
    assert re.search(r"^  errors: crash 1$", body, re.M)
    assert re.search(r" +1 +0\n  client errors: not-found 1$", body, re.M)
    assert max(len(line) for line in body.splitlines()
               if "/" not in line) <= 80


def test_a_long_path_keeps_its_row_and_each_listener_its_protocol(cardea):
    deep = "a/b/c/d/e/f/g/h/i/" * 4
    server = cardea(f"""
        module hello {{ run "$PROGRAMS/hello" }}
        forward http 127.0.0.1:$PORT to {{
            map any / to hello
            map any /door to "$DIR/{deep}none.door"
            map any /files to files "$DIR"
        }}
        forward http unix:$DIR/h.sock to hello
        forward tcp unix:$DIR/c.sock to "$DIR/{deep}none.door"
        forward tcp unix:$DIR/p.sock pass "$DIR/{deep}none.door"
    """)
    body = control.ask(control.path_of(server), "status")[1]
    assert re.search(r"^/tmp/cardea-\S*\.\.\.h/i/none\.door waiting +- +- +0 +0 "
                     r"+0$", body, re.M), body
    assert re.search(rf"^{server.folder} +0 +0$", body, re.M), body
    assert re.search(r"http://127\S+ \(http\)$", body, re.M)
    for name, protocol in (("h", "http"), ("c", "tcp to"), ("p", "tcp pass")):
        assert re.search(rf"/{name}\.sock\S* \({protocol}\)$", body, re.M), body


def test_modules_are_told_a_line_each(cardea):
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        module spare { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """)
    first, body = control.ask(control.path_of(server), "modules")
    assert (first, body) == ("ok", "hello running open\nspare running unused\n")


def test_processes_are_told_a_line_each(cardea):
    server = cardea("""
        set workers 2
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """)
    first, body = control.ask(control.path_of(server), "processes")
    state = control.status(control.path_of(server))
    assert first == "ok"
    assert body.splitlines() == [
        f"keeper - {server.keeper()}",
        *(f"worker {w['index']} {w['pid']}" for w in state["workers"]),
        f"module hello {server.modules('hello')[0]}"]


@pytest.mark.parametrize("sent, answer", [
    (b"fly\n", "error no request 'fly'; help lists them\n"),
    (b"\n", "error nothing asked; help lists the requests\n"),
    (b"status \x01\n", "error not a request: one line of words in ASCII; help "
     "lists them\n"),
    (b"x" * 4096, "error the line is longer than 4096 bytes\n"),
    (b"x" * 5000, "error the line is longer than 4096 bytes\n"),
])
def test_what_is_no_request_is_told_so(server, sent, answer):
    with control.connect(control.path_of(server)) as s:
        try:
            s.sendall(sent)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert control.rest_of(s) == answer


def test_help_lists_the_requests(server):
    first, body = control.ask(control.path_of(server), "help")
    assert first == "ok"
    assert [line.split(":")[0] for line in body.splitlines()] == [
        "help", "status", "status json", "modules", "processes",
        "numbers", "log", "log follow", "configuration", "reload", "stop",
        "stop now"]


def test_a_line_may_end_with_the_connection(server):
    with control.connect(control.path_of(server)) as s:
        s.sendall(b"status json")
        s.shutdown(socket.SHUT_WR)
        assert control.rest_of(s).startswith("ok\n{")


def test_another_user_is_refused_and_logged(server):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    path = control.path_of(server)
    code = ("import os, socket, sys\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "try:\n"
            "    s.connect(sys.argv[1])\n"
            "except PermissionError:\n"
            "    sys.exit('no way in')\n"
            "try:\n"
            "    s.sendall(b'stop now\\n')\n"
            "except BrokenPipeError:\n"
            "    pass\n"  # refused before it had asked
            "print(s.recv(1000).decode(), end='')\n")

    def try_it():
        return subprocess.run([sys.executable, "-c", code, path],
                              stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=30, check=False)

    os.chmod(os.path.join(server.folder, "run"), 0o711)
    assert try_it().stderr == "no way in\n"  # by the mode
    os.chmod(path, 0o666)
    assert try_it().stdout == ("error only root and the user that runs this "
                               "server may ask\n")
    server.wait_log(r"level=warn event=control-refused uid=65534 pid=\d+")
    assert control.status(path)["state"] == "running"


# Hostile peers


def test_half_a_line_is_dropped_after_two_seconds(server):
    with control.connect(control.path_of(server)) as s:
        s.sendall(b"stat")
        began = time.monotonic()
        assert s.recv(10) == b""
        took = time.monotonic() - began
        assert took > 1.5 and within(took, 6)


def test_a_flood_delays_neither_the_keeper_nor_an_honest_peer(server):
    """A thousand connections, silent, with half lines, or never reading; and
    meanwhile a worker dies, and is there again in its time."""
    path = control.path_of(server)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    victims = server.workers()
    flood = []
    try:
        mark = server.lines()
        slowest = 0
        for i in range(1000):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            s.setblocking(False)
            # The queue is bounded: then we are the one who waits.
            until(lambda s=s: s.connect_ex(path) == 0, what="the connection")
            if i % 3 == 1:
                s.send(b"status js")
            elif i % 3 == 2:
                s.send(b"status\n" * 50)  # and never reads
            flood.append(s)
            if i == 500:
                os.kill(victims[0], signal.SIGKILL)
                killed = time.monotonic()
            if i % 100 == 99:
                began = time.monotonic()
                assert control.ask(path, "status json")[0] == "ok"
                slowest = max(slowest, time.monotonic() - began)
        server.wait_log(r"event=died worker=\d+ pid=\d+ .*heir=yes",
                        start=mark)
        server.wait_log(r"event=took-over worker=\d+ ", start=mark)
        assert time.monotonic() - killed < 5
        assert slowest < 2
        assert server.request("/").status in (200, 503)
    finally:
        for s in flood:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until(lambda: server.fds(server.keeper()) < 60)


def test_a_reader_that_stops_is_dropped(server):
    path = control.path_of(server)
    before = server.fds(server.keeper())
    silent = []
    for _ in range(16):
        s = control.connect(path)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.sendall(b"status json\n")
        silent.append(s)
    assert control.ask(path, "status json")[0] == "ok"
    until(lambda: server.fds(server.keeper()) <= before)
    for s in silent:
        s.close()


# Stopping


def test_stop_tells_until_the_end(server):
    path = control.path_of(server)
    with control.connect(path) as s, server.wire() as wire:
        wire.send(b"GET /sleep?ms=1200 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_log("sleeping 1200")
        s.sendall(b"stop\n")
        first = s.recv(3)
        assert first == b"ok\n"
        assert wire.reply().body == b"slept 1200 ms\n"  # it was waited for
        told = control.rest_of(s)
    assert "waiting for 1 request\n" in told
    assert "waiting for module" in told
    assert told.endswith("ended 0\n")
    assert server.wait_exit() == 0
    server.wait_log(r"event=control asked=stop uid=\d+ pid=\d+")
    server.wait_log(r"event=stop cause=control-stop ")


def test_stop_now_does_not_wait(server):
    path = control.path_of(server)
    with control.connect(path) as s, server.wire() as wire:
        wire.send(b"GET /sleep?ms=50000 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_log("sleeping 50000")
        began = time.monotonic()
        s.sendall(b"stop now\n")
        assert control.rest_of(s).endswith("ended 2\n")
        assert time.monotonic() - began < 10
    assert server.wait_exit() == 2


def test_status_can_be_asked_while_it_stops(server):
    path = control.path_of(server)
    with control.connect(path) as s, server.wire() as wire:
        wire.send(b"GET /sleep?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_log("sleeping 1500")
        s.sendall(b"stop\n")
        assert s.recv(3) == b"ok\n"
        state = control.status(path)
        assert state["state"] == "stopping"
        assert "stopping" in {w["state"] for w in state["workers"]}
        select.select([s], [], [], 0)
    assert server.wait_exit() == 0  # it goes on without who asked for it
