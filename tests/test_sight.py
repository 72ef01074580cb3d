"""What people see of a running server: log, why, top."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
import urllib.parse
import urllib.request

import pytest

from lib import control
from lib.server import free_port, stat_of, until

SITE = """
    module hello { run "$PROGRAMS/hello" }
    module sleepy { run "$PROGRAMS/sleep"; timeout 1s }
    module crash { run "$PROGRAMS/crash" }
    forward http 127.0.0.1:$PORT to {
        map any / to hello
        map any /sleep to sleepy
        map any /crash to crash
        map any /none to "$DIR/none.door"
    }
"""


@pytest.fixture
def server(cardea):
    return cardea(SITE)


def verb(server, *words, expect=0):
    done = subprocess.run(
        [os.path.join(server.build, "cardea"), words[0], "-f", server.conf, *words[1:]],
        capture_output=True, text=True, timeout=30, env=server.environment)
    assert done.returncode == expect, (words, done.stdout, done.stderr)
    return done.stdout if expect == 0 else done.stderr


def failed(server, target):
    """The id that the error page of TARGET shows."""
    reply = server.request(target)
    assert reply.status >= 500
    return reply.get("x-request-id")


# --- log -----------------------------------------------------------------


def test_the_log_can_be_read_again(server):
    server.request("/")
    lines = verb(server, "log").splitlines()
    for event in ("start", "ready", "door-open", "request"):
        assert any(f" event={event} " in line for line in lines), event
    # The keeper's own; what workers write comes by pipes, a moment later.
    own = [line for line in lines if " event=request " not in line]
    assert own == sorted(own, key=lambda line: line[:24])
    only = verb(server, "log", "--module", "hello").splitlines()
    assert only and all("module=hello" in line for line in only)
    assert verb(server, "log", "--event", "nothing") == ""
    ready = [json.loads(line) for line in verb(
        server, "log", "--json", "--event", "ready",
        "--module", "hello").splitlines()]
    assert len(ready) == 1 and ready[0]["pid"] > 0
    assert "no level loud" in verb(server, "log", "--level", "loud",
                                   expect=64)


def test_the_log_can_be_followed(server):
    with subprocess.Popen(
            [os.path.join(server.build, "cardea"), "log", "-f", server.conf, "--follow", "--event",
             "request"], stdout=subprocess.PIPE, text=True,
            env=server.environment) as follower:
        for i in range(5):
            server.request(f"/follow{i}")
            while f"/follow{i} " not in follower.stdout.readline():
                pass
        server.stop()
        assert follower.wait(15) == 0


def test_a_follower_that_does_not_read_holds_up_nobody(server):
    with control.connect(control.path_of(server)) as s:
        s.sendall(b"log follow\n")
        with server.wire() as wire:
            for _ in range(4000):
                assert wire.request("/").status == 200
        # It is still there, and gets the latest whole lines.
        text = b""
        while b"/last " not in text:
            if b"\n" in text:
                server.request("/last")
            text = text[-4096:] + s.recv(65536)
        for line in text.split(b"\n")[1:-1]:
            assert re.match(rb"20\d\d-\S+Z level=\w+ event=", line), line


def test_failures_are_remembered_without_a_log_of_accesses(cardea):
    server = cardea("set access-log off\n" + SITE)
    assert server.request("/").status == 200
    request = failed(server, "/none")
    # The worker's line comes to the keeper after the answer to us.
    until(lambda: request in verb(server, "log", "--event", "request"),
          what="the line")
    told = verb(server, "log", "--event", "request").splitlines()
    # A good one is there only if it was late, on a busy machine.
    assert [line for line in told if not re.search(
        r"queue_ms=\d{3}|total_ms=\d{4}", line)] in (
            [], [line for line in told if request in line])
    assert sum(request in line for line in told) == 1
    assert not any("event=request" in line for line in server.log)


# --- why -----------------------------------------------------------------


def test_why_tells_of_three_different_failures(server):
    cases = {
        failed(server, "/none"): ("no-door", "the program had no open door"),
        failed(server, "/sleep?ms=3000"): (
            "deadline", "no answer came within the module's time"),
        failed(server, "/crash?now=1"): (
            "crash", "the program ended, or closed its door"),
    }
    for request, (cause, sentence) in cases.items():
        text = verb(server, "why", request)
        assert f"cause {cause}: {sentence}" in text
        assert "at that moment: " in text
        told = json.loads(verb(server, "why", "--json", request))
        assert told["request"]["cause"] == cause
        assert told["request"]["meaning"].startswith(sentence)
    crash = [i for i, (cause, _) in cases.items() if cause == "crash"][0]
    until(lambda: "died cause=" in verb(server, "why", crash))


def test_why_tells_what_became_of_a_module(server):
    failed(server, "/crash?now=1")
    server.wait_log(r"event=died module=crash")
    text = verb(server, "why", "crash")
    assert text.startswith("module crash: ")
    assert "its requests failed so often: crash:" in text
    assert re.search(r"  [\d:.]{12} died .*cause=(signal|exit)-", text)
    told = json.loads(verb(server, "why", "--json", "crash"))
    assert told["module"]["name"] == "crash"
    assert any(e["event"] == "died" and e["meaning"] for e in told["events"])
    assert told["requests"][0]["cause"] == "crash"
    assert "no module nobody" in verb(server, "why", "nobody", expect=1)
    assert "remembers no request" in verb(server, "why", "0" * 16, expect=1)


def test_a_late_answer_is_explained_by_its_times(server):
    reply = server.request("/sleep?ms=700")
    assert reply.status == 200
    server.wait_log(r"event=request .*module=sleepy")
    line = json.loads(verb(server, "log", "--json", "--event",
                           "request").splitlines()[-1])
    told = json.loads(verb(server, "why", "--json", line["id"]))["request"]
    assert told["run_ms"] >= 700 > told["queue_ms"]
    text = verb(server, "why", line["id"])
    assert "nothing went wrong" in text
    assert f"taken by process or thread {told['copy']}\n" in text
    (pid,) = server.modules("sleep")
    assert str(told["copy"]) in os.listdir(f"/proc/{pid}/task")


# --- ends of copies -------------------------------------------------------


def assert_is_told(server, app, pid, cause, request):
    """The end of a copy, or of a command: event, counters, why."""
    server.wait_log(rf" event=copy-ended module={app} pid={pid} cause={cause} "
                    rf"request={request} text=")
    reason = re.sub("-.*", "", cause)
    status = json.loads(verb(server, "status", "--json"))
    ends = [m["copy_ends"] for m in status["modules"] if m["name"] == app][0]
    assert {why: n for why, n in ends.items() if n} == {reason: 1}
    assert f"  copies ended: {reason} 1\n" in verb(server, "status")
    assert f'cardea_copy_ends_total{{app="{app}",reason="{reason}"}} 1\n' in \
        verb(server, "metrics")
    for word in (app, request):
        text = verb(server, "why", word)
        assert re.search(rf"copy-ended pid={pid} cause={cause} ", text), text
    assert f"its copies ended so often: {reason}:1\n" in \
        verb(server, "why", app)


def test_why_tells_of_each_process(cardea):
    server = cardea("""
        set workers 1
        module app { run "$PROGRAMS/copies" }
        forward http 127.0.0.1:$PORT to app
    """)
    copy, _, parent, _ = map(int, server.request("/").text.split())
    lines = re.findall(r"^  process (\d+) (.*), with (\d+) threads and \d+ KB; "
                       r"started (\S+) by the (\w+)(?:: (.*))?$",
                       verb(server, "why", "app"), re.M)
    found = {int(pid): rest for pid, *rest in lines}
    assert found[parent][3:] == [
        "keeper", "the configuration has it, and it is to be there at once"]
    assert found[copy][3] == "module"
    assert found[copy][:2] == ["waits", "1"]
    told = json.loads(verb(server, "why", "--json", "app"))["processes"]
    assert {parent, copy} <= {p["pid"] for p in told}
    assert all(abs(p["started_s"] - time.time()) < 600 for p in told)


def age(pid):
    """Of a process, in whole seconds."""
    with open("/proc/uptime", encoding="ascii") as f:
        up = float(f.read().split()[0])
    return int(up - stat_of(pid)[3] / os.sysconf("SC_CLK_TCK"))


def test_why_tells_that_a_module_grew(cardea):
    server = cardea("""
        set workers 1
        module app { run "$PROGRAMS/copies" }
        forward http 127.0.0.1:$PORT to app
    """)
    first, _, parent, _ = map(int, server.request("/").text.split())
    until(lambda: age(parent) > 2)  # the first copies came with it
    wires = [server.wire() for _ in range(6)]
    for wire in wires:
        wire.ask("/?ms=1500")
    pids = {int(wire.reply().text.split()[0]) for wire in wires}
    grown = server.wait_log(r"event=grew module=app copies=(\d+) was=(\d+) "
                            r"in_flight=\d+ calls=\d+ queue_ms=[\d.]+$")
    assert 1 == int(grown.group(2)) < int(grown.group(1))
    told = {p["pid"]: p for p in json.loads(
        verb(server, "why", "--json", "app"))["processes"]}
    assert pids <= told.keys()
    for pid in pids - {first}:
        assert told[pid]["start"]["event"] == "grew"
    assert any(f"process {pid} " in line and line.endswith(
        "by the module: calls waited and no copy was free: more were started")
        for pid in pids for line in verb(server, "why", "app").splitlines())


def test_why_tells_why_a_process_was_started(cardea):
    server = cardea("""
        module app { run "$PROGRAMS/copies"; idle 1s }
        module other { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to { map GET / to app
                                          map GET /h to other }
    """)
    server.wait_log("event=start module=other pid=[0-9]+ why=configured$")
    assert server.request("/").status == 200
    server.wait_log("event=start module=app pid=[0-9]+ why=called$")
    (pid,) = server.modules("hello")
    os.kill(pid, signal.SIGKILL)
    server.wait_log("event=start module=other pid=[0-9]+ why=ended$")
    assert re.search(r"process \d+ .* by the keeper: the process before it had "
                     r"ended$", verb(server, "why", "other"), re.M)
    server.wait_log("event=parked module=app")
    assert server.request("/").status == 200
    server.wait_log("event=start module=app pid=[0-9]+ why=called$",
                    start=server.log.index(server.wait_log(
                        ".*event=parked module=app.*").group()))


@pytest.mark.parametrize("query, cause", [
    ("ms=60000", "deadline"), ("signal=10", "signal-USR1"),
    ("exit=3", "exit-3")])
def test_the_end_of_a_copy_is_told(cardea, query, cause):
    server = cardea("""
        module app { run "$PROGRAMS/copies"; timeout 700ms }
        forward http 127.0.0.1:$PORT to { map POST / to app; map GET / to app }
    """)
    reply = server.request("/?" + query, method="POST", body=b"x")
    assert reply.status == (504 if cause == "deadline" else 502)
    request = reply.get("X-Request-Id")
    pid = server.wait_log(rf"event=copy-ended .*pid=(\d+) cause={cause}"
                          ).group(1)
    assert_is_told(server, "app", pid, cause, request)
    assert server.request("/").status == 200


def test_a_thread_past_its_time_is_told(cardea):
    """It cannot be killed, as others serve beside it: it is in sight."""
    server = cardea("""
        module app { run "$PROGRAMS/sleep"; timeout 300ms }
        forward http 127.0.0.1:$PORT to app
    """)
    assert server.request("/?ms=600000").status == 504

    def told(*words):
        return verb(server, *words)

    until(lambda: sample(told("metrics"), "cardea_copies", app="app",
                         state="stuck") == 1)
    assert sample(told("metrics"), "cardea_copies", app="app",
                  state="busy") == 0
    module, = json.loads(told("status", "--json"))["modules"]
    assert module["stuck"] == 1
    assert "  stuck: 1 calls run on after their time\n" in told("status")
    assert re.search(r"^app .* 1 stuck$", told("top"), re.M)
    assert "1 of them are stuck" in told("why", "app")
    # Others are served beside it.
    assert server.request("/?ms=1").status == 200


def test_a_command_past_its_time_is_told(cardea):
    server = cardea("""
        module app { exec plain "sleep 1234567"; timeout 700ms }
        forward http 127.0.0.1:$PORT to app
    """)
    reply = server.request("/")
    assert reply.status == 504
    pid = server.wait_log(r"event=copy-ended .*pid=(\d+) cause=deadline"
                          ).group(1)
    assert not os.path.exists(f"/proc/{pid}")
    request = re.search(r"Request id: (\w+)", reply.text).group(1)
    assert_is_told(server, "app", pid, "deadline", request)


# --- top -----------------------------------------------------------------


class Terminal:
    """A program on a terminal of 80 columns and 24 lines: what it shows."""

    def __init__(self, words, environment):
        pid, self.fd = pty.fork()
        if pid == 0:
            os.execvpe(words[0], words, dict(environment, TERM="xterm"))
        self.pid = pid
        self.resize(24, 80)
        self.text = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ,
                    struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self, pattern, limit=15):
        """Until the last whole screen has PATTERN; that screen."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.5)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode()
                except OSError:
                    break
            for screen in self.text.split("\x1b[H")[1:]:
                if re.search(pattern, screen):
                    return screen
        raise AssertionError(f"no {pattern!r} in {self.text!r}")

    def key(self, key):
        self.text = ""
        os.write(self.fd, key.encode())

    def end(self):
        """The exit status, and all that was shown to the end."""
        status = os.waitpid(self.pid, 0)[1]
        while select.select([self.fd], [], [], 0.2)[0]:
            try:
                part = os.read(self.fd, 65536)
            except OSError:
                break
            if not part:
                break
            self.text += part.decode()
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_top_shows_copies_grow_and_takes_keys(server):
    server.request("/sleep?ms=1")
    top = Terminal([os.path.join(server.build, "cardea"), "top", "-f", server.conf],
                   server.environment)
    try:
        screen = top.wait(r"sleepy +1 +1 ")
        lines = screen.splitlines()
        assert len(lines) <= 24
        assert all(len(re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", line)) <= 80
                   for line in lines)
        wires = [server.wire() for _ in range(9)]
        for wire in wires:
            wire.send(b"GET /sleep?ms=900 HTTP/1.1\r\nHost: a\r\n\r\n")
        top.wait(r"sleepy +grew: new high-water mark [89]|1\d")
        for wire in wires:
            assert wire.reply().status == 200
            wire.close()
        top.wait(r"sleepy +\d+ +(9|1\d) ")
        failed(server, "/crash?now=1")
        top.wait(r"crash failed 1 requests: cardea why crash")
        top.key("n")
        screen = top.wait(r"by name ")
        assert screen.index("crash") < screen.index("hello") < screen.index(
            "sleepy")
        top.key("h")
        top.wait(r"by name, HELD")
        top.key("h")
        top.wait(r"by name  sort")
        top.resize(12, 100)
        top.wait(r"\x1b\[J")
    finally:
        top.key("q")
        status = top.end()
    assert status == 0
    assert top.text.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")


def test_top_without_a_terminal_prints_one_table(server):
    text = verb(server, "top")
    assert "\x1b" not in text
    assert re.search(r"^NAME +COPIES +HIGH +BUSY +QUEUE ", text, re.M)
    # A program's first thread may come a moment after its door.
    until(lambda: re.search(r"^hello +1 +1 +0 +0 ", verb(server, "top"), re.M),
          what="a copy")
    state = json.loads(verb(server, "top", "--json"))
    assert state["server"]["pid"] == server.pid
    assert {t["name"] for t in state["targets"]} >= {"hello", "sleepy"}
    assert len(verb(server, "top", "--json", "--time",
                    "2s").splitlines()) in (2, 3)


def test_numbers_count_the_memory_of_descendants(server):
    _, body = control.ask(control.path_of(server), "numbers")
    hello = next(line for line in body.splitlines() if " name=hello " in line)
    assert int(re.search(r" processes=(\d+)", hello).group(1)) == 1
    assert int(re.search(r" rss_kb=(\d+)", hello).group(1)) > 500


# --- metrics -------------------------------------------------------------

METRICS = SITE + """
    module metrics { exec "$BUILD/cardea metrics -f $DIR/cardea.conf" }
    forward http 127.0.0.1:0 to metrics
"""


def page_of(server):
    _, body = control.ask(control.path_of(server), "numbers")
    return re.findall(r" event=listener url=(\S+)", body)[-1]


def sample(text, name, **labels):
    """The value of one sample of the text format."""
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if match and match.group(1) == name and all(
                f'{k}="{v}"' in (match.group(2) or "")
                for k, v in labels.items()):
            return float(match.group(3))
    return None


def scrape(url):
    with urllib.request.urlopen(url, timeout=15) as reply:
        assert reply.headers["Content-Type"].startswith(
            "text/plain; version=0.0.4")
        return reply.read().decode()


def test_metrics_count_what_happened(cardea):
    server = cardea(METRICS)
    url = page_of(server)
    for _ in range(3):
        server.request("/")
    server.request("/sleep?ms=300")
    failed(server, "/crash?now=1")
    text = scrape(url)
    assert sample(text, "cardea_requests_total", app="hello",
                  code="2xx") == 3
    assert sample(text, "cardea_request_errors_total", app="crash",
                  reason="crash") == 1
    assert sample(text, "cardea_copies_peak", app="sleepy") == 1
    runs = "cardea_run_seconds"
    assert sample(text, runs + "_count", app="sleepy") == 1
    assert 0.3 <= sample(text, runs + "_sum", app="sleepy") < 3
    assert sample(text, runs + "_bucket", app="sleepy", le="0.268435456") == 0
    assert sample(text, runs + "_bucket", app="sleepy", le=r"+Inf") == 1
    server.wait_log(r"event=died module=crash")
    until(lambda: sample(scrape(url), "cardea_ends_total", app="crash",
                         reason="signal-ABRT") == 2)  # a GET is tried twice
    for line in text.splitlines():
        labels = re.findall(r'(\w+)="', line.partition(" ")[0])
        assert set(labels) <= {"app", "code", "reason", "state", "worker",
                               "le", "version"}, line


def rewrite(server, text):
    """Reads TEXT as the server's configuration."""
    text = text.replace("$PROGRAMS", os.path.join(server.build, "tests", "programs"))
    with open(server.conf, "w", encoding="utf-8") as f:
        f.write(text)
    verb(server, "reload")


def test_one_line_serves_the_metrics(cardea):
    port = free_port()
    conf = """
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """.replace("$PORT", str(free_port()))
    line = f"set metrics 127.0.0.1:{port}\n"
    server = cardea(line + conf)
    url = f"http://127.0.0.1:{port}/"
    assert server.request("/").status == 200
    until(lambda: sample(scrape(url), "cardea_requests_total", app="hello",
                         code="2xx") == 1)
    # Nobody's app is in sight.
    assert "cardea-metrics" not in scrape(url)
    assert "cardea-metrics" not in verb(server, "status")
    assert [m["name"] for m in json.loads(
        verb(server, "status", "--json"))["modules"]] == ["hello"]
    # It goes, comes and moves as anything else does.
    rewrite(server, conf)
    until(lambda: not reachable(port), what="the end of the page")
    assert server.request("/").status == 200
    other = free_port()
    rewrite(server, f"set metrics 127.0.0.1:{other}\n" + conf)
    assert sample(scrape(f"http://127.0.0.1:{other}/"),
                  "cardea_requests_total", app="hello", code="2xx") == 2
    rewrite(server, line + conf)
    assert sample(scrape(url), "cardea_requests_total", app="hello",
                  code="2xx") == 2
    until(lambda: not reachable(other), what="the end of the other page")
    assert "event=died" not in "\n".join(server.log)


def reachable(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
def test_promtool_finds_nothing_wrong(cardea):
    server = cardea(METRICS)
    failed(server, "/crash?now=1")
    done = subprocess.run(["promtool", "check", "metrics"],
                          input=scrape(page_of(server)), text=True,
                          capture_output=True, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("prometheus"), reason="no Prometheus")
def test_a_real_prometheus_reads_them(cardea, folder):
    server = cardea(METRICS)
    server.request("/")
    target = page_of(server).split("//")[1].strip("/")
    config = os.path.join(folder, "prometheus.yml")
    with open(config, "w", encoding="ascii") as f:
        f.write("global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
                "scrape_configs:\n- job_name: cardea\n  metrics_path: /\n"
                f"  static_configs: [{{targets: ['{target}']}}]\n")
    port = free_port()
    with subprocess.Popen(
            ["prometheus", f"--config.file={config}",
             f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus:
        try:
            def read():
                query = urllib.parse.quote(
                    'cardea_requests_total{app="hello",code="2xx"}')
                try:
                    with urllib.request.urlopen(
                            f"http://127.0.0.1:{port}/api/v1/query"
                            f"?query={query}", timeout=5) as reply:
                        found = json.load(reply)["data"]["result"]
                except OSError:
                    return None
                return found and found[0]["value"][1] == "1"
            until(read, 30)
        finally:
            prometheus.terminate()
            prometheus.wait(30)


# --- traces --------------------------------------------------------------

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.fixture
def traced(cardea):
    return cardea("""
        module show { exec plain "/usr/bin/env" }
        forward http 127.0.0.1:$PORT to show
    """)


def parent_of(server, *fields):
    """(trace, span, flags) and state as a program got them."""
    reply = server.request("/", fields=fields)
    assert reply.status == 200
    found = re.findall(r"^HTTP_TRACEPARENT=(.*)$", reply.text, re.M)
    assert len(found) == 1, reply.text
    version, trace, span, flags = found[0].split("-")
    assert version == "00"
    state = re.findall(r"^HTTP_TRACESTATE=(.*)$", reply.text, re.M)
    request = re.search(r"^CARDEA_REQUEST_ID=(.*)$", reply.text, re.M)
    assert span == request.group(1)  # we are its caller
    # The log names the client's trace; another is found by the span, the id.
    own = not any(trace in field for field in fields)
    line = server.wait_log(rf"event=request id={span} .*").group(0)
    assert (f" trace={trace} " in line) != own
    return trace, flags, state


def test_a_trace_goes_on_in_the_program(traced):
    assert parent_of(
        traced, f"traceparent: 00-{TRACE}-{SPAN}-01",
        "tracestate: a=1,b=2") == (TRACE, "01", ["a=1,b=2"])
    assert parent_of(traced, f"TraceParent: cc-{TRACE}-{SPAN}-fe-x") == (
        TRACE, "00", [])


@pytest.mark.parametrize("fields", [
    [],
    ["traceparent: "],
    [f"traceparent: 00-{TRACE}-{SPAN}"],
    [f"traceparent: ff-{TRACE}-{SPAN}-01"],
    [f"traceparent: 00-{TRACE.upper()}-{SPAN}-01"],
    [f"traceparent: 00-{'0' * 32}-{SPAN}-01"],
    [f"traceparent: 00-{TRACE}-{SPAN}-01"] * 2,
], ids=["none", "empty", "short", "version", "upper", "zero", "two"])
def test_what_is_no_trace_begins_a_new_one(traced, fields):
    trace, flags, state = parent_of(traced, *fields, "tracestate: a=1")
    assert re.fullmatch("[0-9a-f]{32}", trace) and trace != TRACE
    assert int(trace, 16) != 0
    assert (flags, state) == ("00", [])
    assert parent_of(traced, *fields)[0] != trace


# --- probes --------------------------------------------------------------


def test_probes_are_where_tracers_look_for_them(build):
    notes = subprocess.run(["readelf", "-n", os.path.join(build, "cardea")],
                           capture_output=True, text=True, check=True).stdout
    if not any(os.path.exists(os.path.join(folder, "sys", "sdt.h"))
               for folder in ("/usr/include", "/usr/include/x86_64-linux-gnu",
                              "/usr/include/aarch64-linux-gnu")):
        pytest.skip("built without sys/sdt.h")
    found = set(re.findall(r"Provider: cardea\n\s+Name: (\w+)", notes))
    assert found == {"call", "dispatch", "return", "start", "end"}
