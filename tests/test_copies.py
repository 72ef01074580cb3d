"""Programs of cardea_serve(): each request in a forked copy (docs/copies.md)."""

import collections
import os
import random
import signal
import threading

import pytest

from lib.server import alive, stand_still, until


# PIDFD_SIGNAL_PROCESS_GROUP; before, a group is ended with its leader.
GROUP_SIGNALS = (tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 9)
                 and os.environ.get("CARDEA_KERNEL") is None)


# A ring that comes later makes older copies leave. With one worker there is one
# ring: then a copy stays while nothing happens to it.
ONE_RING = "set workers 1\n"


def route(options="", arguments=""):
    return (f'module app {{ run "$PROGRAMS/copies {arguments}"; {options} }}\n'
            "forward http 127.0.0.1:$PORT to { map GET / to app; "
            "map POST / to app }\n")


def answer(server, query=""):
    """(status, pid, number of the call in its copy, pid of who was warm)."""
    response = server.request("/" + query)
    if response.status != 200:
        return response.status, 0, 0, 0
    pid, calls, warm, _ = map(int, response.body.split())
    return 200, pid, calls, warm


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def settled(server):
    """The only copy, once those that do not know every ring have left, if all
    rings are there."""
    warm = answer(server)[3]
    until(lambda: len(children(warm)) == 1, what="one copy")
    return children(warm)[0]


