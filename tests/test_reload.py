"""A changed configuration while the server runs: what stays is not touched,
what changes does so without a lost request (docs/reload.md)."""

import json
import os
import signal
import socket
import string
import subprocess
import threading

import pytest

from lib.leaks import settled
from lib.server import free_port, stat_of, until
from lib.wire import Wire

ONE = 'module one { run "$PROGRAMS/life" }\n'
TWO = 'module two { run "$PROGRAMS/life" }\n'
HTTP = "forward http 127.0.0.1:$PORT to {{ {} }}\n"


def write(server, text, **more):
    """The next configuration, put in place as a whole."""
    with open(server.conf + ".new", "w", encoding="utf-8") as f:
        f.write(string.Template(text).substitute(
            PORT=server.port, DIR=server.folder, BUILD=server.build,
            PROGRAMS=os.path.join(server.build, "tests", "programs"), **more))
    os.rename(server.conf + ".new", server.conf)


def ask(server, *words):
    return subprocess.run(
        [os.path.join(server.build, "cardea"), *words, "-f", server.conf],
        env=server.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True, timeout=60, check=False)


def reload(server, text, **more):
    """Reloads with TEXT, which must be taken."""
    write(server, text, **more)
    done = ask(server, "reload")
    assert done.returncode == 0, done.stderr + server.dump()
    assert done.stdout.startswith("reloaded generation=")


def status(server):
    return json.loads(ask(server, "status", "--json").stdout)


def module(server, name):
    return next((m for m in status(server)["modules"] if m["name"] == name),
                None)


def pid_of(server, target="/"):
    return int(Wire(server.port).request(target).text)


class Load(threading.Thread):
    """Asks for TARGET again and again, half of it on one connection."""

    def __init__(self, port, target="/"):
        super().__init__(daemon=True)
        self.port = port
        self.target = target
        self.over = threading.Event()
        self.failed = []
        self.n = 0
        self.start()

    def run(self):
        kept = Wire(self.port)
        while not self.over.is_set():
            try:
                reply = kept.request(self.target)
                with Wire(self.port) as fresh:
                    other = fresh.request(self.target)
            except (OSError, AssertionError) as e:
                self.failed.append(repr(e))
                return
            self.failed += [r for r in (reply, other) if r.status != 200]
            self.n += 2
        kept.close()

    def end(self):
        self.over.set()
        self.join(20)
        assert not self.failed, self.failed[:5]
        assert self.n > 0


# What stays


def test_what_did_not_change_is_not_touched(cardea):
    first = ONE + HTTP.format("map GET / to one")
    server = cardea(first)
    kept = Wire(server.port)
    kept.request("/")
    slow = Wire(server.port)
    slow.ask("/?ms=1500")
    server.wait_log("sleeping 1500")
    workers = server.workers()
    leader = module(server, "one")["pid"]
    reload(server, ONE + TWO + HTTP.format(
        "map GET / to one; map GET /two to two"))
    assert server.workers() == workers
    assert module(server, "one")["pid"] == leader
    assert kept.request("/").text == f"{leader}\n"
    two = int(kept.request("/two").text)
    assert two != leader and two == module(server, "two")["pid"]
    assert slow.reply().text == f"{leader}\n"
    reload(server, first)
    assert kept.request("/two").text == f"{leader}\n"
    until(lambda: module(server, "two") is None, what="the end of two")
    assert not stat_of(two)
    assert server.workers() == workers
    assert module(server, "one")["pid"] == leader


def test_a_download_goes_on_while_its_route_goes(cardea, folder):
    os.mkdir(os.path.join(folder, "pub"))
    size = 24 << 20
    with open(os.path.join(folder, "pub", "big"), "wb") as f:
        f.write(os.urandom(1 << 20) * (size >> 20))
    server = cardea(ONE + HTTP.format(
        "map GET / to one; map GET /f to files $DIR/pub"))
    wire = Wire(server.port, room=65536)
    wire.ask("/f/big")
    head = wire.head()
    assert head.status == 200
    reload(server, ONE + HTTP.format("map GET / to one"))
    leader = module(server, "one")["pid"]
    assert pid_of(server, "/f/big") == leader
    assert [f["folder"] for f in status(server)["files"]] == []
    assert status(server)["reload"]["gone"] == 1
    n = len(wire._exactly(size))
    assert n == size
    assert wire.request("/").text == f"{leader}\n"
    until(lambda: status(server)["reload"]["gone"] == 0,
          what="the end of the download's target")


