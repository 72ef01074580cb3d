"""Full tables, full disks, full memory, for real: no room is no crash, hurts
nobody who needs none, burns no CPU, and passes when there is room again."""

import os
import select
import socket
import subprocess
import threading

import pytest

from lib import control
from lib.server import alive, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason="limits are set by root")

CONF = """
module hello { run "$PROGRAMS/hello" }
module file  { run "$PROGRAMS/file" }
module sleep { run "$PROGRAMS/sleep" }
module shell { exec "/bin/sh $DIR/shell.sh" }

forward http 127.0.0.1:$PORT to {
    map GET /hello to hello
    map GET /file  to file
    map GET /sleep to sleep
    map GET /shell to shell
    map GET /www   to files $DIR
}
"""
ONE_CPU = ("taskset", "-c", "0")
TABLE = 60
SMALL = ("prlimit", f"--nofile={TABLE}:{TABLE}", *ONE_CPU)


@pytest.fixture(autouse=True)
def script(folder):
    with open(os.path.join(folder, "shell.sh"), "w", encoding="ascii") as f:
        f.write("printf 'Content-Type: text/plain\\n\\nhi'\n")


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
        rest = f.read().rpartition(")")[2].split()
    return int(rest[11]) + int(rest[12])


def assert_idle(*processes):
    """None of them computes: under a tenth of a CPU over 400 ms."""
    before = {p: cpu_ticks(p) for p in processes}
    select.select([], [], [], 0.4)
    for pid, ticks in before.items():
        spent = cpu_ticks(pid) - ticks
        assert spent < 4, f"process {pid} computed for {spent * 10} of 400 ms"


def fill_table(server, worker):
    """Connections until WORKER has no descriptor left, and more that wait."""
    others = [server.wire() for _ in range(60)]
    until(lambda: server.fds(worker) == TABLE, what="a full table")
    return others


@pytest.fixture
def small_disk(folder):
    """A file system of 64 KiB and few files."""
    path = os.path.join(folder, "disk")
    os.mkdir(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o",
                    "size=64k,nr_inodes=40,mode=755", "none", path],
                   check=True, stdin=subprocess.DEVNULL)
    yield path
    subprocess.run(["umount", "-l", path], check=True,
                   stdin=subprocess.DEVNULL)


def fill(folder):
    """Takes all room in FOLDER; its name."""
    path = os.path.join(folder, "fill")
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"f" * 4096)
        except OSError:
            pass
    return path


@pytest.fixture
def cgroup():
    """cgroup(controller): a fresh group of this machine's cgroups, version 1
    or 2; its folder."""
    made = []

    def make(controller):
        for base in (f"/sys/fs/cgroup/{controller}", "/sys/fs/cgroup"):
            path = os.path.join(base, f"cardea-test-{os.getpid()}")
            try:
                os.mkdir(path)
            except OSError:
                continue
            made.append(path)
            if any(n.startswith(controller + ".") for n in os.listdir(path)):
                return path
        return pytest.skip(f"no cgroup with {controller} can be made here")

    yield make
    for path in made:
        with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as f:
            for pid in f.read().split():
                try:
                    put(os.path.dirname(path), "cgroup.procs", pid)
                except OSError:
                    pass  # it has ended
        until(lambda p=path: not os.path.exists(p) or _gone(p),
              what="the end of the cgroup")


def _gone(path):
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def put(path, name, value):
    with open(os.path.join(path, name), "w", encoding="ascii") as f:
        f.write(str(value))


# Descriptors

def test_clients_beyond_the_table_wait_and_are_served_later(cardea):
    server = cardea(CONF, prefix=SMALL)
    (worker,) = server.workers()
    # Its door has its descriptors before they are taken by clients.
    assert server.request("/hello").status == 200
    wires = [server.wire() for _ in range(60)]
    for wire in wires:
        wire.ask("/hello")
    served = []
    for wire in wires:
        wire.socket.settimeout(0.3 if served else 15)
        try:
            assert wire.reply().status == 200
        except TimeoutError:
            break
        served.append(wire)
    assert 5 <= len(served) < 60
    # The rest stands in the kernel's queue, and the worker does not spin.
    assert_idle(worker, server.keeper())
    # Those inside are served all the time.
    assert served[0].request("/hello").status == 200
    # As soon as some leave, others come in.
    for wire in served:
        wire.close()
    for wire in wires[len(served):]:
        wire.socket.settimeout(15)
        assert wire.reply().status == 200
        wire.close()
    assert alive(worker) and server.workers() == [worker]