def at_once(server, n, query):
    """N requests at the same time: their answers."""
    found = []
    threads = [threading.Thread(
        target=lambda: found.append(answer(server, query))) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_copy_answers_and_its_parent_does_not(cardea):
    server = cardea(route())
    found = [answer(server) for _ in range(30)]
    assert {a[0] for a in found} == {200}
    warm, = {a[3] for a in found}
    copies = {a[1] for a in found}
    assert warm not in copies
    # They serve on. How many depends on the machine: one that is still leaving
    # its last call is not waited for, and the first ones go when the last worker
    # opens its ring.
    assert len(copies) < 10
    assert max(a[2] for a in found) > 3
    for pid in copies:
        server.wait_log(f"copy {pid} of {warm} starts")
    assert server.request("/", method="POST", body=b"x" * 50000).body.split(
    )[3] == b"50000"


def test_as_many_copies_as_calls_and_one_when_it_is_quiet(cardea):
    server = cardea(route())
    warm = answer(server)[3]
    found = at_once(server, 12, "?ms=800")
    assert [a[0] for a in found] == [200] * 12
    assert len({a[1] for a in found}) == 12
    # Ten seconds later all but one have left, each by its hook.
    until(lambda: len(children(warm)) == 1, limit=40, what="the last copy")
    server.wait_log(r"copy \d+ ends")


def test_a_limit_holds_and_the_others_wait(cardea):
    server = cardea(ONE_RING + route("copies 2"))
    warm = answer(server)[3]
    found = at_once(server, 8, "?ms=50")
    assert [a[0] for a in found] == [200] * 8
    assert len({a[1] for a in found}) <= 2
    assert len(children(warm)) <= 2


def test_a_crash_is_one_answer_and_one_line(cardea):
    server = cardea(route())
    answer(server)
    for query, told in (("?signal=10", r"was ended by signal 10 \("),
                        ("?signal=9", r"was ended by signal 9 \("),
                        ("?exit=0", "exited with status 0"),
                        ("?exit=3", "exited with status 3")):
        start = server.lines()
        calm = [threading.Thread(target=at_once, args=(server, 1, "?ms=100"))]
        calm[0].start()
        # A POST is never tried again.
        response = server.request("/" + query, method="POST", body=b"x")
        assert response.status == 502
        calm[0].join()
        server.wait_log(r"cardea: copy \d+ " + told + ".*in request [0-9a-f]{16}",
                        start=start)
        assert answer(server)[0] == 200
    server.assert_sane()


def test_copies_are_killed_under_load(cardea):
    server = cardea(route())
    warm = answer(server)[3]
    seen = collections.Counter()
    over = threading.Event()

    def load():
        while not over.is_set():
            seen[server.request("/?ms=2", method="POST", body=b"x").status] += 1

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    kills = 0
    dice = random.Random(7)
    while kills < 40:
        there = children(warm)
        if there:
            os.kill(dice.choice(there), signal.SIGKILL)
            kills += 1
            before = sum(seen.values())
            until(lambda now=before: sum(seen.values()) > now + 5)
    over.set()
    for thread in threads:
        thread.join()
    assert set(seen) <= {200, 502}
    # Each kill costs at most the one call that was in the copy.
    assert seen[502] <= kills
    assert seen[200] > kills * 5


@pytest.mark.skipif(not GROUP_SIGNALS, reason="needs Linux 6.9")
def test_the_parent_is_killed_under_load(cardea):
    server = cardea(route())
    old = settled(server)
    seen = collections.Counter()
    over = threading.Event()

    def load():
        while not over.is_set():
            seen[server.request("/?ms=20", method="POST", body=b"x").status] += 1

    threads = [threading.Thread(target=load) for _ in range(5)]
    threads.append(threading.Thread(  # longer than workers are asked to drain
        target=lambda: seen.update([server.request("/?ms=1500").status])))
    for thread in threads:
        thread.start()
    until(lambda: sum(seen.values()) > 20)
    for _ in range(3):
        start = server.lines()
        # Copies of the one before may still answer.
        parent = until(lambda: [pid for pid in [answer(server)[3]]
                                if alive(pid)], what="the next parent")[0]
        os.kill(parent, signal.SIGKILL)
        server.wait_log("event=serves-on module=app", start=start)
        server.wait_log("event=ready module=app", start=start)
        before = sum(seen.values())
        until(lambda now=before: sum(seen.values()) > now + 20)
    over.set()
    for thread in threads:
        thread.join()
    # Not one request fails: their copies lived on until the next parent's did.
    assert set(seen) == {200}
    until(lambda: not alive(old), limit=30, what="the end of the first copies")


def test_a_stopped_copy_loses_its_place(cardea):
    server = cardea(ONE_RING + route())
    first = settled(server)
    stand_still(first)
    _, second, _, _ = answer(server)
    assert second not in (0, first)
    server.wait_log(rf"cardea: copy {first} is killed: it is stopped")
    until(lambda: not alive(first), what="the end of the stopped copy")


def test_a_call_past_its_time_ends_its_copy(cardea):
    server = cardea(route("timeout 300ms"))
    answer(server)
    late = server.request("/?ms=60000")
    assert late.status == 504
    server.wait_log(r"cardea: copy \d+ is killed: its call is past its time "
                    rf"request={late.get('X-Request-Id')}")
    assert answer(server)[0] == 200


def test_copies_are_recycled(cardea):
    server = cardea(route("recycle calls 10"))
    found = [answer(server) for _ in range(60)]
    assert {a[0] for a in found} == {200}
    assert len({a[1] for a in found}) >= 5
    assert max(a[2] for a in found) <= 11


def test_a_start_that_fails_is_told_and_tried_again(cardea, folder):
    mark = os.path.join(folder, "broken")
    server = cardea(ONE_RING + route(f'environment "COPIES_FAIL={mark}"'))
    first = settled(server)
    with open(mark, "w", encoding="ascii"):
        pass
    os.kill(first, signal.SIGKILL)
    server.wait_log(r"cardea: copy \d+ exited with status 1 before it was ready")
    os.unlink(mark)
    assert answer(server)[0] == 200


def test_a_program_with_threads_answers_one_request_at_a_time(cardea):
    server = cardea(route(arguments="threads"))
    server.wait_log("cardea: this program has several threads")
    found = at_once(server, 4, "?ms=20")
    assert [a[0] for a in found] == [200] * 4
    assert {a[1] for a in found} == {found[0][3]}
    assert sorted(a[2] for a in found) == [1, 2, 3, 4]


def test_a_worker_that_dies_leaves_copies_that_serve_the_next(cardea):
    server = cardea("set heirs 0\n" + route())
    answer(server)
    for _ in range(3):
        start = server.lines()
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait_log("event=(start .*worker|took-over)", start=start)
        until(lambda: answer(server)[0] == 200, what="an answer")
    server.assert_sane()


def test_nothing_is_left_when_cardea_ends(cardea):
    server = cardea(ONE_RING + route())
    at_once(server, 5, "?ms=100")
    warm = answer(server)[3]
    family = [warm] + children(warm)
    assert len(family) > 2
    server.stop()
    until(lambda: not any(alive(pid) for pid in family), what="the end of all")