# What changes


def test_a_changed_module_is_started_anew_without_a_lost_request(cardea):
    server = cardea(ONE + TWO + HTTP.format(
        "map GET / to one; map GET /two to two"))
    one, two = pid_of(server), pid_of(server, "/two")
    loads = [Load(server.port), Load(server.port, "/two?ms=3")]
    for n in range(5):
        reload(server, ONE + 'module two { run "$PROGRAMS/life"; '
               f"environment N={n} }}\n" + HTTP.format(
                   "map GET / to one; map GET /two to two"))
        was, two = two, until(
            lambda was=two: pid_of(server, "/two") not in (0, was) and
            pid_of(server, "/two"), what="the next process")
        until(lambda was=was: not stat_of(was), what="the old one's end")
    for load in loads:
        load.end()
    assert pid_of(server) == one
    state = module(server, "two")
    assert state["causes"] == {"recycled-configuration": 5}


def test_listeners_come_and_go(cardea, folder):
    server = cardea(ONE + HTTP.format("map GET / to one"))
    more = free_port()
    both = ONE + HTTP.format("map GET / to one") + \
        "forward http 127.0.0.1:$MORE to one\n" \
        "forward http unix:$DIR/sock mode 0600 to one\n"
    load = Load(server.port)
    reload(server, both, MORE=more)
    kept = Wire(more)
    leader = pid_of(server)
    assert int(kept.request("/").text) == leader
    path = os.path.join(folder, "sock")
    assert os.stat(path).st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
    busy = Wire(more)
    busy.ask("/?ms=800")
    server.wait_log("sleeping 800")
    reload(server, ONE + HTTP.format("map GET / to one"))
    # Who waits for an answer gets it; the others are let go.
    assert busy.reply().text == f"{leader}\n"
    busy.assert_closed()
    kept.assert_closed()
    with pytest.raises(ConnectionRefusedError):
        until(lambda: Wire(more).close(), 2, "a refusal")
    assert not os.path.exists(path)
    load.end()
    until(lambda: status(server)["reload"]["gone"] == 0, what="the end of all")
    assert [l["url"] for l in status(server)["listeners"]] == [server.url]
    reload(server, both, MORE=more)  # and again, under the same numbers
    assert pid_of(server) == int(Wire(more).request("/").text) == leader


def test_hup_reloads_too(cardea):
    server = cardea(ONE + HTTP.format("map GET / to one"))
    write(server, ONE + TWO + HTTP.format(
        "map GET / to one; map GET /two to two"))
    os.kill(server.pid, signal.SIGHUP)
    server.wait_log("event=reload generation=2 started=1 changed=0 ended=0")
    assert pid_of(server, "/two") == module(server, "two")["pid"]


# What does not


def test_a_mistake_keeps_the_old_and_says_where(cardea):
    server = cardea(ONE + HTTP.format("map GET / to one"))
    leader = pid_of(server)
    write(server, ONE + "module two { rum \"x\" }\n" +
          HTTP.format("map GET / to nobody"))
    done = ask(server, "reload")
    assert done.returncode == 78
    assert f"{server.conf}:2:14: " in done.stderr
    server.wait_log("event=reload-refused error=.*cardea.conf:2:14: ")
    os.kill(server.pid, signal.SIGHUP)
    server.wait_log("event=reload-refused", start=server.lines())
    assert pid_of(server) == leader
    state = status(server)["reload"]
    assert state["generation"] == 1 and state["refused"] == 2
    assert ":2:14: " in state["error"]
    assert "refused: " in ask(server, "status").stdout
    reload(server, ONE + HTTP.format("map GET / to one"))
    assert status(server)["reload"]["error"] is None


@pytest.mark.parametrize("text, word", [
    ("set workers 7\n", "workers"), ("set heirs 1\n", "heirs")])
def test_what_needs_a_restart_is_refused(cardea, text, word):
    first = ONE + HTTP.format("map GET / to one")
    server = cardea(first)
    leader = pid_of(server)
    write(server, text + first)
    done = ask(server, "reload")
    assert done.returncode == 78
    assert f"'set {word}' can only change by a restart" in done.stderr
    assert pid_of(server) == leader


def test_an_address_in_use_is_refused(cardea):
    first = ONE + HTTP.format("map GET / to one")
    server = cardea(first)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write(server, first + f"forward http 127.0.0.1:{free_port()} to one\n"
              f"forward http 127.0.0.1:{port} to one\n")
        done = ask(server, "reload")
        assert done.returncode == 78
        assert f"cardea.conf:4:14: cannot listen on 127.0.0.1:{port}" \
            in done.stderr
    assert pid_of(server) and len(status(server)["listeners"]) == 1
    assert ask(server, "reload").returncode == 0
    assert len(status(server)["listeners"]) == 3


