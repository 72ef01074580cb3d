"""The life of a module's process: starts that fail or take too long, processes
that are stopped or wedged (docs/life.md)."""

import json
import os
import signal
import subprocess
import time

from lib.pace import within
from lib.server import stand_still, until


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write(text)
    os.chmod(path + ".new", 0o755)
    os.rename(path + ".new", path)


def module(server, name):
    """What `cardea status --json` says of module NAME."""
    out = subprocess.run(
        [os.path.join(server.build, "cardea"), "status", "-f", server.conf,
         "--json"],
        env=server.environment, stdout=subprocess.PIPE, check=True).stdout
    return next(m for m in json.loads(out)["modules"] if m["name"] == name)


def leader_of(server, name):
    return module(server, name)["pid"]


def route(name, options="", program="life"):
    return (f'module {name} {{ run "$PROGRAMS/{program}"; {options} }}\n'
            f"forward http 127.0.0.1:$PORT to {{ map GET / to {name}; "
            f"map POST / to {name} }}\n")


# Starts


def test_a_start_that_takes_too_long_is_killed(cardea):
    server = cardea(route("late", "start-timeout 300ms; "
                          "environment LIFE_START_MS=60000"))
    server.wait_log(r"event=kill module=late pid=\d+ cause=late")
    server.wait_log(r"event=died module=late cause=late count=2")
    ran = server.wait_log(r"event=died module=late cause=late .*"
                          r"ran_ms=(\d+)").group(1)
    assert 300 <= int(ran) < 3000
    assert server.request().status == 503
    state = module(server, "late")
    assert state["causes"]["late"] >= 2
    assert state["starts"]["late"] >= 2
    assert state["starts"]["early_ends"] == 0


def test_a_start_within_its_time_is_ready_with_its_first_door(cardea):
    server = cardea(route("slow", "start-timeout 20s; "
                          "environment LIFE_START_MS=400"))
    took = server.wait_log(r"event=ready module=slow pid=\d+ took_ms=(\d+)")
    assert int(took.group(1)) >= 400
    assert server.request().status == 200
    assert module(server, "slow")["state"] == "running"
    assert module(server, "slow")["causes"] == {}


def test_an_end_before_it_is_ready_is_counted_and_backed_off(cardea, folder):
    write(folder, "app", "#!/bin/sh\nexit 7\n")
    server = cardea('module early { run "$DIR/app" }\n'
                    "forward http 127.0.0.1:$PORT to early\n")
    server.wait_log(r"event=died module=early cause=exit-7 .*wait_ms=1280")
    state = module(server, "early")
    assert state["causes"]["exit-7"] == state["starts"]["early_ends"] >= 7
    assert server.request().status == 503
    # Another version is another matter: tried at once, in a fresh series.
    start = server.lines()
    began = time.monotonic()
    write(folder, "app", "#!/bin/sh\nexit 8\n")
    server.wait_log(r"event=died module=early cause=exit-8 count=1 "
                    r"wait_ms=20\.", start=start)
    assert within(time.monotonic() - began, 1.2)
    hello = os.path.join(server.build, "tests", "programs", "hello")
    write(folder, "app", f'#!/bin/sh\nexec "{hello}"\n')
    until(lambda: server.request().status == 200, what="the mended program")
    server.wait_log(r"event=ready module=early")


# Processes that stand still


def test_one_that_is_stopped_loses_its_place(cardea):
    server = cardea(route("still", "timeout 10s"))
    pid = leader_of(server, "still")
    began = time.monotonic()
    stand_still(pid)
    server.wait_log(rf"event=kill module=still pid={pid} cause=frozen")
    took = time.monotonic() - began
    assert took > 4.5 and within(took, 9)
    server.wait_log(r"event=died module=still cause=frozen count=1")
    until(lambda: server.request().status == 200, what="the next one")
    assert leader_of(server, "still") != pid
    assert module(server, "still")["causes"] == {"frozen": 1}


def test_one_that_is_continued_keeps_its_place(cardea):
    server = cardea(route("still", "timeout 10s"))
    pid = leader_of(server, "still")
    stand_still(pid)
    wire = server.wire()
    wire.ask("/")
    os.kill(pid, signal.SIGCONT)
    assert wire.reply().text == f"{pid}\n"
    wire.close()
    time.sleep(6)  # longer than the patience with one that is stopped
    assert leader_of(server, "still") == pid


