"""The rows about growth (docs/growth.md): a cold burst of forked copies and one
under a CPU quota, calls that compute, apps that nobody calls, and short calls
beside long ones."""

import concurrent.futures
import contextlib
import os
import shutil
import statistics
import time

import memory
import python
import servers

BURST = 200
CPUS = len(os.sched_getaffinity(0))
SLEEP = '''import time

def application(environ, start_response):
    time.sleep(0.1)
    start_response("200 OK", [("Content-Type", "text/plain"),
                              ("Content-Length", "5")])
    return [b"done\\n"]
'''
WORK = """\
set access-log off
module app {{ run "{build}/bench/app-work {kind}"; {options} }}
forward http 127.0.0.1:0 to app
"""
MANY = """\
set access-log off
forward http 127.0.0.1:0 to {{
{maps}}}
{modules}"""
NODE = '''const cluster = require("cluster"), http = require("http");
if (cluster.isPrimary) {
    for (let i = 0; i < %d; i++) cluster.fork();
} else {
    http.createServer((request, response) => {
        const query = new URL(request.url, "http://a").searchParams;
        const end = performance.now() + Number(query.get("us")) / 1000;
        while (performance.now() < end) ;
        setTimeout(() => response.end("done\\n"), Number(query.get("ms")));
    }).listen(%d, "127.0.0.1");
}
'''
# Of all calls, what they do, in the proportions of the figure.
CLASSES = (("short", 0.90, "/?us=50"), ("waits", 0.09, "/?ms=5"),
           ("long", 0.01, "/?us=20000"))
# CPU microseconds that one of them takes on average, and some for the rest.
MEAN_US = 0.90 * 50 + 0.01 * 20000 + 100


def work(bench, kind, options="", cpus=None):
    server = servers.cardea_from(bench.build, bench.folder, WORK, cpus,
                                 kind=kind, options=options)
    python.ask(server.port, "/")
    return server


def burst(bench, server):
    run = bench.program("load", "--port", server.port, "--burst", BURST,
                        "--path", "/?ms=100", "--body", "done\n", limit=60)
    if run["status"] or run["requests"] != BURST:
        raise ValueError(f"burst: {run['errors']} errors {run['stderr']}")
    return run


def burst_copies(bench):
    """Row burst-copies: many blocking calls at once to a cold Python app."""
    row, runs = "burst-copies", []
    python.write_app(bench, SLEEP)
    for _ in range(bench.options.rounds):
        server = python.cardea(bench)
        try:
            runs.append([burst(bench, server)["seconds"] * 1000
                         for _ in range(2)])
        finally:
            server.stop()
    done = BURST * len(runs)
    bench.details[row] = {"rounds": runs}
    bench.add(row, "last answer of a cold burst", "ms",
              [run[0] for run in runs], done, figure=800,
              note=f"{BURST} calls of 100 ms to a Python application at once")
    bench.add(row, "last answer of the second burst", "ms",
              [run[1] for run in runs], done, figure=800)


# ---- a quota ----

@contextlib.contextmanager
def quota(percent):
    """A control group with so much of one CPU, of either version."""
    one = "/sys/fs/cgroup/cpu"
    two = "/sys/fs/cgroup"
    first = os.path.exists(f"{one}/cpu.cfs_quota_us") or os.path.exists(
        f"{one}/cpu.shares")
    folder = f"{one if first else two}/cardea-bench-{os.getpid()}"
    try:
        os.mkdir(folder)
    except OSError as error:
        raise ValueError(f"no control group can be made: {error}") from None
    try:
        name, text = ("cpu.cfs_quota_us", f"{percent * 1000}") if first else \
            ("cpu.max", f"{percent * 1000} 100000")
        with open(f"{folder}/{name}", "w", encoding="ascii") as file:
            file.write(text)
        yield folder
    except OSError as error:
        raise ValueError(f"no quota can be set: {error}") from None
    finally:
        end = time.monotonic() + 10
        while os.path.exists(folder) and time.monotonic() < end:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
            time.sleep(0.05)


