"""Rows about Python applications: CPU a request beside gunicorn and uWSGI, and
how long a new copy takes. All servers run the same file with the system's
interpreter, since the peers come with it."""

import glob
import os
import shutil
import socket
import statistics
import time

import servers
import stats

PYTHON = "/usr/bin/python3"
HELLO = '''BODY = b"Well, hello to you too!\\n"

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"),
                              ("Content-Length", str(len(BODY)))])
    return [BODY]
'''
# A call to /hold ends when the file is there that its query names.
HOLD = '''import os, time

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    gate = environ["QUERY_STRING"]
    while gate and not os.path.exists(gate):
        time.sleep(0.002)
    return [b"%d" % os.getpid()]
'''
CONF = """\
set access-log off
module app {{ wsgi "{folder}/app.py:application"; python "{python}" }}
forward http 127.0.0.1:0 to app
"""
STARTS = 20


def write_app(bench, text):
    with open(os.path.join(bench.folder, "app.py"), "w",
              encoding="utf-8") as file:
        file.write(text)


def cardea(bench, cpus=None):
    """Cardea with app.py; ServerError where the build has no Python."""
    if not os.path.exists(f"{bench.build}/bindings/python/cardea/"
                          "_door.abi3.so"):
        raise ValueError("this build has no Python package")
    server = servers.cardea_from(bench.build, bench.folder, CONF, cpus,
                                 python=PYTHON)
    ask(server.port, "/")  # it is ready when it answers
    return server


def peers(bench, n):
    """{name: argv with {port}} of the peers that are installed, for N
    connections."""
    found = {}
    if os.path.exists("/usr/bin/gunicorn"):
        # Its sync workers keep no connection, so more of them than CPUs do
        # not help: two, so that one can accept while one answers.
        found["gunicorn"] = [
            PYTHON, "/usr/bin/gunicorn", "-w", "2", "-b",
            "127.0.0.1:{port}", "--log-level", "error", "app:application"]
    if shutil.which("uwsgi") and glob.glob(
            "/usr/lib/uwsgi/plugins/python3*_plugin.so"):
        # A process for each connection, which it keeps: its cheapest way.
        found["uwsgi"] = [
            "uwsgi", "--plugin", "python3", "--http11-socket",
            "127.0.0.1:{port}", "--master", "--processes", str(n),
            "--disable-logging", "--die-on-term", "--wsgi-file", "app.py"]
    return found