def hang(server, how):
    """Calls that all take their whole time; the last ones nobody takes."""
    for target, n in ((f"/?{how}=1", 1), ("/", 6), ("/", 2)):
        wires = [server.wire() for _ in range(n)]
        for wire in wires:
            wire.ask(target)
        for wire in wires:
            assert wire.reply().status == 504
            wire.close()


def test_one_that_takes_no_calls_is_replaced(cardea):
    server = cardea(route("wedge", "timeout 700ms"))
    pid = leader_of(server, "wedge")
    began = time.monotonic()
    hang(server, "hang")
    server.wait_log(rf"event=kill module=wedge pid={pid} cause=wedged")
    assert time.monotonic() - began < 10
    until(lambda: server.request().status == 200, what="the next one")
    assert module(server, "wedge")["causes"] == {"wedged": 1}
    assert module(server, "wedge")["ends"]["kills"] == 1


def test_one_that_computes_is_not_wedged(cardea):
    server = cardea(route("busy", "timeout 500ms"))
    pid = leader_of(server, "busy")
    hang(server, "spin")
    time.sleep(2)  # longer than the keeper's look at its CPU time
    assert leader_of(server, "busy") == pid
    assert module(server, "busy")["causes"] == {}


# Crashes and calls


def test_a_safe_call_that_crashes_a_process_is_made_once_more(cardea, folder):
    server = cardea(route("crash", f'environment LIFE_ONCE={folder}/once'))
    pid = leader_of(server, "crash")
    reply = server.request("/?once=1")
    assert reply.status == 200
    assert reply.text != f"{pid}\n"
    state = module(server, "crash")
    assert state["ends"]["crashes"] == 1
    assert state["errors"] == {}


def test_one_that_crashes_each_process_gets_502(cardea):
    server = cardea(route("crash"))
    assert server.request("/?crash=1").status == 502
    until(lambda: server.request().status == 200, what="the next process")
    assert module(server, "crash")["ends"]["crashes"] == 2
    # What is not safe is not tried again.
    assert server.request("/?crash=1", "POST", body=b"").status == 502
    until(lambda: server.request().status == 200, what="the next process")
    assert module(server, "crash")["ends"]["crashes"] == 3


def test_a_kill_under_load_fails_no_safe_request(cardea):
    """Calls that the process had, and those that it had not taken yet: all are
    answered by the next one, and each client gets its own answer."""
    server = cardea(route("load"))
    wires = [server.wire() for _ in range(16)]
    until(lambda: server.request().status == 200, what="it")
    seen = set()
    for kill in range(4):
        pid = leader_of(server, "load")
        for n, wire in enumerate(wires):
            wire.ask(f"/?ms={n % 4 * 30}&n={kill}-{n}")
        os.kill(pid, signal.SIGKILL)
        for n, wire in enumerate(wires):
            reply = wire.reply()
            assert reply.status == 200, reply
            words = reply.text.split()
            seen.add(words[0])
            assert words[1] == f"{kill}-{n}"
    assert len(seen) >= 4
    for wire in wires:
        wire.close()
    assert module(server, "load")["errors"] == {}


# Idle modules


def test_a_module_without_calls_is_parked_and_started_by_the_next(cardea):
    server = cardea(route("lazy", "idle 300ms"))
    assert module(server, "lazy")["state"] == "parked"
    assert leader_of(server, "lazy") is None
    pids = set()
    for _ in range(3):
        start = server.lines()
        reply = server.request()
        assert reply.status == 200
        pids.add(reply.text)
        server.wait_log(r"event=parked module=lazy cause=unused", start=start)
        assert module(server, "lazy")["state"] == "parked"
    assert len(pids) == 3
    state = module(server, "lazy")
    assert state["ends"]["unused"] == state["starts"]["done"] == 3
    assert state["errors"] == {}


def test_calls_wait_for_a_start_and_keep_it_busy(cardea):
    server = cardea(route("lazy", "idle 0s; environment LIFE_START_MS=300"))
    wires = [server.wire() for _ in range(20)]
    for wire in wires:
        wire.ask("/?ms=700")
    replies = {wire.reply().text for wire in wires}
    assert len(replies) == 1  # of one process, and it was not ended before
    for wire in wires:
        wire.close()
    server.wait_log(r"event=parked module=lazy")
    assert module(server, "lazy")["starts"]["done"] == 1


