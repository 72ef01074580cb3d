"""Commands behind `inetd`: one for each connection, which is its standard input
and output; and `inetd wait`, one for a listening socket."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from lib.server import alive, free_port, until

CONF = """
module it { inetd "%s"; timeout %s%s }
forward tcp 127.0.0.1:$PORT to it
"""


def dial(where):
    family = socket.AF_INET if isinstance(where, int) else socket.AF_UNIX
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(15)
    s.connect(("127.0.0.1", where) if isinstance(where, int) else where)
    return s


def rest(s):
    got = bytearray()
    while True:
        more = s.recv(65536)
        if not more:
            return bytes(got)
        got += more


def talk(where, data=b""):
    """Sends DATA and the end of it; all that comes back."""
    with dial(where) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        return rest(s)


def gone(pid):
    """Has process PID ended, or is it dead and not reaped yet?"""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def said(server, text):
    """The lines of the log with TEXT in them."""
    return [line for line in server.log if text in line]


@pytest.fixture
def inetd(cardea, folder):
    """Starts a server for the text of a shell script, or for a command."""
    def start(script=None, command=None, timeout="20s", more=""):
        if script is not None:
            path = os.path.join(folder, "it.sh")
            with open(path, "w", encoding="ascii") as f:
                f.write("#!/bin/sh\n" + script)
            os.chmod(path, 0o755)
            command = path
        return cardea(CONF % (command, timeout, more))
    return start


@pytest.mark.parametrize("size", [0, 5, 3000000])
def test_cat_gives_back_what_it_gets(inetd, size):
    server = inetd(command="cat")
    data = os.urandom(size)
    with dial(server.port) as s:
        pid = os.fork()
        if pid == 0:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            finally:
                os._exit(0)
        got = rest(s)
        os.waitpid(pid, 0)
    assert got == data


def test_a_script_speaks_by_lines(inetd):
    server = inetd("""
        echo "who are you?"
        while read -r line; do
            [ "$line" = bye ] && break
            echo "hello $line, from port $TCPREMOTEPORT"
        done
        echo "$PROTO $TCPLOCALPORT ${CARDEA_DOOR:-none} $(pwd)"
    """)
    with dial(server.port) as s, s.makefile("rw", encoding="ascii") as lines:
        assert lines.readline() == "who are you?\n"
        lines.write("you\n")
        lines.flush()
        port = s.getsockname()[1]
        assert lines.readline() == f"hello you, from port {port}\n"
        lines.write("bye\n")
        lines.flush()
        assert lines.readline().split()[:3] == [
            "TCP", str(server.port), "none"]
        assert lines.readline() == ""


def test_commands_run_beside_one_another(inetd):
    server = inetd(command="cat")
    socks = [dial(server.port) for _ in range(20)]
    for n, s in enumerate(reversed(socks)):
        s.sendall(b"%d" % n)
        assert s.recv(100) == b"%d" % n
    for s in socks:
        s.close()


def test_a_command_has_no_connection_but_its_own(inetd):
    server = inetd("ls -l /proc/self/fd | grep -c socket:; cat")
    socks = [dial(server.port) for _ in range(30)]
    for s in socks:
        # Standard input, and output is a pipe there.
        assert s.makefile("rb").readline() == b"1\n"
    for s in socks:
        s.close()


def test_a_client_that_was_not_read_still_gets_the_answer(inetd):
    server = inetd("echo hello; exec sleep 0.05")
    for _ in range(20):
        with dial(server.port) as s:
            s.sendall(b"nobody reads this")
            assert rest(s) == b"hello\n"


def test_standard_error_comes_out_in_the_log(inetd):
    server = inetd("echo complaint >&2; exit 3")
    assert talk(server.port) == b""
    server.wait_log(r"127\.0\.0\.1 port \d+: complaint")
    server.wait_log(r"port \d+: the command exited with status 3")


def test_a_log_without_end_is_bounded_and_counted(inetd):
    server = inetd("while :; do echo flood >&2; done", timeout="1s")
    assert talk(server.port) == b""
    dropped = int(server.wait_log(
        r"port \d+: (\d+) lines of standard error dropped").group(1))
    assert dropped > 0
    server.wait_log(r"its time was over")
    assert len(said(server, ": flood")) <= 300


def test_a_command_over_its_time_is_killed_whatever_it_ignores(inetd):
    server = inetd("""
        trap '' TERM
        sleep 1234567 &
        echo "$$ $!"
        while :; do sleep 1234567; done
    """, timeout="500ms")
    began = time.monotonic()
    found = [int(n) for n in talk(server.port).split()]
    assert time.monotonic() - began < 5
    assert len(found) == 2
    until(lambda: all(gone(p) for p in found), what="their end")
    server.wait_log(r"the command was killed: its time was over")


def test_a_command_is_asked_to_end_before_it_is_killed(inetd):
    server = inetd("trap 'echo last words; exit' TERM; echo listening; "
                   "sleep 1234567 & wait", timeout="3s")
    assert talk(server.port) == b"listening\nlast words\n"


@pytest.mark.parametrize("how", [
    "setsid sleep 1234567 & echo $! >pid",
    "setsid sh -c 'echo $$ >pid; exec sleep 1234567' &",
    # Twice, with the parents gone, as a daemon does it.
    "(setsid sh -c 'sleep 1234567 & echo $! >pid' &)",
    # And without our mark.
    "env -i setsid sh -c 'echo $$ >pid; exec sleep 1234567' &",
])
def test_what_detaches_itself_is_ended_with_its_command(inetd, how):
    server = inetd(how + "\nuntil [ -s pid ]; do sleep 0.01; done; cat pid")
    pid = int(talk(server.port))
    until(lambda: gone(pid), what="the end of what detached itself")
    assert not alive(pid)  # and it is reaped


def test_what_detached_itself_may_stay_while_its_command_runs(inetd):
    server = inetd("(setsid sleep 1234567 & echo $!); cat")
    with dial(server.port) as s:
        pid = int(s.makefile("rb").readline())
        for _ in range(5):  # others come and go
            with dial(server.port) as other:
                other.makefile("rb").readline()
        assert not gone(pid)
    until(lambda: gone(pid), what="the end of what detached itself")


def test_more_commands_at_once_than_there_may_be_are_closed(inetd):
    server = inetd(command="cat", more="; limit rate 10000")
    socks = []
    try:
        for n in range(256):
            socks.append(dial(server.port))
            socks[-1].sendall(b"%d" % n)
        for n, s in enumerate(socks):
            assert s.recv(100) == b"%d" % n
        assert [talk_or_reset(server.port, b"x") for _ in range(3)] == [b""] * 3
        server.wait_log(r"256 commands run at once")
        assert len(said(server, "commands run at once")) == 1
    finally:
        for s in socks:
            s.close()
    # And then there is room again.
    until(lambda: talk_or_reset(server.port, b"x") == b"x", what="room")


def test_netcat_is_a_client_and_a_command(cardea):
    """A relay as of old: nc as the command, to a service that is cat."""
    assert shutil.which("nc"), "scripts/setup.sh test installs it"
    service, door = free_port(), free_port()
    cardea("""
