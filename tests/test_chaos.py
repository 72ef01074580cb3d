"""`cardea chaos`: it harms what it was asked to harm, and nothing else."""

import json
import os
import re
import subprocess

from lib.control import path_of, status
from lib.server import stat_of, until

CONF = """
set workers 2
module hello { run "$PROGRAMS/hello" }
module spare { run "$PROGRAMS/hello" }
forward http 127.0.0.1:$PORT to { map GET / to hello; map GET /s to spare }
"""
BLOW = re.compile(r"^ *[0-9.]+ s  (\w+) +(\w+) (\S+)  \(pid (\d+)\)$", re.M)


def chaos(server, *words, status=0):
    done = subprocess.run(
        [os.path.join(server.build, "cardea"), "chaos", *words, "-f",
         server.conf], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
        env=server.environment, check=False)
    assert done.returncode == status, done
    return done


def recovered(server, said):
    """All that died is seen to be dead, and its place is taken: a worker that
    is stopped while it has neither a process nor an heir did not end well."""
    pids = {int(b[3]) for b in BLOW.findall(said)}
    until(lambda: not any(stat_of(pid) for pid in pids), what="their end")
    until(lambda: all(w["ready"] and w["heirs"] > 0 and stat_of(w["pid"])
                      for w in status(path_of(server))["workers"]),
          what="ready workers")


def test_workers_are_killed_and_nothing_else(cardea):
    server = cardea(CONF)
    modules = server.modules("hello")
    said = chaos(server, "worker", "--signal", "kill", "--probability", "1",
                 "--time", "1s", "--seed", "5").stdout
    assert said.startswith(f"harming the server of {server.conf} (pid "
                           f"{server.pid}) for 1000 ms, seed 5\n")
    blows = BLOW.findall(said)
    assert {b[:2] for b in blows} == {("kill", "worker")}
    assert {b[2] for b in blows} == {"0", "1"}
    assert re.search(rf"^together +{len(blows)}$", said, re.M)
    for pid in {b[3] for b in blows}:
        server.wait_log(rf"event=(start|took-over|died|heir-died) "
                        rf"worker=[01] pid={pid}\b")
    assert server.modules("hello") == modules
    until(lambda: server.request("/").status == 200)


def test_modules_are_aborted_and_json_counts_them(cardea):
    server = cardea(CONF)
    workers = server.workers()
    lines = [json.loads(line) for line in chaos(
        server, "module", "--probability", "1", "--time", "500ms",
        "--json").stdout.splitlines()]
    blows, counts = lines[:-1], lines[-1]
    assert {b["which"] for b in blows} == {"hello", "spare"}
    assert counts["counts"] == [
        {"role": "module", "signal": "abort", "count": len(blows)}]
    assert counts["refused"] == 0
    server.wait_log("event=died module=hello cause=signal-ABRT")
    assert server.workers() == workers


def test_what_was_stopped_goes_on(cardea):
    server = cardea(CONF)
    modules = server.modules("hello")
    chaos(server, "module", "--signal", "stop", "--probability", "1",
          "--time", "300ms")
    assert until(lambda: server.modules("hello") == modules)
    assert {stat_of(pid)[1] for pid in modules} <= {"S", "R"}
    until(lambda: server.request("/").status == 200)


def test_a_stranger_in_no_group_of_the_server_is_left_alone(cardea):
    server = cardea(CONF)
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        said = chaos(server, "worker,heir,module,copy", "--probability", "1",
                     "--signal", "kill", "--time", "300ms").stdout
        recovered(server, said)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_keeper_dies_only_where_it_is_named(cardea):
    server = cardea(CONF)
    chaos(server, "worker,heir,module,copy", "--probability", "1", "--time",
          "300ms")
    assert server.child.poll() is None
    before = server.keeper()
    said = chaos(server, "keeper", "--probability", "1", "--signal", "kill",
                 "--time", "1s")
    blows = [b[:3] for b in BLOW.findall(said.stdout)]
    assert blows and set(blows) == {("kill", "keeper", "-")}
    server.wait_log(r"event=keeper-died .*cause=signal-KILL")
    until(lambda: server.keeper() not in (None, before))
    assert server.request("/").status == 200


def test_words_that_mean_nothing_harm_nothing(cardea):
    server = cardea(CONF)
    for words, sentence in (
            (["wroker"], "no list of worker, heir, module, copy and keeper"),
            (["worker,"], "no list of worker"),
            (["worker", "--signal", "hup"], "no list of kill, abort and stop"),
            (["worker", "--probability", "0"], "no probability above 0"),
            (["worker", "--probability", "nan"], "no probability above 0"),
            (["worker", "--probability", "1.1"], "no probability above 0"),
            (["worker", "--seed", "-1"], "no number: -1")):
        done = chaos(server, *words, status=64)
        assert sentence in done.stderr and done.stdout == ""
    done = chaos(server, status=64)
    assert "missing: ROLE" in done.stderr
