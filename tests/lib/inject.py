"""One fault in one system call of one process of a real server, and what became
of it. strace(1) makes the call fail (--inject, when=N); here is the small fixed
story that the server is led through meanwhile, and the judgement.

A role is a process: the reaper, the keeper, the first worker, or one program
behind a door. A child of the first two stops at its birth (tests/inject/stop-fork.c), so that
strace sees it from its first call on."""

import collections
import concurrent.futures
import os
import random
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from lib.server import READY, SANITIZER, Server, alive, stat_of, until
from lib.wire import Wire

CONF = """
set grace 2s
module echo  { run "$PROGRAMS/echo" }
module file  { run "$PROGRAMS/file" }
module plain { run "/bin/sh $DIR/plain.sh $PROGRAMS/plain" }
module shell { exec "/bin/sh $DIR/shell.sh" }

forward http 127.0.0.1:$PORT to {
    map any  /echo  to echo
    map GET  /file  to file
    map any  /plain to plain
    map any  /shell to shell
    map GET  /www   to files $DIR/www
}
"""
BODY = b"b" * 70000
ASKED = (("/echo", BODY), ("/file?size=5000", None), ("/plain", b"p" * 9000),
         ("/shell", b"s" * 300), ("/www/page", None))
# Who is forked, in this order, until it is ready: the keeper by the reaper, the
# others by the keeper.
BIRTHS = ("keeper", "echo", "file", "plain", "shell", "worker")
MORE = {"keeper": [], "shell": ["-f", "-b", "execve"]}  # words of strace
ROLES = ("reaper",) + BIRTHS

# What each call may say when a table, memory or a disk is full, a device is
# broken or a signal came. Not in it: calls that strace would only swallow
# (close, munmap); EAGAIN where it means "an edge will tell", which a lie
# would make wait for ever; futex, whose wakes cannot fail (libc aborts); brk,
# whose failing at the wrong moment libc's malloc does not survive.
FULL = ("EMFILE", "ENFILE", "ENOMEM")
ERRORS = {
    **dict.fromkeys(("socket", "socketpair", "accept4", "pipe2", "dup",
                     "memfd_create", "epoll_create1", "eventfd2",
                     "signalfd4", "inotify_init1", "pidfd_open",
                     "openat2"), FULL),
    "openat": FULL + ("ENOSPC", "EIO"),
    "dup2": ("EMFILE", "EINTR"),
    "fcntl": ("EMFILE", "ENOMEM"),
    **dict.fromkeys(("mmap", "mprotect", "setgroups", "bind", "listen",
                     "connect", "fstat", "newfstatat", "poll"), ("ENOMEM",)),
    **dict.fromkeys(("clone", "clone3", "fork", "vfork"),
                    ("EAGAIN", "ENOMEM")),
    "setresuid": ("EAGAIN",), "setresgid": ("EAGAIN",),
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    **dict.fromkeys(("epoll_wait", "epoll_pwait", "epoll_pwait2",
                     "futex_waitv", "wait4", "waitid", "getrandom"),
                    ("EINTR",)),
    "read": ("EINTR", "EIO", "ENOMEM"),
    "pread64": ("EINTR", "EIO", "ENOMEM"),
    "write": ("EINTR", "EIO", "ENOSPC"),
    **dict.fromkeys(("sendmsg", "sendto"), ("EINTR", "ENOMEM", "ENOBUFS")),
    **dict.fromkeys(("recvmsg", "recvfrom"), ("EINTR", "ENOMEM")),
    "sendfile": ("EINTR", "EIO", "ENOMEM"),
    "ftruncate": ("EINTR", "ENOSPC", "ENOMEM"),
    **dict.fromkeys(("mkdir", "mkdirat", "link", "linkat", "rename"),
                    ("ENOSPC", "EIO")),
    **dict.fromkeys(("fchmod", "chmod", "fchown", "unlink", "unlinkat",
                     "getdents64", "statfs", "fstatfs", "readlink"),
                    ("EIO",)),
    "flock": ("EINTR", "ENOMEM"),
    "inotify_add_watch": ("ENOSPC", "ENOMEM"),
    "execve": FULL[2:] + ("EMFILE", "EIO"),
}
CALL = re.compile(r"^(\d+ +)?(\w+)\(")
DEATH = re.compile(r"event=died .*cause=signal-(SEGV|ABRT|BUS|ILL|FPE|SYS|TRAP)")