def test_an_answer_without_room_for_its_descriptor_is_503(cardea):
    """And no reason to kill the module, which kept its word."""
    server = cardea(CONF, prefix=SMALL)
    (worker,), (module,) = server.workers(), server.modules("file")
    with server.wire() as wire:
        assert wire.request("/file?size=9").status == 200
        others = fill_table(server, worker)
        reply = wire.request("/file?size=9")
        assert reply.status == 503
        assert int(reply.get("Retry-After")) > 0
        assert wire.request("/www/cardea.conf").status == 503
        assert wire.request("/hello").status == 200
        for other in others:
            other.close()
        until(lambda: wire.request("/file?size=9").status == 200,
              what="room again")
    assert server.modules("file") == [module]
    assert server.workers() == [worker]


def test_a_door_that_finds_no_room_comes_later(cardea):
    """A module's return while the worker's table is full: the worker stays,
    and has the door when there is room."""
    server = cardea(CONF, prefix=SMALL)
    (worker,), (module,) = server.workers(), server.modules("hello")
    with server.wire() as wire:
        assert wire.request("/hello").status == 200
        others = fill_table(server, worker)
        start = server.lines()
        os.kill(module, 9)
        # What the dead door leaves free is taken by those who wait, so the
        # new one finds no room.
        server.wait_log(r"event=door-lost module=hello .*count=[2-9]",
                        start=start)
        assert wire.request("/sleep?ms=0").status == 200
        assert wire.request("/hello").status == 503
        assert_idle(worker, server.keeper())
        for other in others:
            other.close()
        until(lambda: wire.request("/hello").status == 200,
              what="the door's coming")
    assert server.workers() == [worker]


