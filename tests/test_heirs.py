"""Workers and heirs die under load and no client notices: `make chaos` in small
(bench/README.md). Each test prints its denominators."""

import hashlib
import json
import os
import random
import re
import signal
import socket
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


# A request that was under way when a worker died with all its heirs may fail:
# then, and by the end of its connection. Seconds between the two lines.
NEAR = 0.25


def seconds_of(clock):
    """Of 12:34:56.789, in the day."""
    hours, minutes, rest = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def double_deaths(log):
    """When a worker and all its heirs were dead, by the server's own word. One
    that it had to kill, because no heir spoke, is none."""
    killed, found = set(), []
    for line in log:
        at = re.search(r"T([0-9:.]+)Z .*event=(kill|died) worker=(\d+) "
                       r"(?:pid=\d+ )?cause=no-heir", line)
        if at and at[2] == "kill":
            killed.add(at[3])
        elif at and at[3] in killed:
            killed.discard(at[3])
        elif at:
            found.append(seconds_of(at[1]))
    return found


def is_excused(line, deaths):
    at = re.search(r"clock=([0-9:.]+) .*kind=(reset|cut)\b", line)
    return at is not None and any(
        abs((seconds_of(at[1]) - d + 43200) % 86400 - 43200) <= NEAR
        for d in deaths)


@pytest.mark.parametrize("line, excused", [
    ("failed clock=10:00:00.100 at=1.0 kind=reset:ECONNRESET connection=kept",
     True),
    ("failed clock=10:00:00.300 at=1.0 kind=cut connection=kept", False),
    ("failed clock=09:59:59.990 at=1.0 kind=cut connection=kept", True),
    ("failed clock=10:00:00.000 at=1.0 kind=wrong connection=kept", False),
    ("failed clock=10:00:00.000 at=1.0 kind=timeout connection=kept", False),
])
def test_only_what_a_double_death_cut_is_excused(line, excused):
    log = ["2026-11-26T10:00:00.000Z level=error event=died worker=3 "
           "cause=no-heir count=1 wait_ms=20.000",
           "2026-11-26T10:00:00.150Z level=error event=kill worker=4 pid=7 "
           "cause=no-heir",
           "2026-11-26T10:00:00.200Z level=error event=died worker=4 "
           "cause=no-heir count=1 wait_ms=20.000",
           "2026-11-26T10:00:00.300Z level=error event=died worker=4 pid=9 "
           "cause=signal-KILL count=2 heir=yes"]
    assert double_deaths(log) == [36000]
    assert is_excused(line, double_deaths(log)) == excused


def judge(server, loads, blows):
    """The sums, and the failures that a double death excuses; there may be no
    others, and no call may have come twice."""
    outs = [lines_of(load) for load in loads]
    totals = [json.loads(lines[-1]) for lines in outs]
    failed = [line for lines in outs for line in lines[:-1]]
    requests = sum(t["requests"] for t in totals)
    big = sum(t["big"] for t in totals)
    with server.changed:
        deaths = double_deaths(server.log)
    inexcusable = [f for f in failed if not is_excused(f, deaths)]
    print(f"# {requests} requests, {big} of 1 MB, {blows} blows, "
          f"{len(deaths)} double deaths, {len(failed)} failed, "
          f"{len(inexcusable)} of them at no double death")
    assert not inexcusable, "\n".join(inexcusable[:20] + [server.dump()])
    counted = json.loads(until(lambda: server.request("/count")).text)
    assert counted["twice"] == 0
    assert requests > 0 and big > 0 and blows > 0
    return totals, failed


@pytest.mark.limit(120)
def test_ten_workers_and_all_heirs_abort_and_no_request_fails(cardea):
    server = cardea(CONF.format(workers=10))
    chaos = start_chaos(server, "worker,heir", 9, 0.3)
    loads = [start_load(server, 8, i, rate=300, big=0.02) for i in (0, 1)]
    totals, _ = judge(server, loads, end_chaos(chaos))
    assert all(t["fresh"] > 0 and t["post"] > 0 for t in totals)


@pytest.mark.limit(120)
def test_one_kept_connection_lives_through_takeovers(cardea):
    """1 MB up and down on it; beside it fresh connections, of which half send
    urgent bytes, half-close or reset."""
    server = cardea(CONF.format(workers=1))
    chaos = start_chaos(server, "worker", 9, 0.99, "kill")
    load = start_load(server, 8, 0, kept=1, kept_big=1, fresh=4, big=0.02,
                      odd=0.5, rate=200)
    (total,), failed = judge(server, [load], end_chaos(chaos))
    kept = total["requests"] - total["fresh"]
    print(f"# {kept} requests on the kept connection, {total['urgent']} with "
          f"urgent bytes, {total['half_closes']} half-closes, "
          f"{total['resets']} resets")
    assert total["urgent"] and total["half_closes"] and total["resets"]
    # Nobody connected a second time but the fresh ones, and who was cut.
    again = sum("connection=kept" in line for line in failed) + \
        total["idle_ends"]
    with server.changed:
        assert again == 0 or double_deaths(server.log)
    assert total["connections"] == \
        1 + again + total["fresh"] + total["resets"]


@pytest.mark.limit(60)
def test_a_download_goes_on_while_its_worker_is_killed_three_times(
        cardea, folder):
    """bench/recording.py shows the same with the tools of a shell."""
    data = random.Random(5).randbytes(24 << 20)
    os.mkdir(os.path.join(folder, "www"), 0o755)
    with open(os.path.join(folder, "www", "big.bin"), "wb") as file:
        file.write(data)
    server = cardea("set workers 1\n"
                    "forward http 127.0.0.1:$PORT to {\n"
                    "    map any / to files \"$DIR/www\"\n}\n")
    got, had, killed = hashlib.sha256(), 0, []
    with socket.socket() as client:
        # So the kernel's buffers hold less than what is left at a kill.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(20)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        stream = client.makefile("rb")
        head = b"".join(iter(stream.readline, b"\r\n"))
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Length: %d\r\n" % len(data) in head
        while had < len(data):
            if had >= len(data) * (len(killed) + 1) // 4 and len(killed) < 3:
                worker, = server.workers()
                with server.changed:
                    mark = len(server.log)
                os.kill(worker, signal.SIGKILL)
                server.wait_log(r"event=took-over worker=0", start=mark)
                killed.append(worker)
            piece = stream.read(min(65536, len(data) - had))
            assert piece
            got.update(piece)
            had += len(piece)
    assert len(set(killed)) == 3
    assert got.digest() == hashlib.sha256(data).digest()
