"""How many copies and threads there are, and that nothing had to be set for it
(docs/growth.md). Whether it is quick is for `make bench`, rows of bench/growth.py."""

import os
import pathlib
import threading
import time

import pytest

from lib.pace import within
from lib.server import until

CPUS = len(os.sched_getaffinity(0))
# With one worker there is one ring, so no copy leaves for knowing too few.
ONE_RING = "set workers 1\n"


def copies(options=""):
    return (f'{ONE_RING}module app {{ run "$PROGRAMS/copies"; {options} }}\n'
            "forward http 127.0.0.1:$PORT to app\n")


def threads(options=""):
    return (f'{ONE_RING}module app {{ run "$PROGRAMS/sleep"; {options} }}\n'
            "forward http 127.0.0.1:$PORT to app\n")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def at_once(server, n, target, times=1):
    """The answers of N clients that ask TIMES times, one after the other."""
    found = []

    def client():
        for _ in range(times):
            found.append(server.request(target, timeout=60))
    clients = [threading.Thread(target=client) for _ in range(n)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert {answer.status for answer in found} == {200}
    return [answer.body.decode() for answer in found]


def watched(ask, count):
    """The most that COUNT said while ASK ran."""
    worker = threading.Thread(target=ask)
    most = 0
    worker.start()
    while worker.is_alive():
        most = max(most, count())
        worker.join(0.01)
    return most


def test_waiting_calls_get_copies(cardea):
    server = cardea(copies())
    begun = time.monotonic()
    pids = {body.split()[0] for body in at_once(server, 20, "/?ms=1000")}
    # One after the other they would take 20 s; how many copies there are at the
    # most depends on how soon the last request comes.
    assert len(pids) >= 10
    assert time.monotonic() - begun < 10


def test_waiting_calls_get_threads(cardea):
    server = cardea(threads())
    app, = server.modules("sleep")
    most = watched(lambda: at_once(server, 20, "/?ms=1000"),
                   lambda: server.threads(app))
    assert 10 <= most <= 22  # one listens


@pytest.mark.parametrize("kind", ["copies", "threads"])
def test_computing_calls_get_as_many_as_there_are_cpus(cardea, kind):
    server = cardea(copies() if kind == "copies" else threads())
    app = int(server.request("/").body.split()[2]) if kind == "copies" else \
        server.modules("sleep")[0]
    most = watched(
        lambda: at_once(server, 12, "/?us=20000", times=4),
        lambda: len(children(app)) if kind == "copies"
        else server.threads(app) - 1)
    # One more is for what was seen asleep by chance: the machine that runs this
    # has other work, and a page that must be read is sleep.
    assert most <= CPUS + 2


def test_a_short_call_passes_long_ones(cardea):
    """More calls compute than there are CPUs, each for far longer than calls to
    this app do as a rule: a call that comes then does not wait for their
    ends."""
    server = cardea(threads())
    for _ in range(30):
        server.request("/?us=10")
    ended = []
    clients = [threading.Thread(target=lambda: ended.append(
        server.request("/?us=1000000", timeout=60))) for _ in range(3 * CPUS)]
    for one in clients:
        one.start()
    app, = server.modules("sleep")
    until(lambda: server.threads(app) > CPUS, what="a thread for each CPU")
    server.request("/?us=10")
    assert not ended
    for one in clients:
        one.join()


def test_a_ceiling_holds_and_nobody_is_refused(cardea):
    server = cardea(copies("ceiling 3"))
    assert len({body.split()[0]
                for body in at_once(server, 12, "/?ms=50")}) <= 3
    assert not server.stop()


def test_calls_per_copy_bound_the_threads(cardea):
    server = cardea(threads("calls per copy 2; ceiling 5"))
    app, = server.modules("sleep")
    begun = time.monotonic()
    most = watched(lambda: at_once(server, 6, "/?ms=200"),
                   lambda: server.threads(app))
    assert most <= 3 and time.monotonic() - begun >= 0.6


def test_a_floor_is_there_before_the_first_call(cardea):
    server = cardea(copies("floor 4"))
    until(lambda: len(server.modules("copies")) == 5, what="4 copies")
    server.stop()
    server = cardea(threads("floor 6").replace("sleep", "hello"))
    app, = server.modules("hello")
    until(lambda: server.threads(app) == 7, what="6 threads, and who listens")


def test_down_to_one_thread_with_several_workers(cardea):
    """Each worker has a ring, which one thread attends; not for ever."""
    server = cardea(threads().replace(ONE_RING, "set workers 3\n"))
    app, = server.modules("sleep")
    at_once(server, 12, "/?ms=200")
    assert server.threads(app) > 3
    until(lambda: server.threads(app) == 2, limit=60,  # one listens
          what="one thread alone")
    begun = time.monotonic()
    at_once(server, 12, "/?ms=10")
    assert within(time.monotonic() - begun, 5)


def test_down_to_no_copy_and_one_comes_for_a_call(cardea):
    """The warm parent stays; a call waits for a fork alone."""
    server = cardea(copies("floor 0; idle 1h"))
    warm = int(server.request("/").body.split()[2])
    at_once(server, 5, "/?ms=100")
    until(lambda: not children(warm), limit=40, what="no copy")
    begun = time.monotonic()
    assert int(server.request("/").body.split()[2]) == warm
    assert within(time.monotonic() - begun, 2)  # 50 ms: make bench


def test_a_trickle_does_not_keep_the_copies_of_a_burst(cardea):
    """Each of them gets a call now and then, so none is idle for long; but one
    at a time is all that there is to do."""
    server = cardea(copies())
    app = int(server.request("/").body.split()[2])
    assert len({body.split()[0] for body in
                at_once(server, 10, "/?ms=1000")}) >= 5

    def alone():
        assert server.request("/").status == 200
        return len(children(app)) == 1
    until(alone, limit=60, what="one copy alone")


def test_a_floor_of_none_has_no_process(cardea):
    server = cardea(threads("floor 0; idle 1s").replace("sleep", "hello"))
    assert not server.modules("hello")
    assert server.request("/").status == 200
    server.wait_log(r"event=parked module=app cause=unused")
    until(lambda: not server.modules("hello"), what="no process")
    assert server.request("/").status == 200


@pytest.mark.parametrize("options, reason", [
    ("floor 3; ceiling 2", "'floor' is above 'ceiling'"),
    ("floor x", "'x' is not a whole number"),
    ("ceiling 0", "out of range: ceiling takes 1 to 10000"),
    ("calls 4", "write calls per copy NUMBER"),
    ("calls per copy 0", "out of range: calls takes 1 to 10000"),
])
def test_mistakes(cli, folder, options, reason):
    conf = pathlib.Path(folder) / "cardea.conf"
    conf.write_text(f'module a {{ run "/bin/true"; {options} }}\n')
    done = cli("check", "-f", str(conf))
    assert done.returncode == 78 and reason in done.stderr
    conf.write_text('module a { exec "/bin/true"; floor 2 }\n')
    assert "'floor' is 0 or 1" in cli("check", "-f", str(conf)).stderr
