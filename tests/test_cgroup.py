"""What bounds a module as a whole: its control group, where it can be had.

Needs the controllers memory and pids in version 2, which a machine that has
them in version 1 lacks: `make vm` runs all of it on Linux 6.1, as root and as a
plain user."""

import json
import os
import re
import subprocess

import pytest

from lib import cgroup
from lib.server import Server, alive, until

HELLO = """
module hello { run "$PROGRAMS/hello" }
forward http 127.0.0.1:$PORT to {
    map any /m to m
    map any / to hello
}
"""
MB = 1024 * 1024


def script(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)


@pytest.fixture(params=["as-we-are", "plain"])
def start(request, build, folder):
    """Starts a server alone in a control group that belongs to its user, with
    controllers; the same group each time."""
    if request.param == "plain" and not cgroup.ROOT:
        pytest.skip("as we are is plain already")
    group = cgroup.make("test-" + os.path.basename(folder), ["memory", "pids"])
    servers = []

    def begin(text, beside=None):
        server = Server(build, folder, text)
        servers.append(server)
        server.group = group
        server.prefix = cgroup.enter(group)
        if beside:
            cgroup.write(str(beside), group, "cgroup.procs")
        if request.param == "plain":
            server.prefix = server.prefix + [
                "setpriv", f"--reuid={cgroup.GUEST}",
                f"--regid={cgroup.GUEST}", "--clear-groups"]
            cgroup.delegate(group, cgroup.GUEST)
            for top, folders, names in os.walk(folder):
                for name in [top] + [os.path.join(top, n)
                                     for n in folders + names]:
                    os.chown(name, cgroup.GUEST, cgroup.GUEST)
        server.start()
        server.own = os.path.join(group, f"cardea.{server.pid}")
        return server

    yield begin
    for server in servers:
        server.destroy()
    cgroup.remove(group)


def pid_of(server, module):
    return int(server.wait_log(
        rf"event=start module={module} pid=(\d+)").group(1))


def test_a_module_has_its_bounds_as_a_whole(start, folder):
    script(folder, "m.sh", "printf 'Content-Type: a/b\\n\\n'\n"
                           "ulimit -v; ulimit -u; cat /proc/self/cgroup\n")
    server = start("""
        module m { exec "$DIR/m.sh"; limit memory 64M; limit processes 20 }
        """ + HELLO)
    group = os.path.join(server.own, "m-m")
    assert cgroup.read(group, "memory.max") == str(64 * MB)
    assert cgroup.read(group, "memory.swap.max") in ("0", "")
    assert cgroup.read(group, "pids.max") == "20"
    for name, want in (("memory.max", "max"), ("pids.max", "max")):
        assert cgroup.read(server.own, "m-hello", name) == want
    # The keeper and its workers made room for the controllers.
    keeper = cgroup.read(server.own, "keeper", "cgroup.procs").split()
    assert sorted(keeper) == sorted(
        map(str, [server.pid, server.keeper(), *server.workers()]))
    assert cgroup.read(server.group, "cgroup.procs") == ""
    lines = server.request("/m").text.splitlines()
    # Nothing else bounds its commands, which are in the group too.
    assert lines[0] == "unlimited"
    assert lines[1] != "20"
    assert re.search(rf"^0::.*/cardea.{server.pid}/m-m$", "\n".join(lines),
                     re.M)
    assert not [line for line in server.log if "not-isolated" in line]
    print(f"{group}: memory.max {cgroup.read(group, 'memory.max')}, "
          f"pids.max {cgroup.read(group, 'pids.max')}")


def causes(server, cli, module):
    done = cli("status", "--json", env=server.environment)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    found = [m for m in status["modules"] if m["name"] == module]
    return found[0]["causes"], found[0]["ends"]


def test_a_program_over_its_memory_is_ended_alone(start, folder):
    script(folder, "m.sh", "exec tail /dev/zero\n")
    server = start("""
        module m { run "$DIR/m.sh"; limit memory 32M }
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
        """)
    hello = pid_of(server, "hello")
    server.wait_log(r"level=error event=out-of-memory module=m killed=1 "
                    rf"limit={32 * MB}$")
    died = server.wait_log(r"event=died module=m cause=(\S+) count=1 ")
    assert died.group(1) == "out-of-memory"
    # Again and again, with the usual back-off; and nobody else.
    server.wait_log(r"event=died module=m cause=out-of-memory count=2 ")
    assert server.request("/").status == 200
    assert alive(hello)
    assert not [line for line in server.log if "event=died" in line
                and "module=m cause=out-of-memory" not in line]
    print("\n".join(line for line in server.log
                    if "out-of-memory" in line)[:600])