def test_calls_and_parking_do_not_hurt_one_another(cardea):
    """Ended and started as fast as it goes, under calls all the time."""
    server = cardea(route("lazy", "idle 0s"))
    end = time.monotonic() + 6
    n = 0
    while time.monotonic() < end:
        method = "POST" if n % 2 else "GET"
        reply = server.request("/", method, body=b"" if n % 2 else None)
        assert reply.status == 200, reply
        n += 1
        time.sleep(n % 7 * 0.05)  # now before its end, now after it
    state = module(server, "lazy")
    assert state["starts"]["done"] > 3
    assert state["errors"] == {}
    assert set(state["causes"]) <= {"unused"}


def test_a_start_on_demand_that_fails_is_answered(cardea, folder):
    write(folder, "app", "#!/bin/sh\nexit 7\n")
    server = cardea('module bad { run "$DIR/app"; idle 1s; timeout 20s }\n'
                    "forward http 127.0.0.1:$PORT to bad\n")
    began = time.monotonic()
    assert server.request().status == 503
    assert time.monotonic() - began < 5
    assert module(server, "bad")["causes"]["exit-7"] >= 3


def test_a_call_waits_no_longer_than_its_time(cardea):
    server = cardea(route("slow", "idle 1s; timeout 500ms; "
                          "environment LIFE_START_MS=60000"))
    began = time.monotonic()
    assert server.request().status == 503
    took = time.monotonic() - began
    assert took > 0.45 and within(took, 3)


def test_many_parked_modules_have_no_process(cardea):
    names = [f"m{i}" for i in range(500)]
    server = cardea("".join(
        f'module {n} {{ run "$PROGRAMS/life"; idle 1h }}\n' for n in names)
        + "forward http 127.0.0.1:$PORT to {\n"
        + "".join(f"map GET /{n} to {n}\n" for n in names) + "}\n")
    assert server.modules("life") == []
    assert server.request("/m77").status == 200
    assert server.request("/m499").status == 200
    assert len(server.modules("life")) == 2


# Recycling


def load(server, end):
    """Calls from 8 clients until END() holds, and some after that; all must be
    answered. What answered."""
    wires = [server.wire() for _ in range(8)]
    seen = set()
    limit = time.monotonic() + 60
    ended = False
    while not ended:
        assert time.monotonic() < limit
        # The process that ends has ended: another one answers the next calls.
        ended = end()
        for _ in range(50):
            for n, wire in enumerate(wires):
                method = "POST" if n % 2 else "GET"
                wire.ask("/", method, body=b"x" * n if n % 2 else None)
            for wire in wires:
                reply = wire.reply()
                assert reply.status == 200, reply
                seen.add(reply.text)
    for wire in wires:
        wire.close()
    return seen


def test_recycling_by_calls_loses_no_call(cardea):
    server = cardea(route("calls", "recycle calls 300"))
    seen = load(server, lambda: module(
        server, "calls")["ends"]["recycled"] >= 3)
    state = module(server, "calls")
    assert len(seen) >= 4
    assert state["errors"] == {}
    assert set(state["causes"]) == {"recycled-calls"}


def test_recycling_by_age(cardea):
    server = cardea(route("age", "recycle age 2s"))
    seen = load(server, lambda: module(
        server, "age")["ends"]["recycled"] >= 1)
    ran = server.wait_log(r"event=recycled module=age cause=recycled-age .*"
                          r"ran_ms=(\d+)").group(1)
    assert int(ran) >= 2000
    assert len(seen) >= 2
    assert module(server, "age")["errors"] == {}


def test_recycling_by_memory(cardea):
    server = cardea(route("fat", "recycle memory 400M"))
    pid = leader_of(server, "fat")
    assert server.request("/?fill=600").text == f"{pid}\n"
    server.wait_log(rf"event=recycle module=fat pid={pid} "
                    "cause=recycled-memory")
    assert server.request().text != f"{pid}\n"
    assert module(server, "fat")["errors"] == {}


def test_a_slow_call_is_not_cut_by_recycling(cardea):
    """It lasts longer than others wait: the process stays until it has
    ended."""
    server = cardea(route("slow", "recycle age 1s"))
    pid = leader_of(server, "slow")
    wire = server.wire()
    wire.ask("/?ms=4000")
    end = time.monotonic() + 4
    load(server, lambda: time.monotonic() > end)
    assert wire.reply().text == f"{pid}\n"
    wire.close()
    server.wait_log(rf"event=recycle module=slow pid={pid}")
    assert module(server, "slow")["errors"] == {}
