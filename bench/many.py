"""The rows about idle cost, many connections, slow clients and crashes.

Each is a function of the bench (run.py) and adds its own lines.  Clients have
addresses of 127/8, another network for each crowd, so that no crowd meets the
ports of the one before.
"""

import contextlib
import json
import os
import re
import resource
import select
import subprocess
import time

import memory
import servers

ASK_LIMIT = 240.0  # for a crowd's answer to an order
CRASH_RATE = 2000  # requests a second to the app that does not crash
SLOW_KINDS = ("head", "body", "read")
SLOW_CONF = """\
set access-log off
set header-timeout 1h
set body-timeout 1h
set idle-timeout 1h
forward http 127.0.0.1:0 to {{
    map any /hello to hello
    map GET / to files "{folder}/files"
}}
module hello {{ run "{build}/examples/site/hello" }}
"""
IDLE_CONF = """\
set access-log off
set idle-timeout 1d
set workers {workers}
forward http 127.0.0.1:0 to {{
    map GET /hello to hello
}}
module hello {{ run "{build}/examples/site/hello" }}
"""
CRASH_CONF = """\
set access-log off
forward http 127.0.0.1:0 to {{
    map GET /hello to hello
    map GET /crash to crash
}}
module hello {{ run "{build}/examples/site/hello" }}
module crash {{ run "{build}/bench/app-crash" }}
"""


def limit_files():
    """Raises our own limit of descriptors, which our children inherit, as far
    as the system allows.  The limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (1 << 20, 1 << 18):
        if hard < wanted:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
                break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


class Crowd:
    """Processes of the program crowd that together hold n connections."""

    def __init__(self, bench, server, n, *more, kind="idle"):
        self.n = n
        self.parts = []
        room = limit_files() - 32
        count = -(-n // room)
        try:
            for i in range(count):
                share = n // count + (i < n % count)
                self.parts.append(subprocess.Popen(
                    [f"{bench.build}/bench/crowd", "--port",
                     str(server.port), "--connections", str(share), "--net",
                     str(bench.next_net()), "--kind", kind, *more],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            self.open = sum(self._answers("open"))
        except BaseException:
            self.close()
            raise

    def _answers(self, key):
        got = []
        for part in self.parts:
            ready, _, _ = select.select([part.stdout], [], [], ASK_LIMIT)
            line = part.stdout.readline() if ready else b""
            if not line:
                raise ValueError("the clients said nothing")
            got.append(json.loads(line)[key])
        return got

    def _order(self, orders, key):
        for part, order in zip(self.parts, orders):
            part.stdin.write(f"{order}\n".encode())
            part.stdin.flush()
        return sum(self._answers(key))

    def count(self):
        """How many the server has not ended."""
        return self._order(["count"] * len(self.parts), "open")

    def ask(self, n):
        """Asks on n connections, spread over all; how many good answers."""
        each = -(-n // len(self.parts))
        return self._order([f"ask {each}"] * len(self.parts), "good")

    def close(self):
        """Closes all connections."""
        for part in self.parts:
            part.stdin.close()
        for part in self.parts:
            try:
                part.wait(30)
            except subprocess.TimeoutExpired:
                part.kill()
                part.wait()
            part.stdout.close()


def workers_of(server):
    """Its own processes: reaper, keeper, workers and heirs, which all run its
    program."""
    name = servers.arguments(server.process.pid)[:1]
    exe = os.path.realpath(f"/proc/{server.process.pid}/exe")
    return [pid for pid in server.pids()
            if os.path.realpath(f"/proc/{pid}/exe") == exe or
            servers.arguments(pid)[:1] == name]


def role(server, pid):
    """reaper, keeper, worker, or the name of a module's program."""
    if servers.is_keeper(pid):
        return "keeper"
    if pid == server.process.pid:
        return "reaper"
    if pid in workers_of(server):
        return "worker"
    return os.path.basename(os.path.realpath(f"/proc/{pid}/exe"))


# ---- idle-pss ----