# With deaths


def test_an_heir_has_the_configuration_that_holds(cardea):
    server = cardea("set workers 1\n" + ONE + HTTP.format("map GET / to one"))
    kept = Wire(server.port)
    leader = int(kept.request("/").text)
    reload(server, "set workers 1\n" + ONE + TWO + HTTP.format(
        "map GET / to one; map GET /two to two"))
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_log("event=took-over")
    two = int(kept.request("/two").text)
    assert two == module(server, "two")["pid"] != leader
    assert int(kept.request("/").text) == leader
    reload(server, "set workers 1\n" + ONE + HTTP.format("map GET / to one"))
    assert int(kept.request("/two").text) == leader


def test_the_next_keeper_reads_it_again(cardea):
    server = cardea(ONE + HTTP.format("map GET / to one"))
    more = free_port()
    first, second = server.port, more
    reload(server, ONE + TWO + "forward http 127.0.0.1:$MORE to {"
           "map GET / to one; map GET /two to two }\n", MORE=more)
    with pytest.raises(ConnectionRefusedError):
        until(lambda: Wire(first).close(), 2, "a refusal")
    start = server.lines()
    os.kill(server.keeper(), signal.SIGKILL)
    server.wait_log("event=reload generation=2 started=1", 40, start=start)
    with Wire(second) as wire:
        assert int(wire.request("/two").text) == module(server, "two")["pid"]
    with pytest.raises(ConnectionRefusedError):
        until(lambda: Wire(first).close(), 2, "a refusal")


@pytest.mark.limit(150)
def test_reloads_while_workers_die(cardea):
    texts = [ONE + HTTP.format("map GET / to one"),
             ONE + TWO + HTTP.format("map GET / to one; map GET /two to two")]
    server = cardea(texts[0])
    load = Load(server.port)
    for n in range(12):
        start = server.lines()
        write(server, texts[(n + 1) % 2])
        os.kill(server.pid, signal.SIGHUP)
        os.kill(server.workers()[n % len(server.workers())], signal.SIGKILL)
        server.wait_log(f"event=reload generation={n + 2} ", start=start)
        server.wait_log("event=took-over", start=start)
    load.end()


# A thousand of them


@pytest.mark.limit(600)
def test_many_leave_nothing(cardea):
    """50, or as many as RELOADS says (make soak: 1,000)."""
    n_reloads = int(os.environ.get("RELOADS", "50"))
    server = cardea(ONE + HTTP.format("map GET / to one"))
    kept = Wire(server.port)
    leader = int(kept.request("/").text)
    workers = server.workers()

    def several(n, begin):
        for i in range(begin, begin + n):
            more = "".join(
                f"module m{i % 7}{k} {{ run \"$PROGRAMS/life\"; idle 1s; "
                f"environment N={i} }}\n" for k in range(2))
            reload(server, ONE + more + HTTP.format(
                f"map GET / to one; map GET /r{i} to m{i % 7}0; "
                f"map GET /s to m{i % 7}1"))
            if i % 10 == 0:
                assert int(kept.request("/").text) == leader
                assert int(kept.request(f"/r{i}").text) != leader

    def rest():
        reload(server, ONE + HTTP.format("map GET / to one"))
        until(lambda: status(server)["reload"]["gone"] == 0,
              what="the end of all")
        held = settled(server)
        held.pop("life threads")  # as many as the load took
        return held, memory()

    def memory():
        return sum(rss(p) for p in [server.keeper(), *workers])

    several(14, 0)
    held, kilobytes = rest()
    load = Load(server.port)
    several(n_reloads, 14)
    load.end()
    after, then = rest()
    assert after == held
    # A sanitizer keeps what was freed.
    most = kilobytes * 1.1 + 2048 if not is_sanitized(server) else 256 << 10
    assert then < most, (kilobytes, then)
    assert server.workers() == workers
    assert int(kept.request("/").text) == leader == module(server, "one")["pid"]


def is_sanitized(server):
    with open(f"/proc/{server.keeper()}/maps", encoding="utf-8") as f:
        return "libasan" in f.read()


def rss(pid):
    """Private kilobytes of a process."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return sum(int(l.split()[1]) for l in f if l.startswith("Private_"))