module echo  { inetd "cat" }
module relay { inetd "nc -N 127.0.0.1 %d" }
forward tcp 127.0.0.1:$PORT to echo
forward tcp 127.0.0.1:%d to echo
forward tcp 127.0.0.1:%d to relay
""" % (service, service, door))
    data = os.urandom(200000)
    done = subprocess.run(["nc", "-N", "127.0.0.1", str(door)], input=data,
                          capture_output=True, timeout=30, check=True)
    assert done.stdout == data


def test_the_shim_by_hand_at_a_door_of_its_own(cardea, build, folder):
    door = os.path.join(folder, "it.door")
    shim = subprocess.Popen(
        [os.path.join(build, "shims", "cardea-inetd"), "--timeout", "20", "--",
         "sh", "-c", "echo $PROTO; cat"], stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env=dict(os.environ, CARDEA_DOOR=door))
    try:
        until(lambda: os.path.exists(door), what="its door")
        server = cardea("forward tcp 127.0.0.1:$PORT pass " + door)
        assert talk(server.port, b"hand") == b"TCP\nhand"
    finally:
        shim.terminate()
        shim.wait(15)
        shim.stderr.close()


@pytest.mark.parametrize("words,says", [
    (["--rate", "0", "--", "cat"], "--rate wants a number"),
    (["--rate", "1e3", "--", "cat"], "--rate wants a number"),
    (["--timeout", "0", "--", "cat"], "--timeout wants seconds"),
    (["--folder", "/no/such", "--", "cat"], "not a folder"),
    (["--colour", "--", "cat"], "unknown option"),
    ([], "no command"),
])
def test_a_wrong_command_line_is_64_and_says_why(build, words, says):
    done = subprocess.run(
        [os.path.join(build, "shims", "cardea-inetd"), *words],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=15,
        check=False)
    assert done.returncode == 64
    assert says in done.stderr.decode()


def test_more_starts_than_the_rate_are_closed_and_said_once(inetd):
    server = inetd(command="echo hello", more="; limit rate 5")
    got = [talk_or_reset(server.port) for _ in range(12)]
    assert got == [b"hello\n"] * 5 + [b""] * 7
    server.wait_log(r"more than 5 starts within a minute")
    assert len(said(server, "starts within a minute")) == 1


def talk_or_reset(where, data=b""):
    try:
        return talk(where, data)
    except OSError:
        return b""


def test_a_command_that_is_not_there_closes_the_connection(inetd, folder):
    server = inetd("echo hello")
    os.unlink(os.path.join(folder, "it.sh"))
    assert talk_or_reset(server.port) == b""
    server.wait_log(r"cannot run \S*it\.sh: No such file")


def test_a_stop_waits_for_a_connection_that_is_served(inetd):
    server = inetd("echo ready; read line; echo got $line")
    with dial(server.port) as s, s.makefile("rw", encoding="ascii") as lines:
        assert lines.readline() == "ready\n"
        os.kill(server.pid, signal.SIGTERM)
        server.wait_log(r"event=stop")
        lines.write("it\n")
        lines.flush()
        assert lines.readline() == "got it\n"
    assert server.wait_exit() == 0


def test_an_end_of_the_shim_ends_its_commands(inetd):
    server = inetd("echo $$; [ -e once ] || { >once; exec sleep 1234567; }")
    with dial(server.port) as s:
        pid = int(s.makefile("rb").readline())
        (shim,) = [p for p in server.modules("cardea-inetd")
                   if not is_watcher(p)]
        os.kill(shim, signal.SIGKILL)
        until(lambda: gone(pid), what="the end of the command")
    until(lambda: talk_or_reset(server.port) != b"",
          what="another command, by another shim")


def is_watcher(pid):
    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
        return f.read() == "cardea-shim-end\n"


def test_a_unix_socket(cardea, folder):
    path = os.path.join(folder, "it.sock")
    cardea("""