def site_conf(bench):
    """The example site's configuration, for this build and any port."""
    source = os.path.join(os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))), "examples", "site")
    folder = os.path.join(bench.folder, "site")
    if not os.path.isdir(folder):
        os.mkdir(folder)
        for name in os.listdir(source):
            os.symlink(os.path.join(source, name),
                       os.path.join(folder, name))
        os.unlink(os.path.join(folder, "cardea.conf"))
    text = servers.read_text(os.path.join(source, "cardea.conf"))
    text = text.replace("../../build/", f"{bench.build}/")
    text = re.sub(r"(?m)^(forward http) \S+", r"\1 127.0.0.1:0", text)
    path = os.path.join(folder, "cardea.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def await_processes(server, n, limit=10.0):
    """Waits until n processes run the server's program (nginx listens before
    it forks); which they are."""
    end = time.monotonic() + limit
    while len(workers_of(server)) < n:
        if time.monotonic() > end:
            raise ValueError(f"{server.name}: {len(workers_of(server))} "
                             f"processes, {n} are expected")
        time.sleep(0.01)
    return workers_of(server)


def tables_of(server):
    """Of its processes one for each descriptor table: an heir shares that of
    the worker whose group it is in."""
    own = workers_of(server)
    return [pid for pid in own
            if os.getpgid(pid) in (pid, server.process.pid)
            or os.getpgid(pid) not in own]


def idle_once(server, n):
    """PSS by role, and of the N own processes together."""
    own = await_processes(server, n)
    memory.settled(lambda: memory.add(memory.pss(pid) for pid in own))
    roles = {}
    for pid in server.pids():
        roles.setdefault(role(server, pid), []).append(memory.pss(pid))
    return {"own": memory.add(memory.pss(pid) for pid in own),
            "processes": len(own), "roles": roles,
            "files": memory.by_file(own)}


def idle_text(run):
    """Where it lies, in one sentence."""
    own = run["own"]
    files = ", ".join(f"{name} {kb}" for name, kb in
                      list(run["files"].items())[:3])
    return (f"{run['processes']} processes: anonymous {own['Pss_Anon']} kB, "
            f"shared memory {own['Pss_Shmem']} kB, files {own['Pss_File']} kB "
            f"({files}; a file's pages are shared with whoever maps it, so "
            "this share falls with the number of others)")


def idle_pss(bench):
    """Row idle-pss: what an idle server with two workers holds."""
    row = "idle-pss"
    two = {bench.server_cpu, bench.client_cpu}
    tries = {"site": lambda: servers.cardea_with(bench.build, bench.folder,
                                                 site_conf(bench), two),
             "bare": lambda: servers.cardea(bench.build, bench.folder, two)}
    if servers.nginx_program():
        tries["nginx"] = lambda: servers.nginx(bench.folder, two, workers=2)
    else:
        bench.problem("nginx: not installed, so nothing is said of it")
    runs = {name: [] for name in tries}
    for _ in range(min(bench.options.rounds, 3)):
        for name, start in tries.items():
            with bench.running(start) as server:
                mains = 1 if name == "nginx" else 2
                runs[name].append(idle_once(server, mains + len(two)))
    bench.details[row] = runs
    totals = {name: [run["own"]["Pss"] for run in some]
              for name, some in runs.items()}
    for name, what in (("site", "all of Cardea, example site"),
                       ("bare", "all of Cardea, two modules")):
        bench.add(row, what, "kB", totals[name], runs[name][0]["processes"],
                  figure=1024, goal=1536, note=f"{name}: "
                  + idle_text(runs[name][-1]))
    for kind, parts in runs["site"][-1]["roles"].items():
        bench.add(row, f"one {kind}", "kB", [
            max(one["Pss"] for one in run["roles"].get(kind, parts))
            for run in runs["site"]], len(parts))
    if "nginx" in runs:
        bench.add(row, "nginx: master and 2 workers", "kB", totals["nginx"],
                  runs["nginx"][0]["processes"], note="nginx: "
                  + idle_text(runs["nginx"][-1]))
        bench.add(row, "all of Cardea / nginx", "", [
            ours / theirs for ours, theirs in zip(totals["site"],
                                                  totals["nginx"])],
                  runs["site"][0]["processes"], goal=0.5)


# ---- idle-10k, idle-100k ----

def await_accepted(server, before, n, limit=60.0, count=memory.sockets):
    """Waits until the server holds n connections more."""
    end = time.monotonic() + limit
    while True:
        have = count(tables_of(server)) - before
        if have >= n:
            return
        if time.monotonic() > end:
            raise ValueError(f"{server.name}: only {have} of {n} connections "
                             f"were accepted within {limit:.0f} s")
        time.sleep(0.1)


def idle_many_once(bench, server, n, processes):
    """One server of so many processes, and n idle connections.  Bytes a connection: of its own
    memory when they are fresh, and after a request on each; of the kernel's,
    both ends; how many lived and answered at the end."""
    await_processes(server, processes)
    answers = server.name != "floor-park"
    user = memory.settled(lambda: memory.private(workers_of(server)))
    kernel, slabs = memory.kernel(), memory.slabs()
    fds = memory.descriptors(tables_of(server))
    began = time.monotonic()
    with contextlib.closing(Crowd(bench, server, n, "--path", "/hello",
                                  "--body", servers.BODY)) as crowd:
        await_accepted(server, fds, n, count=memory.descriptors)
        took = time.monotonic() - began
        fresh = memory.settled(lambda: memory.private(workers_of(server)))
        result = {"connections": n, "took_s": took, "before": user,
                  "fresh": (fresh - user) / n,
                  "kernel": (memory.kernel() - kernel) / n,
                  "slabs": {name: round((size - slabs.get(name, 0)) / n)
                            for name, size in memory.slabs().items()
                            if size - slabs.get(name, 0) > 8 * n},
                  "workers": processes - 1}
        if answers:
            result["first"] = crowd.ask(n)
            # A ring that served many calls at once is made anew after 10 s.
            used = memory.settled(lambda: memory.private(workers_of(server)), 60, 5)
            result["used"] = (used - user) / n
        bench.say(f"{server.name}: {n} connections within {took:.1f} s, held "
                  f"for {bench.options.hold:.0f} s")
        time.sleep(bench.options.hold)
        result["alive"] = crowd.count()
        result["good"] = crowd.ask(n) if answers else None
    return result


def idle_many(bench, n, row):
    """Rows idle-10k and idle-100k."""
    limit = limit_files()
    need = -(-n * 11 // (10 * (limit - 200)))  # a tenth for uneven shares
    workers = max(2, need)
    if need > 2:
        bench.say(f"{row}: {limit} descriptors a process are allowed and we "
                  f"may not raise that: {workers} workers instead of 2")
    two = {bench.server_cpu, bench.client_cpu}
    runs = {}

    def one(name, start, processes):
        with bench.running(start) as server:
            runs[name] = idle_many_once(bench, server, n, processes)

    one("floor-park", lambda: servers.floor_park(
        bench.build, bench.folder, need), need)
    one("cardea", lambda: servers.cardea_from(
        bench.build, bench.folder, IDLE_CONF, two, workers=workers),
        1 + workers)
    if servers.nginx_program():
        one("nginx", lambda: servers.nginx(
            bench.folder, two, workers=workers, connections=limit - 64),
            1 + workers)
    bench.details[row] = runs
    add_idle_many(bench, row, n, runs)


def add_idle_many(bench, row, n, runs):
    """The lines of these rows."""
    ours = runs["cardea"]
    slabs = ", ".join(f"{name} {size}" for name, size in sorted(
        ours["slabs"].items(), key=lambda item: -item[1])[:6])
    note = (f"{ours['workers']} workers; held {bench.options.hold:.0f} s; "
            "user memory: anonymous and shared pages of keeper and workers. "
            "Kernel: of the whole machine, both ends of each connection"
            + (f", mostly {slabs}" if slabs else ""))
    bench.add(row, "user memory a fresh connection", "B", [ours["fresh"]], n,
              figure=128, goal=128, note=note)
    bench.add(row, "user memory after a request on each", "B", [ours["used"]],
              n, figure=128, goal=128)
    bench.add(row, "connections lost while idle", "", [n - ours["alive"]], n,
              figure=0)
    bench.add(row, "connections without a good answer at the end", "",
              [n - ours["good"]], n, figure=0)
    for name, run in runs.items():
        bench.add(row, f"{name}: kernel memory, both ends", "B",
                  [run["kernel"]], n)
        if name != "cardea":
            bench.add(row, f"{name}: user memory a connection", "B",
                      [run.get("used", run["fresh"])], n)
    if "floor-park" in runs:
        floor = runs["floor-park"]
        # Half of the kernel's: the other half is the clients'.
        ends = [run["kernel"] / 2 for run in (ours, floor)]
        bench.add(row, "user + kernel, cardea / floor-park", "",
                  [(ours["used"] + ends[0]) / (floor["fresh"] + ends[1])], n,
                  goal=1.04)


# ---- slow-1000 ----

def pace(bench, server, path, seconds, rate, *more):
    """An open loop beside whatever else happens; what it measured."""
    run = bench.program("pace", "--port", server.port, "--path", path,
                        "--rate", rate, "--seconds", seconds, "--net",
                        bench.next_net(), *more, limit=seconds + 30)
    if "requests" not in run:
        raise ValueError(f"pace: {run['stderr']}")
    return run


def honest(bench, server, seconds, rate=None):
    """What honest clients see; ValueError if one got no good answer."""
    run = pace(bench, server, "/hello", seconds, rate or bench.options.rate,
               "--body", servers.BODY)
    if run["errors"]:
        raise ValueError(f"{run['errors']} of {run['requests']} honest "
                         f"requests failed {run['stderr']}")
    return run


def slow_once(bench, n):
    """One server: honest clients alone, then with n slow ones of each kind
    hanging on."""
    files = os.path.join(bench.folder, "files")
    os.makedirs(files, exist_ok=True)
    with open(os.path.join(files, "big"), "wb") as file:
        file.write(bytes(1 << 20))
    seconds = 3 if bench.options.quick else 8
    crowds = []
    with bench.running(lambda: servers.cardea_from(
            bench.build, bench.folder, SLOW_CONF)) as server:
        try:
            honest(bench, server, 1)  # warm
            result = {"alone": honest(bench, server, seconds), "bytes": {}}
            # Heirs share their worker's: each table counts once.
            base = memory.settled(lambda: memory.sockets(tables_of(server)))
            for kind in SLOW_KINDS:
                before = memory.private(server.pids())
                crowds.append(Crowd(bench, server, n, "--path",
                                    "/big" if kind == "read" else "/hello",
                                    kind=kind))
                await_accepted(server, base, n * len(crowds))
                after = memory.settled(
                    lambda: memory.private(server.pids()), limit=3)
                result["bytes"][kind] = (after - before) / n
            result["slow"] = honest(bench, server, seconds)
            result["held"] = [crowd.count() for crowd in crowds]
            result["server_holds"] = memory.sockets(tables_of(server)) - base
        finally:
            for crowd in crowds:
                crowd.close()
        result["after"] = honest(bench, server, seconds)
    return result


def slow_1000(bench, n=1000):
    """Row slow-1000: slow clients of each kind, and what honest ones see."""
    row = "slow-1000"
    runs = [slow_once(bench, n)
            for _ in range(1 if bench.options.quick else 3)]
    bench.details[row] = runs
    held = [min(run["server_holds"], sum(run["held"])) for run in runs]
    done = sum(run["slow"]["requests"] for run in runs)
    bench.add(row, "honest p99 beside them", "ms",
              [run["slow"]["p99_us"] / 1e3 for run in runs], done, figure=50,
              strict=True, note=f"open loop, {bench.options.rate:.0f} a "
              "second; servers and clients not pinned; latencies count from "
              "when a request was due; all failures would be reported")
    for which in ("alone", "slow", "after"):
        for key in ("p50", "p99", "max"):
            if (which, key) != ("slow", "p99"):
                bench.add(row, f"honest {key}, {which}", "ms", [
                    run[which][f"{key}_us"] / 1e3 for run in runs],
                          sum(run[which]["requests"] for run in runs))
    bench.add(row, "slow clients that were cut", "",
              [n * len(SLOW_KINDS) - one for one in held],
              n * len(SLOW_KINDS) * len(runs), figure=0)
    for kind in SLOW_KINDS:
        bench.add(row, f"user memory a slow {kind}", "B",
                  [run["bytes"][kind] for run in runs], n, goal=4096)


# ---- crash-loop ----

def crash_once(bench, server):
    """The good app alone, then beside one that dies in every call."""
    seconds = 6
    alone = honest(bench, server, seconds, CRASH_RATE)
    with subprocess.Popen(
            [f"{bench.build}/bench/pace", "--port", str(server.port),
             "--path", "/crash", "--rate", "100", "--seconds",
             str(seconds + 0.5), "--connections", "32", "--fresh", "--net",
             str(bench.next_net())], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL) as caller:
        beside = honest(bench, server, seconds, CRASH_RATE)
        said, _ = caller.communicate(timeout=60)
    return {"alone": alone, "beside": beside, "calls": json.loads(said)}


def crash_loop(bench):
    """Row crash-loop: an app that always dies, and its neighbour."""
    row = "crash-loop"
    runs = []
    with bench.running(lambda: servers.cardea_from(
            bench.build, bench.folder, CRASH_CONF)) as server:
        honest(bench, server, 1)  # warm
        for _ in range(3 if bench.options.quick else 7):
            runs.append(crash_once(bench, server))
        deaths = servers.read_text(server.err).count(
            "event=died module=crash")
    bench.details[row] = {"rounds": runs, "deaths": deaths}
    calls = sum(run["calls"]["requests"] for run in runs)
    done = sum(run["beside"]["requests"] for run in runs)
    bench.add(row, "p99 of the other app, beside / alone", "", [
        run["beside"]["p99_us"] / run["alone"]["p99_us"] for run in runs],
              done, figure=1.2, note=f"{calls} calls, {deaths} deaths; "
              f"open loop, {CRASH_RATE} a second; not pinned; "
              "alone and beside take turns")
    for which in ("alone", "beside"):
        for key in ("p50", "p99", "max"):
            bench.add(row, f"{key} of the other app, {which}", "ms",
                      [run[which][f"{key}_us"] / 1e3 for run in runs], done)
    if deaths == 0:
        bench.problem(f"{row}: the app never died, so this says nothing")

