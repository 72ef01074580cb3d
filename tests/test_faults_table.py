"""Every fault has a defined end: what the client sees, what the log says, and
that nothing is left, to the unit, after fifty of them in one server.

docs/faults.md is the same for people; with CARDEA_FAULT_TABLE=FILE the run
writes its rows, with the statuses and lines that were really seen."""

import os
import re
import signal
import socket
import time

import pytest

from lib.leaks import assert_nothing_left, settled
from lib.server import alive, stand_still, stat_of, until

TIMES = 50

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0,
                       reason="only root may count a worker's descriptors"),
    pytest.mark.limit(240),
]

CONF = """
set body-timeout 2s
module hello { run "$PROGRAMS/hello" }
module echo  { run "$PROGRAMS/echo" }
module hurry { run "$PROGRAMS/sleep"; timeout 300ms }
module sleep { run "$PROGRAMS/sleep" }
module big   { run "$PROGRAMS/reply" }
module close { run "$PROGRAMS/closer" }
module fork  { exec "/bin/sh $DIR/fork.sh" }
module flood { exec "/bin/sh $DIR/flood.sh" }

forward http 127.0.0.1:$PORT to {
    map GET  /hello to hello
    map POST /echo  to echo
    map GET  /hurry to hurry
    map GET  /sleep to sleep
    map GET  /big   to big
    map GET  /close to close
    map GET  /fork  to fork
    map GET  /flood to flood
    map GET  /gone  to "$DIR/gone.door"
    map GET  /dead  to "$DIR/dead.door"
    %s
}
""" % "".join(f"map GET /crash{i} to crash{i}; map GET /lie{i} to lie{i}\n"
              f"map GET /leave{i} to leave{i}\n"
              for i in range(10))
CONF += "".join(
    f'module crash{i} {{ run "$PROGRAMS/crash" }}\n'
    f'module leave{i} {{ run "$PROGRAMS/closer" }}\n'
    f'module lie{i} {{ run "$BUILD/tests/attacks/attack-liar far-data" }}\n'
    for i in range(10))
SCRIPTS = {
    # The grandchild holds the pipe and leaves the group.
    "fork.sh": "printf 'Content-Type: text/plain\\n\\nhi'\n"
               "sleep 1000 & exit 0\n",
    "flood.sh": "printf 'Content-Type: text/plain\\n\\nhi'\n"
                "head -c 300000 /dev/zero | tr '\\0' 'e' | fold >&2\n",
}
# Parts of names of what a program may keep for a while after its busiest time.
POOL = ("threads",)


@pytest.fixture(scope="module")
def server(shared, shared_folder):
    for name, text in SCRIPTS.items():
        with open(os.path.join(shared_folder, name), "w",
                  encoding="ascii") as f:
            f.write(text)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(os.path.join(shared_folder, "dead.door"))
    server = shared(CONF)
    for path in ("/hello", "/hurry?ms=0", "/sleep?ms=0", "/big", "/fork",
                 "/flood", "/close",
                 *(f"/{n}{i}" for i in range(10) for n in ("crash", "leave"))):
        assert until(lambda p=path: server.request(p).status == 200)
    assert server.request("/echo", "POST", body=b"a").status == 200
    return server


class Row:
    """One fault, done TIMES times, judged, and written down."""

    def __init__(self, server, fault):
        self.server, self.fault = server, fault
        self.before = settled(server)
        self.start = server.lines()
        self.seen = set()

    def judge(self, client, line, grown=()):
        """CLIENT: what each of them saw; LINE: what the log must say."""
        assert self.seen == {client}, self.seen
        found = self.server.wait_log(line, start=self.start).string
        assert_nothing_left(self.server, self.before, grown)
        assert self.server.request("/hello").status == 200
        path = os.environ.get("CARDEA_FAULT_TABLE")
        if path:
            test = os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split()[0]
            with open(path, "a", encoding="utf-8") as f:
                f.write(f"{self.fault}\t{client}\t{shorten(found)}\t{test}\n")


def shorten(line):
    """A log line without what differs each time."""
    line = re.sub(r"^\S+Z level=(\w+) ", "", line)
    line = re.sub(r" (id|client|host|bytes|\w+_ms|pid|count|workers?)=\S+", "",
                  line)
    return re.sub(r"(/\S+)?/(dead|gone)\.door", r"\2.door",
                  re.sub(r" door=\S+/(\w+)/door", r" door=\1/door", line))


def answered(server, target, **more):
    return str(server.request(target, **more).status)


def back(server, target):
    until(lambda: server.request(target).status == 200,
          what=f"{target}: its return")