def test_a_door_with_a_full_table_does_not_spin(build, folder):
    """The program's own table: callers wait at its name, and are heard when
    there is room."""
    path = os.path.join(folder, "plain.door")
    with subprocess.Popen(
            ["prlimit", "--nofile=16:16",
             os.path.join(build, "tests", "programs", "plain"), path],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout.readline() == b"attached\n"
            callers = []
            for _ in range(30):
                caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                caller.setblocking(False)
                try:
                    caller.connect(path)
                except BlockingIOError:
                    pass  # the queue is full as well
                callers.append(caller)
            until(lambda: len(os.listdir(f"/proc/{program.pid}/fd")) == 16,
                  what="a full table")
            assert_idle(program.pid)
            for caller in callers:
                caller.close()
            done = subprocess.run(
                [os.path.join(build, "tests", "inject", "caller"), path],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, timeout=20, check=False)
            assert done.returncode == 0, done.stderr.decode()
        finally:
            program.kill()


# Processes

def test_a_command_that_cannot_be_forked_is_503(cardea, cgroup):
    server = cardea(CONF)
    assert server.request("/shell").status == 200
    (shim,) = [p for p in server.modules("cardea-exec")
               if server.threads(p) > 1]
    group = cgroup("pids")
    put(group, "cgroup.procs", shim)
    put(group, "pids.max", server.threads(shim))
    start = server.lines()
    reply = server.request("/shell")
    assert reply.status == 503
    server.wait_log("cannot run /bin/sh: Resource temporarily unavailable",
                    start=start)
    assert server.request("/hello").status == 200
    put(group, "pids.max", "max")
    assert server.request("/shell").status == 200


def test_a_worker_that_cannot_be_forked_comes_later(cardea, cgroup):
    server = cardea("set heirs 0\n" + CONF, prefix=ONE_CPU)
    (worker,) = server.workers()
    group = cgroup("pids")
    put(group, "cgroup.procs", server.keeper())
    put(group, "pids.max", 1)
    os.kill(worker, 9)
    server.wait_log(r"event=start-failed worker=0 cause=no-start-EAGAIN")
    assert_idle(server.keeper())
    with server.wire() as wire:  # the listening socket is the keeper's
        wire.ask("/hello")
        put(group, "pids.max", "max")
        assert wire.reply().status == 200


def heirs(path):
    return control.status(path)["workers"][0]["heirs"]


def test_heirs_that_cannot_be_cloned_come_later(cardea, cgroup):
    server = cardea(CONF, prefix=ONE_CPU)
    (worker,) = server.workers()
    group = cgroup("pids")
    put(group, "cgroup.procs", server.keeper())
    path = control.path_of(server)
    until(lambda: heirs(path) == 2)
    for pid, _ in server.family():
        if os.getpgid(pid) == worker:
            put(group, "cgroup.procs", pid)
    put(group, "pids.max", 1)
    with server.wire() as wire:
        wire.ask("/hello")
        assert wire.reply().status == 200
        os.kill(worker, 9)
        server.wait_log(r"event=took-over worker=0")
        server.wait_log(r"event=no-heir worker=0 error=EAGAIN")
        wire.ask("/hello")  # by an heir that has fewer of its own
        assert wire.reply().status == 200
        put(group, "pids.max", "max")
        until(lambda: heirs(path) == 2)


# Disks

def test_a_log_on_a_full_disk_stops_nobody(cardea, small_disk):
    log = os.path.join(small_disk, "log")
    server = cardea(CONF, prefix=(
        *ONE_CPU, "sh", "-c", f'exec "$@" 2>{log}', "sh"))
    filler = fill(small_disk)
    for _ in range(200):
        assert server.request("/hello").status == 200
    assert_idle(server.keeper(), *server.workers())
    os.unlink(filler)

    def told():
        assert server.request("/hello").status == 200
        with open(log, encoding="utf-8") as f:
            return "event=log-lost lines=" in f.read()

    until(told, what="the count of lost lines")
    with open(log, encoding="utf-8") as f:
        lines = f.read().splitlines()
    # Nothing is torn but the line on which the disk was full.
    torn = [l for l in lines if l and not l.startswith("20")]
    assert torn == []


def test_a_log_into_dev_full_stops_nobody(cardea):
    server = cardea(CONF, prefix=(
        *ONE_CPU, "sh", "-c", 'exec "$@" 2>/dev/full', "sh"))
    for _ in range(50):
        assert server.request("/hello").status == 200
    assert_idle(server.keeper(), *server.workers())


def test_a_log_that_nobody_reads_stops_nobody(cardea, folder):
    fifo = os.path.join(folder, "log")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    server = cardea(CONF, prefix=(
        *ONE_CPU, "sh", "-c", f'exec "$@" 2>{fifo}', "sh"))
    with server.wire() as wire:
        for _ in range(12000):
            wire.ask("/hello")
            assert wire.reply().status == 200
    assert_idle(server.keeper(), *server.workers())
    text = bytearray()

    def read():
        try:
            text.extend(os.read(reader, 1 << 20))
        except BlockingIOError:
            pass
        return b"event=log-lost lines=" in text or (
            server.request("/hello").status != 200)

    until(read, what="the count of lost lines")
    os.close(reader)  # and a reader that leaves
    assert server.request("/hello").status == 200
    assert_idle(server.keeper())


def test_no_room_for_the_run_folder_is_a_start_that_failed(cli, folder,
                                                           small_disk):
    for i in range(60):
        try:
            os.mkdir(os.path.join(small_disk, str(i)))
        except OSError:
            break
    conf = os.path.join(folder, "cardea.conf")
    with open(conf, "w", encoding="ascii") as f:
        f.write(f"set run-folder {small_disk}/run\n"
                f"forward http 127.0.0.1:0 to files {folder}\n")
    done = cli("run", "-f", conf)
    assert done.returncode == 1
    assert done.stderr == (f"cardea: {small_disk}/run: "
                           "No space left on device\n")


def test_no_room_for_a_doors_name_hurts_that_module_only(cardea, small_disk):
    server = cardea(f"set run-folder {small_disk}/run\n" + CONF)
    assert server.request("/hello").status == 200
    made = []
    for i in range(60):
        try:
            made.append(os.path.join(small_disk, f"f{i}"))
            os.mkdir(made[-1])
        except OSError:
            made.pop()
            break
    start = server.lines()
    (module,) = server.modules("hello")
    os.unlink(f"{small_disk}/run/hello/door")
    made.append(os.path.join(small_disk, "last"))
    os.kill(module, 9)
    while not os.path.exists(made[-1]):  # takes the name's room
        try:
            os.mkdir(made[-1])
        except OSError:
            pass
    server.wait_log(r"event=output module=hello .*cannot put a door at .*"
                    r"No space left on device", start=start)
    assert server.request("/hello").status == 503
    assert server.request("/sleep?ms=0").status == 200
    for path in made:
        os.rmdir(path)
    until(lambda: server.request("/hello").status == 200, what="its return")


# Memory

def test_a_worker_out_of_memory_is_replaced(cardea, cgroup):
    """Large uploads in a group without the memory for them: the kernel kills,
    the keeper replaces, small requests are served all along and after."""
    server = cardea("""
        set body-limit 16M
        module echo { run "$PROGRAMS/echo" }
        forward http 127.0.0.1:$PORT to echo
    """, prefix=ONE_CPU)
    group = cgroup("memory")
    try:
        put(group, "memory.limit_in_bytes", 48 << 20)
    except OSError:
        put(group, "memory.max", 48 << 20)
    for pid in server.workers() + server.modules("echo"):
        put(group, "cgroup.procs", pid)
    start = server.lines()

    def upload():
        try:
            server.request("/", "POST", body=b"b" * (16 << 20))
        except (AssertionError, OSError):
            pass

    threads = [threading.Thread(target=upload, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    server.wait_log(r"event=died .*cause=signal-KILL", start=start, timeout=60)
    for thread in threads:
        thread.join(60)
    until(lambda: server.request("/", "POST", body=b"small").body == b"small",
          what="small requests")
    assert alive(server.keeper())