Fault = collections.namedtuple("Fault", "role call error nth")


class Wrong(AssertionError):
    """An end that no fault may have."""


def spell(fault):
    return (f"{fault.role} {fault.call} {fault.error} {fault.nth}"
            if fault else "no fault")


def strace(output, fault, *more):
    """The command that makes FAULT happen, or (None) only writes all down."""
    if fault:
        what = [f"--trace={fault.call}",
                f"--inject={fault.call}:error={fault.error}:when={fault.nth}"]
    else:
        known = subprocess.run(
            ["strace", "-e", "trace=" + ",".join(f"?{c}" for c in ERRORS),
             "true"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False)
        assert known.returncode == 0, known.stdout.decode()
        what = ["--trace=" + ",".join(f"?{c}" for c in ERRORS)]
    return ["strace", "-q", "--signal=none", f"--output={output}", *what, *more]


class Nurse(threading.Thread):
    """Meets each child of the keeper at its birth and lets it go; the one of
    ROLE with strace at its side."""

    def __init__(self, server, role, command):
        super().__init__(daemon=True)
        self.server, self.role, self.command = server, role, command
        self.over = threading.Event()
        self.births = 0
        self.tracer = None
        path = os.path.join(server.folder, "births")
        os.mkfifo(path)
        self.fifo = os.open(path, os.O_RDWR)
        server.environment["STOP_FORK"] = path
        server.environment["LD_PRELOAD"] = os.path.join(
            server.build, "tests", "inject", "stop-fork.so")

    def run(self):
        while not self.over.is_set():
            if select.select([self.fifo], [], [], 0.1)[0]:
                self.meet(int.from_bytes(os.read(self.fifo, 4), "little"))

    def meet(self, pid):
        name = BIRTHS[self.births] if self.births < len(BIRTHS) else "later"
        self.births += 1
        until(lambda: (stat_of(pid) or "xT")[1] in "Tt", what="its stopping")
        if name == self.role == "shell":
            # Its commands begin with an exec too, and are not of this role:
            # it is met behind its own.
            os.kill(pid, signal.SIGCONT)
            until(lambda: self.program(pid) in ("cardea-exec", None),
                  what="the shim's exec")
        if name == self.role:
            self.tracer = subprocess.Popen(
                [*self.command, f"--attach={pid}"], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until(lambda: self.is_traced(pid), what="strace's attaching")
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    @staticmethod
    def program(pid):
        try:
            return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        except OSError:
            return None

    @staticmethod
    def is_traced(pid):
        try:
            with open(f"/proc/{pid}/status", encoding="ascii") as f:
                return "TracerPid:\t0\n" not in f.read()
        except OSError:
            return True

    def end(self):
        self.over.set()
        self.join(10)
        os.close(self.fifo)
        if self.tracer:
            try:
                self.tracer.wait(10)
            except subprocess.TimeoutExpired:
                self.tracer.kill()
                self.tracer.wait()


class Story:
    """A server under one fault (or none), from its start to its end.

    kind    what became of it: unharmed, start-failed, restarted, or the list
            of statuses that clients got instead of 200
    counts  descriptors and threads of each process at the end, by name
    """

    def __init__(self, build, folder, cpu, role, fault=None):
        self.fault, self.role = fault, role
        self.trace = os.path.join(folder, "trace")
        self.kind, self.counts, self.odd = None, {}, []
        os.makedirs(os.path.join(folder, "www"), exist_ok=True)
        files = {"shell.sh": "printf 'Content-Type: text/plain\\n\\n'; cat\n",
                 "plain.sh": 'exec "$1" "$CARDEA_DOOR"\n',
                 "www/page": "page"}
        for name, text in files.items():
            with open(os.path.join(folder, name), "w", encoding="ascii") as f:
                f.write(text)
        self.server = Server(build, folder, CONF)
        self.server.prefix = ["taskset", "-c", str(cpu)]
        self.nurse = None
        if role == "reaper":
            self.server.prefix += strace(self.trace, fault, "-D")
        else:
            self.nurse = Nurse(self.server, role,
                               strace(self.trace, fault,
                                      *MORE.get(role, ["-f"])))

    def tell(self, base=None):
        """The whole of it. BASE: counts of a run without a fault. Raises Wrong
        where the end is none of those that a fault may have."""
        try:
            self._tell(base or {})
        except AssertionError as error:
            raise Wrong(f"{spell(self.fault)}: {error}\n"
                        f"{self.server.dump()}") from None
        finally:
            self.server.destroy()
            if self.nurse:
                self.nurse.end()
        return self

    def _tell(self, base):
        server = self.server
        if self.nurse:
            self.nurse.start()
        if not self.begin():
            self.kind = "start-failed"
            return
        for target, body in ASKED:
            self.ask(target, body)
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        self.ask("/echo", b"after the worker")
        for pid in server.modules("file"):
            os.kill(pid, signal.SIGKILL)
        self.recover()
        self.count(base)
        family = server.family()
        server.child.send_signal(signal.SIGTERM)
        status = server.wait_exit(15)
        # 3: something had to be killed at the end.
        if status not in (0, 3):
            raise Wrong(f"exit status {status}")
        server.assert_gone(family)
        self.judge_log()
        harmed = " ".join(sorted(set(self.odd)))
        restarts = sum(1 for l in server.log if "event=died" in l) - 2
        self.kind = harmed or ("restarted" if restarts > 0 else "unharmed")

    def begin(self):
        """Ready? False: it said why not, and left with 1."""
        server = self.server
        try:
            server.start()
            return True
        except AssertionError:
            status = server.child.poll()
            if status is None:
                raise
        self.judge_log()
        # 78: the configuration cannot be read; 127: nor can the program.
        said = {1: r"^cardea: |event=worker-failed", 78: r"\.conf(:[\d:]+)?: .*cannot ",
                127: r"error while loading|: cannot allocate|: Input/output",
                }.get(status)
        if not said or not any(re.search(said, l) for l in server.log):
            raise Wrong(f"no start, status {status}, and no reason")
        return False

    def ask(self, target, body):
        """One request; a reply that is not 200 is noted, no end is wrong."""
        began = time.monotonic()
        try:
            with Wire(self.server.port, timeout=12) as wire:
                status = str(wire.request(
                    target, "POST" if body else "GET", body=body).status)
        except TimeoutError:
            raise Wrong(f"{target}: no answer in 12 s") from None
        except (AssertionError, OSError):
            status = "closed"
        if time.monotonic() - began > 10:
            raise Wrong(f"{target}: {status}, but after 10 s")
        if status != "200":
            self.odd.append(status)
        return status

    def recover(self):
        """One fault is no more: everything works again."""
        before = list(self.odd)
        for target, body in ASKED:
            until(lambda t=target, b=body: self.ask(t, b) == "200", 10,
                  f"{target}: 200 again")
        self.odd = before

    def count(self, base):
        """Descriptors and threads, and who computes for nothing."""
        server = self.server
        clock = self.clocks()
        select.select([], [], [], 0.15)
        for pid, ticks in self.clocks().items():
            if ticks - clock.get(pid, ticks) >= 3:
                raise Wrong(f"process {pid} computes for nothing: "
                            f"{stat_of(pid)}")

        def now():
            pairs = [("reaper", server.pid), ("keeper", server.keeper())]
            pairs += [("worker", p) for p in server.workers()]
            for name in ("echo", "file", "plain", "cardea-exec"):
                pairs += [(name, p) for p in server.modules(name)[:1]]
            self.counts = {n: (server.fds(p), server.threads(p))
                           for n, p in pairs if alive(p)}
            return all(n in self.counts
                       and self.counts[n][0] <= base[n][0]
                       and self.counts[n][1] <= base[n][1] + 1
                       for n in base)

        try:
            until(now, 5, "it")
        except AssertionError:
            raise Wrong(f"{self.counts}, without the fault {base}") from None

    def clocks(self):
        found = {}
        for pid, _ in self.server.family():
            try:
                with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
                    rest = f.read().rpartition(")")[2].split()
                found[pid] = int(rest[11]) + int(rest[12])
            except OSError:
                pass
        return found

    def judge_log(self):
        for line in self.server.log:
            if SANITIZER.search(line) or DEATH.search(line):
                raise Wrong(line)

    # What strace wrote

    def calls(self):
        """How often the busiest thread made each call."""
        found = collections.Counter()
        for line in self.lines():
            match = CALL.match(line)
            if match:
                found[(match.group(1), match.group(2))] += 1
        most = collections.Counter()
        for (_, call), n in found.items():
            most[call] = max(most[call], n)
        return most

    def loaders(self):
        """{call: (before, after)}: how often the first thread had made each
        call when it became the program, and when the loader had done."""
        before, after, count = {}, {}, collections.Counter()
        first = None
        for line in self.lines():
            match = CALL.match(line)
            if not match:
                continue
            first = first or match
            if match.group(1) != first.group(1):
                continue
            count[match.group(2)] += 1
            if match.group(2) == "execve" and not before:
                before = dict(count)
            if match.group(2) == "mprotect" and before:
                after = dict(count)
        return {c: (before.get(c, 0), n) for c, n in after.items()}

    def delivered(self):
        return sum("(INJECTED)" in line for line in self.lines())

    def lines(self):
        try:
            with open(self.trace, encoding="latin-1") as f:
                return f.readlines()
        except OSError:
            return []


# All of them

def record(build, folder, cpu, role):
    """Every fault that there is for ROLE: each error of each call, at each time
    that it is made where nothing fails, but for what the dynamic loader does,
    which dies as it likes. (faults, counts)"""
    story = Story(build, folder, cpu, role).tell()
    if story.kind != "unharmed":
        raise Wrong(f"{role} without a fault: {story.kind}\n"
                    + story.server.dump())
    calls, loaders = story.calls(), story.loaders()
    if not calls:
        raise Wrong(f"strace saw nothing of {role}")
    found = []
    if role == "shell":
        # Made by each command's child before it becomes the command: strace
        # counts anew for each, so all would fail, not one.
        for call in ("dup2", "execve"):
            calls.pop(call, None)
    for call in sorted(calls):
        before, after = loaders.get(call, (0, 0))
        found += [Fault(role, call, error, nth)
                  for nth in range(1, calls[call] + 1)
                  if not before < nth <= after
                  for error in ERRORS.get(call, ())]
    return found, story.counts


def in_folder(what, *arguments):
    """WHAT(folder, ...) in a folder of its own that others may enter."""
    folder = tempfile.mkdtemp(prefix="cardea-")
    os.chmod(folder, 0o755)
    try:
        return what(folder, *arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_one(task):
    """One story, in a process of its own: (fault, kind, delivered, why)."""
    build, cpu, fault, base = task

    def tell(folder):
        story = Story(build, folder, cpu, fault.role, fault)
        try:
            story.tell(base)
        except Wrong as error:
            return fault, "WRONG", story.delivered(), str(error)
        return fault, story.kind, story.delivered(), ""

    return in_folder(tell)


def record_all(build):
    """(faults of every role, counts without a fault)"""
    faults, base = [], {}
    for role in ROLES:
        found, counts = in_folder(lambda f, r=role: record(build, f, 0, r))
        faults += found
        for name, (fds, threads) in counts.items():
            most = base.get(name, (0, 0))
            base[name] = (max(most[0], fds), max(most[1], threads))
    return faults, base


def sample(faults, number):
    """NUMBER of them, the same each time: first one of each call and error of
    each role, then others."""
    order = random.Random(1)
    faults = list(faults)
    order.shuffle(faults)
    seen, first, rest = set(), [], []
    for fault in faults:
        key = fault[:3]
        (rest if key in seen else first).append(fault)
        seen.add(key)
    return (first + rest)[:number]


def try_all(build, faults, base):
    """What try_one gives, for each of FAULTS. One that goes wrong is tried once
    more, alone: what counts is what the fault does, not the machine's load."""
    cpus = sorted(os.sched_getaffinity(0))
    tasks = [(build, cpus[i % len(cpus)], f, base)
             for i, f in enumerate(faults)]
    with concurrent.futures.ProcessPoolExecutor(2 * len(cpus)) as pool:
        results = list(pool.map(try_one, tasks))
    again = [i for i, r in enumerate(results) if r[1] == "WRONG"]
    if len(again) <= 10:
        for i in again:
            results[i] = try_one(tasks[i])
    return results, len(again)