def test_a_command_over_its_memory_leaves_its_shim(start, folder):
    script(folder, "m.sh", "printf 'Content-Type: text/plain\\n\\n'\n"
                           "tail /dev/zero; echo $?\n")
    server = start("""
        module m { exec "$DIR/m.sh"; limit memory 32M }
        """ + HELLO)
    shim = pid_of(server, "m")
    # The shell and the shim are small beside it, and live.
    assert server.request("/m").text == "137\n"
    server.wait_log(r"event=out-of-memory module=m killed=1 "
                    rf"limit={32 * MB}$")
    assert alive(shim)
    assert server.request("/").status == 200
    assert not [line for line in server.log if "event=died" in line]


# Tells how many it has started, and ends them.
FORKS = """
printf 'Content-Type: text/plain\\n\\n'
n=0
while [ $n -lt 60 ]; do sleep 1000 & n=$((n + 1)); done
echo all
"""


def test_a_module_has_no_more_processes_than_it_may(start, folder):
    script(folder, "m.sh", FORKS)
    server = start("""
        module m { exec "$DIR/m.sh"; limit processes 16 }
        """ + HELLO)
    shim = pid_of(server, "m")
    # The shell gives up; those that it has started end with the request.
    assert "all" not in server.request("/m").text
    server.wait_log(r"event=no-process module=m refused=\d+ limit=16$")
    group = os.path.join(server.own, "m-m")
    assert int(cgroup.read(group, "pids.current")) <= 16
    assert server.request("/").status == 200
    assert alive(shim)
    # And it can again, when those have gone.
    until(lambda: int(cgroup.read(group, "pids.current")) < 8,
          what="the end of the request's processes")
    script(folder, "m.sh", "printf 'Content-Type: text/plain\\n\\nwell\\n'\n")
    assert server.request("/m").text == "well\n"
    assert not [line for line in server.log if "event=died" in line]


def test_many_refusals_are_one_line_a_second(start, folder):
    script(folder, "m.sh", """exec /usr/bin/python3 -c "
import os, time
for _ in range(100):
    try:
        if os.fork() == 0: time.sleep(1000)
    except OSError: pass
print('done', flush=True)
time.sleep(1000)"
""")
    server = start("""
        module m { run "$DIR/m.sh"; limit processes 5 }
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
        """)
    server.wait_log(r"event=output module=m stream=stdout text=done", 60)
    told = r"event=no-process module=m refused=(\d+) limit=5$"
    until(lambda: sum(int(n) for line in list(server.log)
                      for n in re.findall(told, line)) == 100 - 4,
          what="all refusals in the log")
    times = [line[:19] for line in server.log if re.search(told, line)]
    # The lines of one second of the clock may be of two of the keeper's.
    assert len(times) <= len(set(times)) + 1, times


def test_after_a_stop_the_group_is_as_it_was(start, folder):
    script(folder, "m.sh", "exec sleep 1000\n")
    text = """
        module m { run "$DIR/m.sh"; limit memory 64M }
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
        """
    server = start(text)
    assert cgroup.read(server.group, "cgroup.subtree_control") == "memory pids"
    server.stop()
    assert cgroup.read(server.group, "cgroup.subtree_control") == ""
    assert not [d for d in os.listdir(server.group) if d.startswith("cardea.")]
    again = start(text)
    assert cgroup.read(again.own, "m-m", "memory.max") == str(64 * MB)
    again.stop()


def test_beside_others_bounds_are_those_of_each_process(start, folder):
    script(folder, "m.sh", "printf 'Content-Type: a/b\\n\\n'; ulimit -v\n")
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            server = start("""
                module m {
                    exec "$DIR/m.sh"; limit memory 64M; limit processes 900
                }
                """ + HELLO, beside=other.pid)
            assert server.request("/m").text == "65536\n"
            assert str(server.pid) in cgroup.read(server.group,
                                                  "cgroup.procs").split()
            # What is left behind is ended all the same.
            assert not os.path.exists(os.path.join(server.own, "m-m",
                                                   "memory.max"))
            assert os.path.exists(os.path.join(server.own, "m-m",
                                               "cgroup.kill"))
        finally:
            other.kill()


def test_the_death_of_the_keeper_ends_what_hides(start, folder):
    script(folder, "m.sh", "setsid -f sh -c 'echo hidden $$; exec sleep 1000'\n"
                           "exec sleep 1000\n")
    text = """
        module m { run "$DIR/m.sh" }
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
        """
    server = start(text)
    hidden = int(server.wait_log(
        r"event=output module=m .*text=.hidden (\d+)").group(1))
    os.kill(server.pid, 9)
    server.wait_exit()
    assert alive(hidden)
    start(text)
    until(lambda: not alive(hidden), what="the end of an earlier one's")


def test_doctor_says_what_the_group_gives(start, folder, build):
    server = start("""
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
        """)
    server.stop()
    alone = subprocess.run(
        [*server.prefix, os.path.join(build, "cardea"), "doctor"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, cwd="/",
        env=server.environment)
    assert re.search(r"module-cgroups.*get control groups, with memory, with "
                     r"pids", alone.stdout), alone.stdout
    assert cgroup.read(server.group, "cgroup.subtree_control") == ""
