"""A running `cardea run`, as a scenario sees it: its lines, its processes, its
end. Waits always have a deadline and watch for something; none just sleeps."""

import collections
import os
import random
import re
import select
import signal
import socket
import string
import subprocess
import threading
import time
import uuid

import pytest

from lib.pace import slowness
from lib.wire import Wire

READY = re.compile(r"\bready url=(\S+)")
SANITIZER = re.compile(r"(ERROR|WARNING): (Address|Leak|Thread)Sanitizer|"
                       r"runtime error: |Sanitizer: CHECK failed")
# Sanitizers make everything slower; still a hang must end.
START_LIMIT = 30
STOP_LIMIT = 20
# A machine that is interpreted (make vm): what comes late is not yet broken.
SLOW = bool(os.environ.get("CARDEA_TEST_SLOW"))
KEEPER = "cardea-keeper"  # its process's name
PATIENCE = 4 if SLOW else 1  # times as long as a deadline says


def until(condition, limit=15, what="it"):
    """Asks CONDITION again and again until it gives something true: that is
    returned. AssertionError after LIMIT seconds."""
    limit *= PATIENCE
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {limit} s")
        select.select([], [], [], 0.01)


HELD = collections.deque(maxlen=100)  # of our ports, the last


def free_port():
    """Below those that the kernel gives to clients, at random, and held by a name:
    other tests that run at the same time are not offered it, although nobody
    listens there yet, or for a while."""
    while True:
        port = random.randrange(10000, 32000)
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0cardea-test-port-{port}")
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            name.close()
            continue
        if len(HELD) == HELD.maxlen:
            HELD.popleft().close()
        HELD.append(name)
        return port