def spread():
    """TIMES turns over ten programs: each waits longer before its next life
    the more often it died."""
    return [(turn, i) for turn in range(TIMES // 10) for i in range(10)]


# Doors

def test_a_missing_door(server):
    row = Row(server, "no door at the path")
    for _ in range(TIMES):
        row.seen.add(answered(server, "/gone"))
    row.judge("503", r"event=request .*status=503 .*cause=no-door")


def test_a_dead_door(server):
    row = Row(server, "a door's socket without a server")
    for _ in range(TIMES):
        row.seen.add(answered(server, "/dead"))
    row.judge("503", r"event=request .*status=503 .*cause=no-door")


def test_a_crash_in_the_call(server):
    row = Row(server, "the program crashes in the call")
    for _, i in spread():
        back(server, f"/crash{i}")
        row.seen.add(answered(server, f"/crash{i}?now=1"))
    for i in range(10):
        back(server, f"/crash{i}")
    row.judge("502", r"event=request .*status=502 .*cause=crash", POOL)
    server.wait_log(r"event=died module=crash0 cause=signal-ABRT",
                    start=row.start)


def test_a_call_that_is_late(server):
    """The thread goes on; its late answer goes to nobody, its slot back."""
    row = Row(server, "no answer within the timeout")
    wires = [server.wire() for _ in range(TIMES)]
    for wire in wires:
        wire.ask("/hurry?ms=600")
    for wire in wires:
        row.seen.add(str(wire.reply().status))
        wire.close()
    row.judge("504", r"event=request .*status=504 .*cause=deadline", POOL)


def test_a_server_that_lies(server):
    row = Row(server, "an answer whose lengths lie outside the memory")
    for _, i in spread():
        until(lambda i=i: (lambda s: s != "503" and not row.seen.add(s))(
            answered(server, f"/lie{i}")), what="its return")
    until(lambda: len(server.modules("attack-liar")) == 10,
          what="the last liars")
    row.judge("502", r"event=request .*status=502 .*cause=lied")
    server.wait_log(r"event=kill module=lie0 .*cause=lied", start=row.start)


# Clients

@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_client_that_vanishes_in_the_head(server, how):
    row = Row(server, f"the client leaves within the head ({how})")
    for _ in range(TIMES):
        wire = server.wire()
        wire.send("GET /hello HTTP/1.1\r\nHo")
        row.seen.add("-")
        wire.close() if how == "FIN" else wire.reset()
    row.judge("-", r"event=request .*status=499 .*cause=client-gone")


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_client_that_vanishes_in_the_body(server, how):
    row = Row(server, f"the client leaves within the body ({how})")
    for _ in range(TIMES):
        wire = server.wire()
        wire.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
                  "Content-Length: 100000\r\n\r\n" + "b" * 50000)
        row.seen.add("-")
        wire.close() if how == "FIN" else wire.reset()
    row.judge("-", r"event=request .*target=/echo .*status=499 "
              r".*cause=client-gone")


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_client_that_vanishes_in_the_call(server, how):
    row = Row(server, f"the client leaves within the call ({how})")
    for _ in range(TIMES):
        wire = server.wire()
        start = server.lines()
        wire.ask("/sleep?ms=30")
        server.wait_log("sleeping 30", start=start)
        row.seen.add("-")
        wire.close() if how == "FIN" else wire.reset()
    row.judge("-", r"event=request .*target=.?/sleep\S* .*(status=499|"
              r"status=200).*", POOL)


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_client_that_vanishes_in_the_reply(server, how):
    row = Row(server, f"the client leaves within the reply ({how})")
    for _ in range(TIMES):
        wire = server.wire(room=4096)
        wire.ask("/big?size=8000000")
        row.seen.add(str(wire.head().status))
        wire.close() if how == "FIN" else wire.reset()
    row.judge("200", r"event=request .*target=.?/big\S* .*cause=client-gone",
              POOL)


# Programs

def test_a_program_that_is_killed_while_idle(server):
    row = Row(server, "the program is killed while idle")
    for _, i in spread():
        pid = int(server.request(f"/crash{i}").text)
        os.kill(pid, signal.SIGKILL)
        until(lambda p=pid: not alive(p), what="its death")
        back(server, f"/crash{i}")
        row.seen.add(answered(server, f"/crash{i}"))
    row.judge("200", r"event=died module=crash\d cause=signal-KILL", POOL)


def test_a_program_whose_door_is_unlinked(server):
    """The worker's connection stays; the name was only for callers to come."""
    row = Row(server, "the door's name is removed")
    path = re.search(r"run-folder=(\S+)",
                     next(l for l in server.log if "ready url" in l)).group(1)
    (pid,) = server.modules("hello")
    os.unlink(f"{path}/hello/door")
    for _ in range(TIMES):
        row.seen.add(answered(server, "/hello"))
    os.kill(pid, signal.SIGKILL)  # the next life brings its own
    back(server, "/hello")
    until(lambda: os.path.exists(f"{path}/hello/door"), what="its name")
    row.judge("200", r"event=door-open module=hello")


def test_a_program_that_is_stopped(server):
    row = Row(server, "the program is stopped (SIGSTOP)")
    for pid in server.modules("sleep"):
        if stat_of(pid)[3]:
            stand_still(pid)
    wires = [server.wire() for _ in range(TIMES)]
    began = time.monotonic()
    for wire in wires:
        wire.ask("/hurry?ms=0")
    for wire in wires:
        row.seen.add(str(wire.reply().status))
        wire.close()
    assert time.monotonic() - began < 20
    for pid in server.modules("sleep"):
        os.kill(pid, signal.SIGCONT)
    back(server, "/hurry?ms=0")
    row.judge("504", r"event=request .*status=504 .*cause=deadline", POOL)


def closer_of(server):
    """The program of module close, as the server told it last."""
    return next(int(m.group(1)) for m in (
        re.search(r"event=start module=close pid=(\d+)", l)
        for l in reversed(list(server.log))) if m)


def order(server, signum, said):
    """Makes the program of module close do it, and waits until it has."""
    start = server.lines()
    os.kill(closer_of(server), signum)
    server.wait_log(rf"event=output module=close .*text=\"?{said}",
                    start=start)


def test_a_program_that_exits_in_the_call(server):
    row = Row(server, "the program calls exit(0) in the call")
    for _, i in spread():
        back(server, f"/leave{i}")
        row.seen.add(answered(server, f"/leave{i}?exit"))
    for i in range(10):
        back(server, f"/leave{i}")
    row.judge("502", r"event=request .*status=502 .*cause=crash", POOL)
    server.wait_log(r"event=died module=leave0 cause=exit-0", start=row.start)


@pytest.mark.parametrize("signum, said", [
    (signal.SIGWINCH, "unlinked"), (signal.SIGURG, "renamed")])
def test_a_program_that_takes_its_name_away(server, signum, said):
    """Who is connected stays connected, whatever becomes of the name. A name
    that is gone but was not detached keeps its socket in the program."""
    row = Row(server, f"the program's door is {said} by itself")
    for _ in range(TIMES):
        order(server, signum, said)
        row.seen.add(answered(server, "/close"))
        order(server, signal.SIGUSR2, "opened")
        back(server, "/close")
    row.judge("200", rf"event=output module=close .*text={said}",
              (*POOL, "closer descriptors"))


# Commands

def test_a_command_whose_child_keeps_the_pipe(server):
    row = Row(server, "a command's child keeps its pipe")
    for _ in range(TIMES):
        row.seen.add(answered(server, "/fork"))
    row.judge("200", r"event=request .*target=/fork .*status=200", POOL)


def test_a_command_that_floods_its_errors(server):
    row = Row(server, "a command floods its standard error")
    for _ in range(TIMES):
        row.seen.add(answered(server, "/flood"))
    row.judge("200", r"event=output module=flood stream=stderr", POOL)


def test_a_shim_that_is_killed(server):
    row = Row(server, "the shim is killed")
    for _ in range(10):
        shims = [p for p in server.modules("cardea-exec")
                 if os.readlink(f"/proc/{p}/cwd") and server.threads(p) > 1]
        for pid in shims:
            os.kill(pid, signal.SIGKILL)
        until(lambda s=shims: not any(alive(p) for p in s), what="their end")
        back(server, "/fork")
        back(server, "/flood")
        row.seen.add(answered(server, "/fork"))
    row.judge("200", r"event=died module=(fork|flood) cause=signal-KILL", POOL)


# Our own

def test_a_worker_that_is_killed(server):
    """In each state of its connections: these are lost, and closed by the
    kernel; the next worker has all doors again."""
    row = Row(server, "a worker is killed")
    asked = (lambda w: None,
             lambda w: w.send("GET /hello HT"),
             lambda w: w.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
                              "Content-Length: 9\r\n\r\nabc"),
             lambda w: w.ask("/sleep?ms=100"),
             lambda w: w.ask("/big?size=8000000"))
    for i in range(8):  # of each; more would wait longer each time
        workers = server.workers()
        wires = [server.wire(room=4096) for _ in range(4)]
        for wire in wires:
            asked[i % len(asked)](wire)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        until(lambda w=workers: not any(alive(p) for p in w)
              and len(server.workers()) == len(w), what="the next workers")
        for wire in wires:
            wire.close()
        back(server, "/hello")
        row.seen.add("closed")
    for path in ("/hurry?ms=0", "/sleep?ms=0", "/big", "/fork", "/flood",
                 "/close",
                 *(f"/{n}{i}" for i in range(10) for n in ("crash", "leave"))):
        back(server, path)
    row.judge("closed", r"event=died worker=\d+ pid=\d+ cause=signal-KILL", POOL)


def test_a_keeper_that_is_killed(cardea):
    """With its reaper: nobody is left who could restart anything. All of it
    ends, at once, and the next start finds its run folder free."""
    text = """
        module hello { run "$PROGRAMS/hello" }
        module shell { exec "/bin/sleep 1000" }
        forward http 127.0.0.1:$PORT to {
            map GET /hello to hello
            map GET /shell to shell
        }
    """
    server = cardea(text)
    assert server.request("/hello").status == 200
    with socket.create_connection(("127.0.0.1", server.port), 15) as client:
        client.sendall(b"GET /shell HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: server.modules("sleep"), what="the command")
        family = server.family()
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait_exit() == -signal.SIGKILL
        server.assert_gone(family)
        # A worker may see the module's end before that of the reaper.
        answer = client.recv(4096)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 502 ")
    again = cardea(text)
    assert again.request("/hello").status == 200
