"""Starting, watching and stopping the servers of a bench run.

Every server is a child of the harness, started in a session of its own and
bound to the CPUs it is given; it writes to files in the run's folder, so no
pipe can fill up and block it.  Stopping sends TERM to the process that was
started and waits; only processes that were seen as its descendants are ever
signalled, each checked by its start time so that a reused number is safe.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

BODY = "Well, hello to you too!\n"
START_LIMIT = 10.0
STOP_LIMIT = 8.0


class ServerError(Exception):
    """A server did not start, or is gone."""


def read_text(path):
    """The text of a file, or "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def stat_fields(pid):
    """Fields of /proc/PID/stat after the name; None when it is gone.  Field
    0 is the state, 1 the parent, 19 the start time."""
    text = read_text(f"/proc/{pid}/stat")
    if not text:
        return None
    return text[text.rindex(")") + 2:].split()


def tree(root):
    """The numbers of root and all its living descendants, sorted."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(name)
            if fields and fields[0] not in "ZX":
                parents.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        if stat_fields(pid):
            found.append(pid)
        todo += parents.get(pid, [])
    return sorted(found)


def arguments(pid):
    """The command line of a process as a list."""
    return read_text(f"/proc/{pid}/cmdline").split("\0")[:-1]


def is_keeper(pid):
    """Cardea's keeper; its first process is the reaper."""
    return read_text(f"/proc/{pid}/comm") == "cardea-keeper\n"


def status_number(path, field):
    """A number of a /proc status file; 0 when there is none."""
    match = re.search(rf"^{field}:\s*(\d+)", read_text(path), re.MULTILINE)
    return int(match.group(1)) if match else 0


def thread_count(pid):
    """How many threads a process has now."""
    return status_number(f"/proc/{pid}/status", "Threads")


def switches(pids):
    """Involuntary switches of all living threads of these processes."""
    total = 0
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for task in tasks:
            total += status_number(f"/proc/{pid}/task/{task}/status",
                                   "nonvoluntary_ctxt_switches")
    return total


def steal_ticks():
    """Steal time of the whole machine in clock ticks."""
    return int(read_text("/proc/stat").split("\n", 1)[0].split()[8])


def rescheduling_interrupts():
    """Rescheduling interrupts of all CPUs; 0 where they are not counted."""
    for line in read_text("/proc/interrupts").splitlines():
        words = line.split()
        if words and words[0] == "RES:":
            return sum(int(word) for word in words[1:] if word.isdigit())
    return 0


class Server:
    """A server process and what it started."""

    def __init__(self, name, argv, folder, cpus=None, ready=None):
        """Starts argv, bound to cpus.  ready is a port to poll, or None: the
        server prints a line with ready url=http://127.0.0.1:PORT/ itself."""
        self.name = name
        self.left_behind = []
        self.out = os.path.join(folder, f"{name}.out")
        self.err = os.path.join(folder, f"{name}.err")

        def bind():
            if cpus is not None:
                os.sched_setaffinity(0, cpus)

        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=folder, start_new_session=True, preexec_fn=bind)
        self.port = ready
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def _await_ready(self):
        limit = time.monotonic() + START_LIMIT
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                raise ServerError(f"{self.name} ended with status "
                                  f"{self.process.returncode}: {self.tail()}")
            if self.port is None:
                match = re.search(r"^ready url=http://[^/\s]*:(\d+)/",
                                  read_text(self.out), re.MULTILINE)
                if match:
                    self.port = int(match.group(1))
            if self.port is not None and self._answers():
                return
            time.sleep(0.01)
        raise ServerError(f"{self.name} was not ready within "
                          f"{START_LIMIT:.0f} s: {self.tail()}")

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def tail(self):
        """The last lines that the server said on stderr, on one line."""
        lines = (read_text(self.err) or read_text(self.out)).splitlines()
        return " | ".join(lines[-4:]) or "it said nothing"

    def pids(self):
        """Its processes now."""
        return tree(self.process.pid)

    def stop(self):
        """Ends it with TERM; what is still there afterwards is noted in
        left_behind and killed."""
        known = [(pid, stat_fields(pid)) for pid in self.pids()]
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.left_behind.append(self.process.pid)
        limit = time.monotonic() + 1
        while self._alive(known) and time.monotonic() < limit:
            time.sleep(0.01)
        for pid in self._alive(known):
            self.left_behind.append(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    @staticmethod
    def _alive(known):
        alive = []
        for pid, born in known:
            fields = stat_fields(pid)
            if born and fields and fields[19] == born[19] \
                    and fields[0] not in "ZX":
                alive.append(pid)
        return alive


def floor_epoll(build, folder, cpus, size=0):
    """The bare epoll loop; size is the size of its answer in bytes."""
    return Server("floor-epoll", [f"{build}/bench/floor-epoll",
                                  "--bytes", str(size)], folder, cpus)


def floor_park(build, folder, processes=1):
    """The program that accepts connections and does nothing with them."""
    return Server("floor-park", [f"{build}/bench/floor-park", "--processes",
                                 str(processes)], folder)


CARDEA_CONF = """\
set access-log off
forward http 127.0.0.1:0 to {{
    map GET /hello to hello
    map GET /slow to slow
}}
module hello {{ run "{build}/examples/site/hello" }}
module slow {{ run "{build}/examples/site/slow" }}
"""


def cardea_with(build, folder, conf, cpus=None):
    """Cardea with the configuration in the file conf."""
    return Server("cardea", [f"{build}/cardea", "run", "-f", conf],
                  folder, cpus)


def cardea_from(build, folder, text, cpus=None, **more):
    """Cardea with the configuration text, in which {build}, {folder} and what
    else is given are filled in."""
    conf = os.path.join(folder, "cardea.conf")
    with open(conf, "w", encoding="utf-8") as file:
        file.write(text.format(build=build, folder=folder, **more))
    return cardea_with(build, folder, conf, cpus)


def cardea(build, folder, cpus=None):
    """Cardea with the hello and the slow app of examples/site."""
    return cardea_from(build, folder, CARDEA_CONF, cpus)


NGINX_CONF = """\
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log stderr error;
events {{
    use epoll;
    worker_connections {connections};
    multi_accept on;
}}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    tcp_nodelay on;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port} reuseport backlog=1024;
        default_type text/plain;
        return 200 "Well, hello to you too!\\n";
    }}
}}
"""


def nginx_program():
    """The path of nginx; sbin is searched too.  None if not installed."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    return shutil.which("nginx", path=path)


def free_port():
    """A port of the loopback address that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def nginx(folder, cpus=None, workers=1, connections=4096):
    """nginx that answers by itself (return 200); connections: of a worker."""
    error = None
    for _ in range(3):
        port = free_port()
        conf = os.path.join(folder, "nginx.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(NGINX_CONF.format(
                folder=folder, port=port, workers=workers,
                connections=connections, files=connections + 64))
        try:
            return Server("nginx", [nginx_program(), "-e", "stderr", "-p",
                                    folder, "-c", conf], folder, cpus, port)
        except ServerError as caught:
            error = caught
    raise error
