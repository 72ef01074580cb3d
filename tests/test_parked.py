"""Apps that are configured and not called: they have no process, next to no
memory, and wake nobody (docs/growth.md)."""

import os
import re
import select
import signal
import time

import pytest

from lib import control
from lib.server import until
from test_reload import module, reload

N = 500
FEW = 5
PARKED = "module {0} {{ run \"$PROGRAMS/life\"; idle 1h }}\n"


@pytest.fixture
def build(plain_build):
    """Without sanitizers, whose memory is not that of users."""
    return plain_build


def apps(n):
    names = [f"m{i}" for i in range(n)]
    return "".join(PARKED.format(name) for name in names) + \
        "forward http 127.0.0.1:$PORT to {\n" + \
        "".join(f"map GET /{name} to {name}\n" for name in names) + "}\n"


def cohort(server):
    """The server's own processes, once the heirs are there."""
    def whole():
        workers = control.status(control.path_of(server))["workers"]
        return all(worker["heirs"] == 2 for worker in workers)

    until(whole, what="the heirs")
    own = os.path.realpath(os.path.join(server.build, "cardea"))
    return [pid for pid, _ in server.family()
            if os.path.realpath(f"/proc/{pid}/exe") == own]


def read(pid, name):
    with open(f"/proc/{pid}/{name}", encoding="ascii") as f:
        return f.read()


def memory(server):
    """Bytes that its own processes hold beside pages of files, by their
    proportional share, once that is the same twice."""
    last = []

    def same():
        found = sum(int(part) for pid in cohort(server) for part in re.findall(
            r"^Pss_(?:Anon|Shmem): *(\d+) kB", read(pid, "smaps_rollup"),
            re.M))
        last.append(found)
        return last[-2:] == [found, found]

    until(same, what="settled memory")
    return 1024 * last[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="reads memory maps as root")
def test_a_parked_module_costs_records_only(cardea):
    few = cardea(apps(FEW))
    for i in range(FEW):
        assert few.request(f"/m{i}").status == 200
    least = memory(few)
    few.stop()
    many = cardea(apps(N))
    for i in range(FEW):
        assert many.request(f"/m{i}").status == 200
    assert (memory(many) - least) / (N - FEW) < 1024
    # To look at them gives them no memory either.
    before = memory(many)
    for _ in range(3):
        modules = control.status(control.path_of(many))["modules"]
        assert len(modules) == N
    assert [m["state"] for m in modules].count("parked") == N - FEW
    assert memory(many) - before < N * 128


def switches(pids):
    """How often they went to sleep."""
    return [int(re.search(r"^voluntary_ctxt_switches:\t(\d+)",
                          read(pid, "status"), re.M).group(1)) for pid in pids]


def test_parked_modules_wake_nobody(cardea):
    server = cardea(apps(N))
    pids = cohort(server)
    since = [time.monotonic(), switches(pids)]

    def quiet():
        now = switches(pids)
        if now != since[1]:
            since[:] = [time.monotonic(), now]
        return time.monotonic() - since[0] > 3

    assert len(pids) >= 5
    until(quiet, 30, "three seconds in which no process of the server woke")
    assert server.modules("life") == []


def test_a_parked_module_that_is_not_to_park_any_more_is_started(cardea):
    server = cardea(apps(2))
    assert server.modules("life") == []
    reload(server, apps(2).replace("; idle 1h", "", 1))
    until(lambda: module(server, "m0")["state"] == "running", what="its start")
    assert module(server, "m1")["state"] == "parked"
    assert len(server.modules("life")) == 1
    assert server.request("/m0").status == 200
    assert server.request("/m1").status == 200


def test_a_parked_module_goes_and_comes_with_the_configuration(cardea):
    server = cardea(apps(3))
    reload(server, apps(2))
    until(lambda: module(server, "m2") is None, what="the end of m2")
    assert server.request("/m2").status == 404
    assert server.request("/m1").status == 200
    reload(server, apps(4))
    assert module(server, "m3")["state"] == "parked"
    assert server.request("/m2").status == 200
    assert server.request("/m3").status == 200
    assert len(server.modules("life")) == 3


def test_parked_modules_outlive_a_worker(cardea):
    """Its heir knows of no ring of theirs, and starts them all the same."""
    server = cardea("set workers 1\n" + apps(3))
    cohort(server)
    assert server.request("/m0").status == 200
    worker, = server.workers()
    os.kill(worker, 9)
    server.wait_log(r"event=took-over worker=0")
    for i in range(3):
        assert server.request(f"/m{i}").status == 200
    state = control.status(control.path_of(server))
    assert control.requests(state) == 4


def all_parked(server):
    modules = control.status(control.path_of(server))["modules"]
    return all(m["state"] == "parked" for m in modules)


@pytest.mark.skipif(os.geteuid() != 0, reason="reads memory maps as root")
def test_a_module_that_is_parked_again_gives_its_memory_back(cardea):
    n = 100
    server = cardea(apps(n).replace("idle 1h", "idle 1s"))
    for i in range(FEW):
        assert server.request(f"/m{i}").status == 200
    until(lambda: all_parked(server), what="all to be parked")
    before = memory(server)
    for i in range(n):
        assert server.request(f"/m{i}").status == 200
    until(lambda: all_parked(server), 60, what="all to be parked again")

    def settled():
        # Of these 4 kB are not the modules': the log of what happened to them,
        # and the lines of one pass, which both have a bound. It was 14 kB.
        return (memory(server) - before) / n < 6144

    until(settled, 60, what="6 kB a module")


def test_what_became_of_a_module_that_is_parked_is_remembered(cardea):
    server = cardea("""
        module app { run "$PROGRAMS/copies"; idle 1s }
        forward http 127.0.0.1:$PORT to { map POST / to app; map GET / to app }
    """)
    assert server.request("/?signal=10", "POST", body=b"x").status == 502
    for n in (1, 2, 3):
        assert server.request("/").status == 200
        until(lambda: all_parked(server), what="its rest")
        app = module(server, "app")
        assert app["copy_ends"]["signal"] == 1
        assert (app["causes"], app["starts"]["done"]) == ({"unused": n}, n)
        assert app["last_cause"] == "unused"
    # Also of one that ended otherwise, too.
    assert server.request("/").status == 200
    os.kill(module(server, "app")["pid"], signal.SIGKILL)
    server.wait_log("event=died module=app .*cause=signal-KILL")
    until(lambda: all_parked(server), what="its rest")
    assert module(server, "app")["causes"] == {"unused": 4, "signal-KILL": 1}


def test_a_call_that_meets_the_end_of_a_module_is_answered(cardea):
    """Calls that come as it is parked, and as its record goes."""
    server = cardea(apps(8).replace("idle 1h", "idle 1s"))
    wires = [server.wire() for _ in range(8)]
    for n in range(8):
        for i, wire in enumerate(wires):
            assert wire.request(f"/m{i}").status == 200
            # Each comes a little later behind its own last one.
            select.select([], [], [], 0.12 + 0.01 * n)
    modules = control.status(control.path_of(server))["modules"]
    assert sum(m["calls"] for m in modules) == 64
    assert any(m["causes"].get("unused", 0) > 0 for m in modules)
    assert {cause for m in modules for cause in m["causes"]} == {"unused"}
