"""`set core-files on`: a worker or a keeper that faults leaves a core file, and
without it none."""

import os
import re
import signal

import pytest

from lib.server import until

CONF = """
set workers 1
set core-files {what}
module hello {{ run "$PROGRAMS/hello" }}
forward http 127.0.0.1:$PORT to hello
"""


def pattern():
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as f:
        return f.read().strip()


def start(cardea, folder, what):
    os.chmod(folder, 0o777)  # for the workers' user
    server = cardea(CONF.format(what=what),
                    prefix=["/bin/sh", "-c", "ulimit -Hc >&2; exec \"$@\"",
                            "sh"])
    if any(line.strip() == "0" for line in server.log[:3]):
        pytest.skip("the hard limit allows no core files")
    return server


def cores(folder):
    return [name for name in os.listdir(folder) if name.startswith("core")]


@pytest.mark.parametrize("what", ["on", "off"])
def test_a_worker_that_faults(cardea, plain_build, folder, what):
    server = start(cardea, folder, what)
    if server.build != plain_build:
        pytest.skip("a sanitizer ends a fault by itself")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSEGV)
    line = server.wait_log(r"event=died worker=0 .*cause=signal-SEGV.*").group()
    assert ("core=yes" in line) == (what == "on"), line
    server.wait_log(r"event=took-over worker=0")
    assert server.request("/").status == 200
    if re.fullmatch(r"core(\.%p)?", pattern()):
        assert bool(cores(folder)) == (what == "on")
    server.stop()


@pytest.mark.parametrize("what", ["on", "off"])
def test_a_keeper_that_faults(cardea, plain_build, folder, what):
    server = start(cardea, folder, what)
    if server.build != plain_build:
        pytest.skip("a sanitizer ends a fault by itself")
    os.kill(server.keeper(), signal.SIGABRT)
    line = server.wait_log(r"event=keeper-died .*cause=signal-ABRT.*").group()
    assert ("core=yes" in line) == (what == "on"), line
    if re.fullmatch(r"core(\.%p)?", pattern()):
        assert bool(cores(folder)) == (what == "on")
        for name in cores(folder):
            assert os.stat(os.path.join(folder, name)).st_size > 4096
    until(lambda: server.request("/").status == 200)
    server.stop()