def ask(port, target, limit=10):
    """The body of one answer on a connection of its own; tries for LIMIT
    seconds."""
    end = time.monotonic() + limit
    while True:
        sock = begin(port, target)
        try:
            return finish(sock)
        except ValueError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def begin(port, target):
    """A connection on which TARGET was asked for."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n"
                 "Connection: close\r\n\r\n".encode())
    return sock


def finish(sock):
    """The body of the answer; ValueError: none of status 200."""
    with sock:
        data = b""
        while True:
            part = sock.recv(65536)
            if not part:
                break
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"answer: {head[:60]!r}")
    return body


def start_peer(bench, name, argv):
    """One peer, or None with a problem."""
    port = servers.free_port()
    try:
        return servers.Server(name, [w.format(port=port) for w in argv],
                              bench.folder, {bench.server_cpu}, port)
    except servers.ServerError as error:
        bench.problem(str(error))
        return None


def settle(bench, server, n):
    """Loads SERVER until it needs no more processes: those that a run begins
    with must be there at its end."""
    for _ in range(5):
        before = server.pids()
        bench.program("load", "--port", server.port, "--cpu",
                      bench.client_cpu, "--connections", n, "--seconds",
                      bench.options.warmup + 0.2)
        if server.pids() == before:
            return


def wsgi_cpu(bench, n, row):
    """Row wsgi-4: CPU time a request with 4 connections, one request in flight
    on each."""
    write_app(bench, HELLO)
    found = {"cardea": cardea(bench, {bench.server_cpu})}
    options = bench.options
    try:
        for name, argv in peers(bench, n).items():
            server = start_peer(bench, name, argv)
            if server:
                found[name] = server
        for name in ("gunicorn", "uwsgi"):
            if name not in found:
                bench.problem(f"{name}: not installed, so nothing is said "
                              "of it")
        found["floor-epoll"] = servers.floor_epoll(
            bench.build, bench.folder, {bench.server_cpu})

        def one(name):
            # A copy that comes or goes spoils a run: it is played again.
            for last in (False, False, True):
                known = len(bench.problems)
                settle(bench, found[name], n)
                try:
                    return bench.load(found[name], n, options.seconds,
                                      options.warmup)
                except ValueError:
                    if last:
                        raise
                    del bench.problems[known:]
            return None

        def play():
            result = {"floor-epoll": [one("floor-epoll")]}
            for name in found:
                if name != "floor-epoll":
                    result[name] = [one(name)]
            result["floor-epoll"].append(one("floor-epoll"))
            return result

        # The floor only tells whether the machine was quiet.
        good, bad = stats.collect(
            play, options.rounds, options.max_skew / 100, "floor-epoll",
            "cpu_us", lambda text: bench.say(f"{row}: {text}"))
    finally:
        bench.stop_all(found)
    bench.details[row] = {"rounds": good, "discarded": bad,
                          "answer_bytes": 0}
    report_cpu(bench, row, good)


def report_cpu(bench, row, good):
    """The lines of wsgi_cpu()."""
    for name in ("cardea", "gunicorn", "uwsgi"):
        if any(name in one for one in good):
            bench.add_server(row, good, name, "cpu_us", "CPU a request", "us")
            bench.add_server(row, good, name, "rate", "requests a second", "")
    done = sum(run["requests"] for one in good
               for run in one.get("cardea", []))
    bench.add(row, "CPU a request, cardea / gunicorn", "",
              stats.ratios(good, "cardea", "gunicorn", "cpu_us"), done,
              figure=1 / 3, note=bench.note(row))
    bench.add(row, "CPU a request, cardea / uwsgi", "",
              stats.ratios(good, "cardea", "uwsgi", "cpu_us"), done,
              figure=1.0, strict=True)


def new_copies(bench, server):
    """Times, in ms, of calls that each found every copy busy and were answered
    by one that was made for them."""
    held, times = [], []
    gate = os.path.join(bench.folder, "gate")
    seen = set()
    try:
        for _ in range(STARTS):
            held.append(begin(server.port, f"/hold?{gate}"))
            # Asked again until the held call has its copy: one that is free
            # answers the first of these.
            for _ in range(20):
                before = time.monotonic()
                pid = int(ask(server.port, "/"))
                took = 1000 * (time.monotonic() - before)
                if pid not in seen:
                    seen.add(pid)
                    times.append(took)
                    break
                time.sleep(0.01)
        return times[1:]  # the first copy was there before
    finally:
        with open(gate, "w", encoding="ascii"):
            pass
        for sock in held:
            finish(sock)
        os.unlink(gate)


def wsgi_start(bench, row):
    """Row wsgi-start: from a request that finds all copies busy to the answer of
    the copy that is made for it. Nothing is pinned."""
    write_app(bench, HOLD)
    medians, greatest, count = [], [], 0
    for _ in range(bench.options.rounds):
        server = cardea(bench)
        try:
            times = new_copies(bench, server)
        finally:
            bench.stop_one(server)
        if len(times) < STARTS // 2:
            raise ValueError(f"only {len(times)} copies were made")
        medians.append(statistics.median(times))
        greatest.append(max(times))
        count += len(times)
    bench.details[row] = {"median_ms": medians, "max_ms": greatest}
    bench.add(row, "request to answer of a new copy, median", "ms", medians,
              count, figure=10,
              note=f"{count} copies, each made because all others were busy")
    bench.add(row, "the slowest of a round", "ms", greatest, count)