def enter(folder, pids):
    for pid in pids:
        with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(pid))


def quota_once(bench, kind):
    """[p99 slowly, p99 at once] in ms, all of the server in half a CPU."""
    with quota(50) as folder:
        server = servers.cardea_from(bench.build, bench.folder, WORK, None,
                                     kind=kind, options="")
        try:
            enter(folder, server.pids())
            python.ask(server.port, "/")
            # Slowly: one call at a time, as many.
            slow = bench.program("load", "--port", server.port,
                                 "--connections", 1, "--seconds", 5,
                                 "--path", "/?ms=100", "--body", "done\n")
            run = burst(bench, server)
            return [slow["p99_us"] / 1000, run["p99_us"] / 1000,
                    slow["requests"] + BURST]
        finally:
            server.stop()


def burst_quota(bench):
    """Row burst-quota: the burst in a group that has half a CPU."""
    row = "burst-quota"
    for kind in ("threads", "copies"):
        runs = [quota_once(bench, kind)
                for _ in range(min(bench.options.rounds, 5))]
        bench.details[f"{row}-{kind}"] = {"rounds": runs}
        done = sum(run[2] for run in runs)
        bench.add(row, f"{kind}: p99 of calls one by one", "ms",
                  [run[0] for run in runs], done)
        bench.add(row, f"{kind}: p99 at once / one by one", "",
                  [run[1] / run[0] for run in runs], done, figure=3)


# ---- calls that compute ----

def n_serving(server, kind):
    """Threads or copies of the app that serve."""
    apps = [pid for pid in server.pids()
            if "app-work" in servers.arguments(pid)[0]]
    return servers.thread_count(apps[0]) - 1 if kind == "threads" \
        else len(apps) - 1


def cpu_once(bench, kind, options):
    server = work(bench, kind, options)
    try:
        run = bench.program("load", "--port", server.port, "--connections",
                            64, "--seconds", bench.options.seconds,
                            "--warmup", 1, "--path", "/?us=5000", "--body",
                            "done\n")
        if run["errors"]:
            raise ValueError(f"{run['errors']} errors")
        return {"rate": run["requests"] / run["seconds"],
                "requests": run["requests"],
                "n": n_serving(server, kind)}
    finally:
        server.stop()


def cpu_64(bench):
    """Row cpu-64: beside the same with as many copies as there are CPUs."""
    row = "cpu-64"
    for kind in ("threads", "copies"):
        runs = [(cpu_once(bench, kind, ""),
                 cpu_once(bench, kind, f"ceiling {CPUS}"))
                for _ in range(bench.options.rounds)]
        bench.details[f"{row}-{kind}"] = {"rounds": runs}
        done = sum(own["requests"] for own, _ in runs)
        bench.add(row, f"{kind} that there are", "",
                  [own["n"] for own, _ in runs], done, figure=CPUS + 1,
                  note="64 connections, calls that compute 5 ms")
        bench.add(row, f"{kind}: ideal rate / rate", "",
                  [ideal["rate"] / own["rate"] for own, ideal in runs], done,
                  figure=1 / 0.95)
        bench.add(row, f"{kind}: rate / (CPUs / 5 ms)", "",
                  [own["rate"] * 0.005 / CPUS for own, _ in runs], done)


# ---- apps that nobody calls ----

def many_conf(bench, n):
    maps = "".join(f"    map GET /{i} to a{i}\n" for i in range(n))
    modules = "".join(f'module a{i} {{ run "{bench.build}/bench/app-work '
                      f'copies"; floor 0; idle 1h }}\n' for i in range(n))
    return MANY.replace("{maps}", maps.replace("{", "{{")).replace(
        "{modules}", modules.replace("{", "{{").replace("}", "}}"))


