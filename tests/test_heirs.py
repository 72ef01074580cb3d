"""Workers and heirs die under load and no client notices: `make chaos` in small
(bench/README.md). Each test prints its denominators."""

import json
import os
import subprocess
import tempfile

import pytest

from lib.server import until

CONF = """
set access-log off
set workers {workers}
module app {{ run "$BUILD/bench/chaos-app" }}
forward http 127.0.0.1:$PORT to {{ map any / to app }}
"""


@pytest.fixture
def build(plain_build):
    """Without sanitizers, as users run it."""
    return plain_build


def start(server, words):
    """Its lines go to a file: a pipe that is not read would hold it up."""
    out = tempfile.TemporaryFile("w+", encoding="utf-8")
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out,
                            env=server.environment), out


def lines_of(running, limit=90):
    process, out = running
    try:
        process.wait(limit)
    finally:
        process.kill()
        process.wait()
    out.seek(0)
    lines = out.read().splitlines()
    out.close()
    assert process.returncode in (0, 1) and lines
    return lines


def start_load(server, seconds, instance, **more):
    words = [os.path.join(server.build, "bench", "chaos-load"), "--port",
             str(server.port), "--seconds", str(seconds), "--limit", "20",
             "--instance", str(instance), "--seed", str(17 + instance)]
    for name, value in more.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return start(server, words)


def start_chaos(server, roles, seconds, probability, signals="abort"):
    return start(server, [
        os.path.join(server.build, "cardea"), "chaos", roles, "--json",
        "--signal", signals, "--probability", str(probability), "--time",
        f"{seconds}s", "--seed", "3", "-f", server.conf])


def end_chaos(process):
    """How many blows there were."""
    return sum(c["count"] for c in json.loads(lines_of(process)[-1])["counts"])


def judge(server, loads, blows):
    """The sums, if no request failed and none was called twice; None, if what
    failed had a worker of which all heirs had died as well, which the log
    says: that is no promise, and tried again."""
    outs = [lines_of(load) for load in loads]
    totals = [json.loads(lines[-1]) for lines in outs]
    failed = [line for lines in outs for line in lines[:-1]]
    requests = sum(t["requests"] for t in totals)
    big = sum(t["big"] for t in totals)
    with server.changed:
        empty = sum("cause=no-heir" in line for line in server.log)
    print(f"# {requests} requests, {big} of 1 MB, {blows} blows, {empty} "
          f"times no heir was left, {len(failed)} failed")
    if failed and empty:
        return None
    assert not failed, "\n".join(failed[:20] + [server.dump()])
    counted = json.loads(until(lambda: server.request("/count")).text)
    assert counted["twice"] == 0
    assert requests > 0 and big > 0 and blows > 0
    return totals


def until_heirs_were_left(attempt):
    """Machines that are busy clone heirs slowly."""
    for _ in range(4):
        totals = attempt()
        if totals is not None:
            return totals
    raise AssertionError("four times no heir was left")


@pytest.mark.limit(300)
def test_ten_workers_and_all_heirs_abort_and_no_request_fails(cardea):
    def attempt():
        server = cardea(CONF.format(workers=10))
        chaos = start_chaos(server, "worker,heir", 9, 0.3)
        loads = [start_load(server, 8, i, rate=300, big=0.02) for i in (0, 1)]
        totals = judge(server, loads, end_chaos(chaos))
        server.stop()
        return totals

    totals = until_heirs_were_left(attempt)
    assert all(t["fresh"] > 0 and t["post"] > 0 for t in totals)


@pytest.mark.limit(300)
def test_one_kept_connection_lives_through_takeovers(cardea):
    """1 MB up and down on it; beside it fresh connections, of which half send
    urgent bytes, half-close or reset."""
    def attempt():
        server = cardea(CONF.format(workers=1))
        chaos = start_chaos(server, "worker", 9, 0.99, "kill")
        load = start_load(server, 8, 0, kept=1, kept_big=1, fresh=4, big=0.02,
                          odd=0.5, rate=200)
        totals = judge(server, [load], end_chaos(chaos))
        server.stop()
        return totals

    total, = until_heirs_were_left(attempt)
    kept = total["requests"] - total["fresh"]
    print(f"# {kept} requests on the kept connection, {total['urgent']} with "
          f"urgent bytes, {total['half_closes']} half-closes, "
          f"{total['resets']} resets")
    assert total["urgent"] and total["half_closes"] and total["resets"]
    # Nobody connected a second time but the fresh ones.
    assert total["connections"] == 1 + total["fresh"] + total["resets"]