module it { inetd "cat" }
forward tcp 127.0.0.1:$PORT to it
forward tcp unix:%s to it
""" % path)
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert talk(path, b"by a file") == b"by a file"


# A command that accepts for itself: WAITER serves COUNT connections, each line
# by line, and ends.
WAITER = """#!/usr/bin/env python3
import os, socket, sys
s = socket.socket(fileno=0)
print("started", os.getpid(), file=sys.stderr, flush=True)
assert s.getblocking() and os.get_blocking(0)
for n in range(%d):
    c, _ = s.accept()
    for line in c.makefile("rb"):
        c.sendall(b"%%d %%d " %% (os.getpid(), n) + line)
    c.close()
%s
"""
WAIT_CONF = """
module it { inetd wait "%s"%s }
forward tcp 127.0.0.1:$PORT to it
forward tcp unix:%s to it
"""


@pytest.fixture
def waiter(cardea, folder):
    """A server whose module accepts for itself, and its Unix socket's path."""
    def start(count, end="", more="", text=None):
        program = os.path.join(folder, "waiter.py")
        path = os.path.join(folder, "it.sock")
        with open(program, "w", encoding="ascii") as f:
            f.write(WAITER % (count, end) if text is None else text)
        os.chmod(program, 0o755)
        server = cardea(WAIT_CONF % (program, more, path))
        return server, path
    return start


def test_a_command_that_waits_gets_the_listening_socket(waiter):
    server, path = waiter(2)
    for where in (server.port, path):
        got = [talk(where, b"hello\n").split() for _ in range(4)]
        numbers = [words[1] for words in got]
        first, second = got[0][0], got[2][0]
        # Two connections each, then another process.
        assert numbers == [b"0", b"1", b"0", b"1"]
        assert got[1][0] == first and got[3][0] == second != first
        assert all(words[2] == b"hello" for words in got)
    server.stop()


def test_nothing_is_accepted_and_nothing_runs_before_a_client_comes(waiter):
    server, path = waiter(1)
    assert not said(server, "started ")
    assert talk(path, b"x\n").endswith(b" 0 x\n")
    server.wait_log("started ")


def test_the_two_sockets_of_a_module_do_not_wait_for_one_another(waiter):
    server, path = waiter(1)
    with dial(server.port) as s:
        s.sendall(b"held\n")
        assert s.recv(100).endswith(b"held\n")
        assert talk(path, b"x\n").endswith(b" 0 x\n")


def test_a_command_that_never_accepts_is_bounded_by_the_rate(waiter):
    server, _ = waiter(0, more="; limit rate 3")
    with dial(server.port):
        server.wait_log("more than 3 starts within a minute")
    assert len(said(server, "started ")) == 3
    server.stop()


def test_a_stop_ends_a_command_that_waits(waiter):
    server, _ = waiter(1000)
    with dial(server.port) as s:
        s.sendall(b"x\n")
        pid = int(s.recv(100).split()[0])
    server.stop()
    assert gone(pid)


def test_a_time_is_for_commands_that_wait_too_if_it_is_written(waiter):
    server, _ = waiter(1000, more="; timeout 500ms")
    with dial(server.port) as s:
        s.sendall(b"x\n")
        pid = int(s.recv(100).split()[0])
        until(lambda: gone(pid), what="its end")
    server.wait_log("its time was over")
    # The next client has the next command.
    assert int(talk(server.port, b"x\n").split()[0]) != pid


def test_clients_wait_while_the_shim_is_replaced(waiter):
    server, _ = waiter(1)
    (shim,) = [p for p in server.modules("cardea-inetd") if not is_watcher(p)]
    os.kill(shim, signal.SIGKILL)
    server.wait_log(r"event=died")
    assert talk(server.port, b"x\n").endswith(b" 0 x\n")