def many_once(bench, n):
    server = servers.cardea_from(bench.build, bench.folder,
                                 many_conf(bench, n))
    try:
        for i in range(5):
            python.ask(server.port, f"/{i}")
        # The copies leave, their parents stay.
        end = time.monotonic() + 30
        while copies_of(server) > 5 and time.monotonic() < end:
            time.sleep(0.2)
        run = {"pss": memory.settled(
            lambda: memory.add(memory.pss(p) for p in server.pids())["Pss"],
            limit=20)}
        pids = server.pids()
        run["wakes"] = sum(voluntary(p) for p in pids)
        time.sleep(3)
        run["wakes"] = (sum(voluntary(p) for p in pids) - run["wakes"]) / 3
        wakes = []
        for i in range(5):
            begun = time.monotonic()
            python.ask(server.port, f"/{i}")
            wakes.append((time.monotonic() - begun) * 1000)
        run["wake_ms"] = statistics.median(wakes)
        return run
    finally:
        server.stop()


def copies_of(server):
    return sum("app-work" in servers.arguments(pid)[0]
               for pid in server.pids())


def voluntary(pid):
    return servers.status_number(f"/proc/{pid}/status",
                                 "voluntary_ctxt_switches") or 0


def parked_500(bench):
    """Row parked-500: 500 apps are configured, and 5 are called."""
    row = "parked-500"
    runs = [(many_once(bench, 500), many_once(bench, 5))
            for _ in range(min(bench.options.rounds, 3))]
    bench.details[row] = {"rounds": runs}
    bench.add(row, "memory, 500 apps / 5 apps", "",
              [a["pss"] / b["pss"] for a, b in runs], 10, figure=1.1,
              note="PSS of all processes; five apps are called in both")
    bench.add(row, "memory of a parked app", "kB",
              [(a["pss"] - b["pss"]) / 495 for a, b in runs], 10, figure=2)
    bench.add(row, "wakes a second more than with 5 apps", "",
              [a["wakes"] - b["wakes"] for a, b in runs], 10)
    bench.add(row, "first answer with a warm parent", "ms",
              [a["wake_ms"] for a, _ in runs], 5 * len(runs), figure=50)


# ---- short calls beside long ones ----

def node(bench):
    port = servers.free_port()
    path = os.path.join(bench.folder, "cluster.js")
    with open(path, "w", encoding="utf-8") as file:
        file.write(NODE % (CPUS, port))
    server = servers.Server("node", [shutil.which("node"), path],
                            bench.folder, None, port)
    python.ask(server.port, "/")
    return server


def mixed_once(bench, server, seconds):
    """{class: p99 in ms} at 70 % of what the CPUs can do."""
    rate = 0.7 * CPUS * 1e6 / MEAN_US
    try:
        for _ in range(2):  # the first one warms it up
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                jobs = {name: pool.submit(
                    bench.program, "pace", "--port", server.port, "--path",
                    path, "--body", "done\n", "--rate", round(rate * part),
                    "--seconds", seconds, "--connections", 200,
                    limit=seconds + 60)
                    for name, part, path in CLASSES}
                runs = {name: job.result() for name, job in jobs.items()}
        return {name: run["p99_us"] / 1000 for name, run in runs.items()} | {
            "requests": sum(run["requests"] for run in runs.values()),
            "errors": sum(run["errors"] for run in runs.values())}
    finally:
        server.stop()


def mixed(bench):
    """Row mixed: beside Node's cluster with a process for each CPU."""
    row = "mixed"
    if not shutil.which("node"):
        raise ValueError("node is not installed")
    runs = [(mixed_once(bench, work(bench, "threads"), 5),
             mixed_once(bench, node(bench), 5))
            for _ in range(min(bench.options.rounds, 5))]
    bench.details[row] = {"rounds": runs}
    done = sum(own["requests"] for own, _ in runs)
    for which, name in enumerate(("cardea", "node")):
        bench.add(row, f"{name}: p99 of short calls", "ms",
                  [pair[which]["short"] for pair in runs], done,
                  note=f"errors: {sum(pair[which]['errors'] for pair in runs)}")
    bench.add(row, "p99 of short calls, cardea / node", "",
              [own["short"] / theirs["short"] for own, theirs in runs], done,
              figure=0.5)