def stat_of(pid):
    """(name, state, parent, start time) of a process, or None: gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            text = f.read()
    except OSError:
        return None
    name = text[text.index("(") + 1:text.rindex(")")]
    rest = text[text.rindex(")") + 2:].split()
    return name, rest[0], int(rest[1]), int(rest[19])


def alive(pid, start=None):
    stat = stat_of(pid)
    return bool(stat and stat[1] not in "ZX" and start in (None, stat[3]))


def pids():
    return [int(n) for n in os.listdir("/proc") if n.isdigit()]


def stand_still(pid):
    """Stops the process PID, and returns when none of its threads goes on. The
    kernel shows the signal to one of them, which stops the others when it gets
    a CPU: on a busy machine they take work meanwhile."""
    os.kill(pid, signal.SIGSTOP)

    def stopped():
        stats = [stat_of(f"{pid}/task/{n}") for n in
                 os.listdir(f"/proc/{pid}/task")]
        return all(s is None or s[1] in "TtZX" for s in stats)

    until(stopped, what=f"the stop of {pid}")


def marked(mark):
    """Processes whose environment holds MARK (those we may look at)."""
    found = []
    for pid in pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if mark.encode() in f.read() and alive(pid):
                    found.append(pid)
        except OSError:
            pass
    return found


class Server:
    """One server under test.

    build   folder with the binaries
    folder  where its configuration lies
    text    cardea.conf; $PORT, $DIR (folder), $PROGRAMS and $BUILD in it are
            replaced
    """

    def __init__(self, build, folder, text, environment=None):
        self.build = build
        self.folder = str(folder)
        self.port = free_port()
        self.mark = f"CARDEA_TEST_MARK={uuid.uuid4()}"
        self.conf = os.path.join(self.folder, "cardea.conf")
        self.log = []
        self.changed = threading.Condition()
        self.child = None
        self.url = None
        self.prefix = []  # a command that runs the server's
        self.words = []  # instead of: run -f CONF
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(string.Template(text).substitute(
                PORT=self.port, DIR=self.folder, BUILD=build,
                PROGRAMS=os.path.join(build, "tests", "programs")))
        self.environment = dict(os.environ, **(environment or {}))
        run = os.path.join(self.folder, "run")
        os.makedirs(run, mode=0o700, exist_ok=True)
        self.environment.setdefault("XDG_RUNTIME_DIR", run)
        state = os.path.join(self.folder, "state")
        os.makedirs(state, mode=0o711, exist_ok=True)
        self.environment.setdefault("STATE_DIRECTORY", state)
        name, value = self.mark.split("=")
        self.environment[name] = value

    # Life

    def start(self):
        """Starts it and returns when it says that it is ready."""
        self.child = subprocess.Popen(
            [*self.prefix, os.path.join(self.build, "cardea"),
             *(self.words or ["run", "-f", self.conf])],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=self.environment, cwd=self.folder,
            start_new_session=True)
        for stream in (self.child.stdout, self.child.stderr):
            threading.Thread(target=self._collect, args=(stream,),
                             daemon=True).start()
        match = self.wait_log(READY, START_LIMIT)
        self.url = match.group(1)
        port = re.search(r":(\d+)/?$", self.url)
        if port:  # a Unix socket has none
            self.port = int(port.group(1))
        self._wait_modules()
        return self

    def _wait_modules(self):
        """It says that it is ready when its modules have had two seconds, and
        answers 503 for those it waits for. Where the machine is busy, and none
        of theirs has ended, they have some more."""
        waiting = self.wait_log(READY.pattern + r"(?:.* waiting=(\S+))?")
        for module in (waiting.group(2) or "").split(","):
            if not module or "/" in module:
                continue  # a door of somebody else
            try:
                self.wait_log(rf"event=(door-open|died|kill|start-failed) "
                              rf"module={re.escape(module)}\b",
                              min(2 * slowness(), 10))
            except AssertionError:
                return  # it is meant to be so, or the test will say

    def _collect(self, stream):
        for line in stream:
            with self.changed:
                self.log.append(line.decode("utf-8", "replace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    @property
    def pid(self):
        return self.child.pid

    def wait_exit(self, limit=STOP_LIMIT):
        """Its exit status (negative: the signal that ended it)."""
        try:
            return self.child.wait(limit * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit} s\n"
                                 + self.dump()) from None

    def stop(self, signum=signal.SIGTERM, expect=0):
        """Ends it; it must leave with EXPECT, and leave nothing behind."""
        family = self.family()
        if self.child.poll() is None:
            self.child.send_signal(signum)
        status = self.wait_exit()
        assert status == expect, f"exit status {status}\n{self.dump()}"
        self.assert_gone(family)
        self.assert_sane()

    def destroy(self):
        """After a test, whatever happened: nothing of it stays."""
        if not self.child:
            return
        family = self.family()
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        for pid, start in family:
            if alive(pid, start):
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass

    # Lines

    def dump(self):
        with self.changed:
            return "\n".join(["-- its lines:"] + self.log[-40:])

    def wait_log(self, pattern, timeout=15, start=0):
        """The match of PATTERN in the first line, from number START on, that
        has one; waits for it."""
        pattern = re.compile(pattern)
        end = time.monotonic() + timeout * PATIENCE
        with self.changed:
            at = start
            while True:
                while at < len(self.log):
                    match = pattern.search(self.log[at])
                    if match:
                        return match
                    at += 1
                left = end - time.monotonic()
                if left <= 0 or (self.child.poll() is not None
                                 and not self.changed.wait(0.5)
                                 and at == len(self.log)):
                    break
                self.changed.wait(min(left, 0.5))
        raise AssertionError(f"no line with {pattern.pattern!r} "
                             f"(status {self.child.poll()})\n{self.dump()}")

    def lines(self):
        """How many lines there are by now: for wait_log's START."""
        with self.changed:
            return len(self.log)

    def assert_sane(self):
        """No sanitizer spoke."""
        with self.changed:
            bad = [i for i, l in enumerate(self.log) if SANITIZER.search(l)]
            text = "\n".join(self.log[bad[0]:bad[0] + 80]) if bad else ""
        assert not bad, text

    # Processes

    def family(self):
        """(pid, start time) of the server and of all below it or marked."""
        stats = {p: stat_of(p) for p in pids()}
        found = {self.pid}
        grown = True
        while grown:
            below = {p for p, s in stats.items() if s and s[2] in found}
            grown = not below <= found
            found |= below
        found |= set(marked(self.mark))
        return [(p, stats[p][3]) for p in sorted(found) if stats.get(p)]

    def assert_gone(self, family):
        left = until(lambda: not [p for p, s in family if alive(p, s)]
                     or None, 10, "the end of all processes")
        assert left
        # Who was killed with its keeper had heirs, and these had some.
        until(lambda: not marked(self.mark), 10, "the end of their heirs")

    def keeper(self):
        """The process below the first one, by its name; None while there is
        none."""
        for pid in pids():
            stat = stat_of(pid)
            if stat and stat[0] == KEEPER and stat[2] == self.pid and \
                    stat[1] not in "ZX":
                return pid
        return None

    def workers(self):
        """Processes of the server's own program below the keeper."""
        own = os.path.realpath(os.path.join(self.build, "cardea"))
        found = []
        for pid, start in self.family():
            if pid == self.pid or not alive(pid, start):
                continue
            stat = stat_of(pid)  # None: it has just gone
            if stat and stat[0] == KEEPER:
                continue
            try:
                ours = os.readlink(f"/proc/{pid}/exe") == own
            except OSError:
                # Not to be looked at by us; its name must do.
                ours = stat and stat[0].startswith("cardea")
            if ours:
                found.append(pid)
        return self.serving(found)

    def serving(self, found):
        """Of the processes FOUND those that serve, without their heirs: the
        leader of each group, or who took over from it last. In the order of
        their groups, for numbers of new heirs may begin anew below."""
        last = {}
        with self.changed:
            for line in self.log:
                match = re.search(r"event=took-over worker=\d+ pid=(\d+)", line)
                if match:
                    last[int(match.group(1))] = len(last)
        groups = {}
        for pid in found:
            try:
                groups.setdefault(os.getpgid(pid), []).append(pid)
            except OSError:
                continue
        return [group if group in members
                else max(members, key=lambda p: last.get(p, -1))
                for group, members in sorted(groups.items())]

    def modules(self, program):
        """Processes that run tests/programs/PROGRAM for this server."""
        found = []
        for pid, start in self.family():
            if not alive(pid, start):
                continue
            try:
                exe = os.readlink(f"/proc/{pid}/exe")
            except OSError:
                continue
            if os.path.basename(exe) == program:
                found.append(pid)
        return found

    @staticmethod
    def fds(pid):
        try:
            return len(os.listdir(f"/proc/{pid}/fd"))
        except PermissionError:
            pytest.skip("only root may count a worker's descriptors")

    @staticmethod
    def threads(pid):
        return len(os.listdir(f"/proc/{pid}/task"))

    # Talking to it

    def wire(self, timeout=15, **more):
        return Wire(self.port, timeout=timeout, **more)

    def port_of(self, scheme_and_host):
        """The port of the listener at that address, as the ready line says."""
        pattern = re.escape(scheme_and_host) + r":(\d+)/"
        return int(self.wait_log(r"^ready .*" + pattern).group(1))

    def request(self, target="/", method="GET", fields=(), body=None,
                timeout=15):
        """One request on a connection of its own."""
        with self.wire(timeout) as wire:
            return wire.request(target, method, fields, body)
