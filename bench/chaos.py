#!/usr/bin/env python3
"""Kills servers' processes under load and counts what clients notice.

    make chaos                                    # all rows, some 10 minutes
    python3 bench/chaos.py --build build-release [--seconds N] [ROW...]

Rows: many (ten workers and their heirs, all of them aborting), one (one kept
connection with 1 MB bodies and 10,000 takeovers, odd clients beside it), gap
(from kill to answer), notice (from kill to an heir that has the crown), cost (CPU a request with heirs and without, memory of a
heir), peers (many, for nginx and HAProxy). Each row prints its denominators.
What failed goes line by line to BUILD/chaos-failed.txt, beside the servers'
logs in BUILD/chaos-logs; all numbers to BUILD/chaos.json. The exit status is 1
if a request to Cardea failed in many or one, or a row could not be measured.
"""

import argparse
import http.client
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import servers

ROWS = ("many", "one", "gap", "notice", "cost", "peers")
PROBABILITY = 0.5

CONF = """\
set access-log off
set workers {workers}
{heirs}
forward http 127.0.0.1:0 to {{ map any / to app }}
module app {{ run "{build}/bench/chaos-app" }}
"""

NGINX = """\
daemon off;
worker_processes 10;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_max_body_size 4m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream app {{ server 127.0.0.1:{backend}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""

HAPROXY = """\
global
    master-worker
    nbthread 10
    maxconn 8192
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server app 127.0.0.1:{backend}
"""


class Problem(Exception):
    """A row cannot be measured."""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Running:
    """A program whose lines go to a file: who writes to a pipe that nobody
    reads yet stands still."""

    def __init__(self, words):
        self.words = words
        self.out = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL,
                                        stdout=self.out)

    def n_lines(self, text):
        """How many lines with TEXT there are by now."""
        at = os.open(f"/proc/self/fd/{self.out.fileno()}", os.O_RDONLY)
        with open(at, encoding="utf-8", errors="replace") as file:
            return sum(text in line for line in file)

    def tell(self, signum):
        self.process.send_signal(signum)

    def wait(self, allowed=(0,)):
        """Its lines, when it has ended."""
        status = self.process.wait()
        self.out.seek(0)
        lines = self.out.read().splitlines()
        self.out.close()
        if status not in allowed or not lines:
            raise Problem(f"{self.words[0]} left with {status}")
        return lines


class Bench:
    def __init__(self, options, folder):
        self.build = os.path.abspath(options.build)
        self.options = options
        self.folder = folder
        self.results = {}
        self.logs = os.path.join(self.build, "chaos-logs")
        self.failed = os.path.join(self.build, "chaos-failed.txt")
        os.makedirs(self.logs, exist_ok=True)
        with open(self.failed, "w", encoding="ascii"):
            pass

    def program(self, name):
        return os.path.join(self.build, "bench", name)

    def cardea(self, workers, heirs=None):
        """A server, named by its configuration's path."""
        words = "" if heirs is None else f"set heirs {heirs}"
        return servers.cardea_from(self.build, self.folder, CONF,
                                   workers=workers, heirs=words)

    def keep_log(self, server, name):
        for end in ("out", "err"):
            shutil.copy(getattr(server, end),
                        os.path.join(self.logs, f"{name}.{end}"))

    def conf(self):
        return os.path.join(self.folder, "cardea.conf")

    def load(self, port, instance, seconds, **more):
        words = [self.program("chaos-load"), "--port", str(port),
                 "--instance", str(instance), "--seed", str(100 + instance),
                 "--seconds", str(seconds)]
        for name, value in more.items():
            words += ["--" + name.replace("_", "-"), str(value)]
        return Running(words)

    def gather(self, name, loads):
        """The sums of what generators said; failed requests go to the file."""
        total = {}
        for load in loads:
            lines = load.wait((0, 1))
            with open(self.failed, "a", encoding="ascii") as file:
                for line in lines[:-1]:
                    print(name, line, file=file)
            for key, value in json.loads(lines[-1]).items():
                longest = key.endswith("_ms") or key == "seconds"
                total[key] = max(total.get(key, 0), value) if longest \
                    else total.get(key, 0) + value
        return total

    def chaos(self, roles, seconds, probability, signals="abort", conf=None):
        return Running(
            [f"{self.build}/cardea", "chaos", roles, "--signal", signals,
             "--probability", str(probability), "--time", f"{seconds}s",
             "--seed", str(self.options.seed), "--json", "-f",
             conf or self.conf()])

    @staticmethod
    def count(server):
        """What the application counted."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port,
                                                timeout=10)
        connection.request("GET", "/count")
        return json.loads(connection.getresponse().read())


def deaths_of(text):
    """What a server's log tells of deaths."""
    return {
        "worker_deaths": len(re.findall(
            r"event=died worker=\d+", text)),
        "heir_deaths": len(re.findall(r"event=heir-died", text)),
        "takeovers": len(re.findall(r"event=took-over", text)),
        "starts": len(re.findall(r"event=start worker=\d+", text)),
    }


def blows_of(process):
    """{role: count} of a finished `cardea chaos --json`."""
    return {f"{c['role']} {c['signal']}": c["count"]
            for c in json.loads(process.wait()[-1])["counts"]}


# --- Rows -----------------------------------------------------------------

def row_many(bench):
    seconds = bench.options.seconds
    server = bench.cardea(10)
    try:
        chaos = bench.chaos("worker,heir", seconds + 1, PROBABILITY)
        loads = [bench.load(server.port, i, seconds, rate=1500, big=0.01)
                 for i in (0, 1)]
        total = bench.gather("many", loads)
        total["blows"] = blows_of(chaos)
        total.update(bench.count(server))
    finally:
        server.stop()
        bench.keep_log(server, "many")
    total.update(deaths_of(servers.read_text(server.err)))
    total["double_deaths"] = total["starts"] - 10
    return total


def row_one(bench):
    """Until there were as many takeovers as were asked for, or for ten times
    the usual seconds. Killed, not aborted: faults that come so fast end a worker's
    seat, and rightly so."""
    wanted = bench.options.takeovers
    server = bench.cardea(1)
    try:
        load = bench.load(server.port, 0, 36000, kept=1, kept_big=1, fresh=4,
                          big=0.01, odd=0.5, rate=bench.options.one_rate)
        chaos = bench.chaos("worker", 36000, 1, "kill")
        end = time.monotonic() + bench.options.seconds * 10
        while time.monotonic() < end and \
                chaos.n_lines('"role":"worker"') < wanted:
            time.sleep(0.5)
        chaos.tell(signal.SIGINT)
        blows = blows_of(chaos)
        load.tell(signal.SIGTERM)
        total = bench.gather("one", [load])
        total["blows"] = blows
        total.update(bench.count(server))
    finally:
        server.stop()
        bench.keep_log(server, "one")
    total.update(deaths_of(servers.read_text(server.err)))
    total["double_deaths"] = total["starts"] - 1
    return total


def control_of(server):
    match = re.search(r"run-folder=(\S+)", servers.read_text(server.out))
    return os.path.join(match.group(1), "control")


def hogs():
    """A busy loop for each CPU."""
    code = "import os\nos.sched_setaffinity(0, [{}])\nwhile 1: pass"
    return [subprocess.Popen([sys.executable, "-c", code.format(cpu)])
            for cpu in os.sched_getaffinity(0)]


def part_of(samples, part):
    """The sample below which PART of all lie, in ms of ns."""
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] / 1e6


def noticed_of(text, kills):
    """What heirs say of themselves in the log: nanoseconds from each kill to
    the crown, and from there until connections were settled. The clock is the
    same for all processes: CLOCK_MONOTONIC."""
    crowned = [(int(m[1]), float(m[2])) for m in re.finditer(
        r"event=took-over .*crowned_ns=(\d+) took_ms=([0-9.]+)", text)]
    noticed, took = [], []
    for at, next_at in zip(kills, kills[1:] + [float("inf")]):
        mine = [c for c in crowned if at <= c[0] < next_at]
        if mine:
            noticed.append(mine[0][0] - at)
            took.append(mine[0][1] * 1e6)
    return noticed, took


GAPS = (("quiet", 0, False), ("hogs", 0, True), ("10k", 10000, False),
        ("10k hogs", 10000, True))


def row_notice(bench):
    return row_gap(bench, GAPS[:2])


def row_gap(bench, wanted=GAPS):
    cases = {}
    for name, idle, loaded in wanted:
        server = bench.cardea(1)
        busy = hogs() if loaded else []
        try:
            done = subprocess.run(
                [bench.program("chaos-gap"), "--port", str(server.port),
                 "--control", control_of(server), "--idle", str(idle),
                 "--rounds", str(bench.options.rounds)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False,
                text=True, timeout=600)
            if done.returncode != 0:
                raise Problem(f"gap {name}: status {done.returncode}")
            cases[name] = json.loads(done.stdout)
        finally:
            for hog in busy:
                hog.kill()
                hog.wait()
            server.stop()
            bench.keep_log(server, f"gap-{name}")
        case, text = cases[name], servers.read_text(server.err)
        case.update(deaths_of(text))
        case["load_average"] = os.getloadavg()[0]
        noticed, took = noticed_of(text, case.pop("kills_ns"))
        if not noticed:
            raise Problem(f"gap {name}: no heir told when it had the crown")
        case["noticed"] = len(noticed)
        for key, samples in (("noticed", noticed), ("took", took)):
            for part in (0.5, 0.9, 0.99):
                case[f"{key}_p{int(part * 100)}_ms"] = part_of(samples, part)
            case[f"{key}_max_ms"] = max(samples) / 1e6
    return cases


def pss_of(pid):
    match = re.search(r"^Pss:\s+(\d+)", servers.read_text(
        f"/proc/{pid}/smaps_rollup"), re.M)
    return int(match.group(1)) if match else None


def family(server):
    """(workers, heirs) of a server: an heir is of its worker's group."""
    name = servers.arguments(server.process.pid)[:1]
    own = [pid for pid in server.pids() if pid != server.process.pid
           and not servers.is_keeper(pid)
           and servers.arguments(pid)[:1] == name]
    workers = {os.getpgid(pid) for pid in own}
    return sorted(workers), sorted(set(own) - workers)


def row_cost(bench):
    """CPU a request with 64 kept connections, in turns; memory of heirs."""
    ratios, heirs_kb, each = [], [], {0: [], 2: []}
    for nth in range(bench.options.cost_rounds):
        for heirs in ((0, 2) if nth % 2 == 0 else (2, 0)):
            server = bench.cardea(1, heirs)
            try:
                pids = [p for p in server.pids()]
                done = subprocess.run(
                    [bench.program("load"), "--port", str(server.port),
                     "--path", "/chaos?n=24&seed=1", "--connections", "64",
                     "--seconds", "5", "--pids",
                     ",".join(str(p) for p in pids)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    check=True, text=True)
                run = json.loads(done.stdout)
                each[heirs].append(run["server_cpu_us"] / run["requests"])
                if heirs:
                    heirs_kb += [pss_of(p) for p in family(server)[1]]
            finally:
                server.stop()
        ratios.append(each[2][-1] / each[0][-1])
    ratios.sort()
    return {"cpu_us": each, "ratio": ratios[len(ratios) // 2],
            "ratios": ratios, "heir_pss_kb": heirs_kb}


class Killer(threading.Thread):
    """Aborts the children of a master as `cardea chaos` does."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = server
        self.n = 0
        self.over = threading.Event()

    def run(self):
        rate = -math.log(1 - PROBABILITY)
        draws = random.Random(1)
        due = {}
        while not self.over.wait(0.01):
            now = time.monotonic()
            master = self.server().process.pid
            children = [p for p in servers.tree(master) if p != master]
            due = {p: due.get(p) or now + draws.expovariate(rate)
                   for p in children}
            for pid, at in due.items():
                if now >= at:
                    try:
                        os.kill(pid, signal.SIGABRT)
                        self.n += 1
                    except ProcessLookupError:
                        pass


class Restarted:
    """A server that is started again as soon as it has ended, as systemd would
    with Restart=always."""

    def __init__(self, name, argv, folder, port):
        self.argv = (name, argv, folder, None, port)
        self.now = servers.Server(*self.argv)
        self.n = 0
        self.over = False
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.over:
            self.now.process.wait()
            if not self.over:
                self.n += 1
                try:
                    self.now = servers.Server(*self.argv)
                except servers.ServerError:
                    time.sleep(0.01)

    def stop(self):
        self.over = True
        self.now.stop()
        self.thread.join()


def row_peers(bench):
    found = {}
    for name, text, words in (
            ("nginx", NGINX, ["-e", "stderr", "-c"]),
            ("haproxy", HAPROXY, ["-q", "-f"])):
        program = shutil.which(name, path=os.environ.get("PATH", "")
                               + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            raise Problem(f"{name} is not installed: scripts/setup.sh bench")
        backend = bench.cardea(2)
        port = servers.free_port()
        conf = os.path.join(bench.folder, f"{name}.conf")
        with open(conf, "w", encoding="ascii") as file:
            file.write(text.format(folder=bench.folder, port=port,
                                   backend=backend.port))
        peer = Restarted(name, [program, *words, conf], bench.folder, port)
        killer = Killer(lambda peer=peer: peer.now)
        try:
            killer.start()
            loads = [bench.load(port, i, bench.options.seconds, rate=1500,
                                big=0.01) for i in (0, 1)]
            total = bench.gather(name, loads)
            killer.over.set()
            killer.join()
            total["blows"] = {"worker abort": killer.n}
            total["restarts"] = peer.n
            total.update(bench.count(backend))
            found[name] = total
        finally:
            killer.over.set()
            peer.stop()
            backend.stop()
    return found


# --- The table ------------------------------------------------------------

KINDS = ("refused", "reset", "cut", "wrong", "timeout", "status", "other")


def chaos_line(name, total):
    kinds = ", ".join(f"{total[k]} {k}" for k in KINDS if total[k])
    blows = sum(total["blows"].values())
    return (f"| {name} | {total['requests']:,} | {total['big']:,} | {blows:,} "
            f"| {total.get('double_deaths', '-')} | {total['twice']} "
            f"| **{total['failed']:,}** | {kinds or '-'} |")


def print_chaos(results):
    lines = []
    if "many" in results:
        lines.append(chaos_line("Cardea, many", results["many"]))
    if "one" in results:
        lines.append(chaos_line("Cardea, one", results["one"]))
    for name, total in results.get("peers", {}).items():
        lines.append(chaos_line(name, total))
    if lines:
        print("| server | requests | of 1 MB | blows | double deaths | "
              "called twice | failed | how |")
        print("|---|---|---|---|---|---|---|---|")
        print("\n".join(lines), end="\n\n")


def spread(key, case):
    return "p50 {:.2f} ms, p90 {:.2f}, p99 {:.2f}, most {:.2f}".format(
        *(case[f"{key}_{part}_ms"] for part in ("p50", "p90", "p99", "max")))


def print_rest(results):
    if "one" in results:
        one = results["one"]
        print(f"one: {one['takeovers']:,} takeovers in {one['seconds']:.0f} s; "
              f"{one['requests'] - one['fresh']:,} requests on the kept "
              f"connection, made {one['connections'] - one['fresh'] - one['resets']}"
              f" time(s); {one['bytes_up'] + one['bytes_down']:,} bytes of "
              f"bodies compared; {one['urgent']:,} urgent bytes, "
              f"{one['half_closes']:,} half-closes, {one['resets']:,} resets")
    for name, case in results.get("gap", {}).items():
        print(f"gap {name}: {case['rounds']} kills, {case['served']} answered "
              f"on the same connection, {case['lost']} lost, "
              f"{case['idle_lost']} of {case['idle']} idle ones ended; from "
              f"kill to answer p50 {case.get('p50_ms', 0):.2f} ms, p99 "
              f"{case.get('p99_ms', 0):.2f}, most {case.get('max_ms', 0):.2f}; "
              f"until all heirs are there again p50 "
              f"{case.get('renewed_p50_ms', 0):.2f}, p99 "
              f"{case.get('renewed_p99_ms', 0):.2f} of {case['renewed']}")
    for row in ("gap", "notice"):
        for name, case in results.get(row, {}).items():
            print(f"notice {name}: {case['noticed']} of {case['rounds']} kills "
                  f"whose heir told; from kill to crown {spread('noticed', case)};"
                  f" from there until all is settled {spread('took', case)}; "
                  f"load average {case['load_average']:.1f}")
    if "cost" in results:
        cost = results["cost"]
        kb = [n for n in cost["heir_pss_kb"] if n is not None]
        print(f"cost: CPU a request with heirs to without "
              f"{cost['ratio']:.3f} (median of {len(cost['ratios'])} pairs, "
              f"{cost['ratios'][0]:.3f} to {cost['ratios'][-1]:.3f}); PSS of "
              f"a sleeping heir: most {max(kb) if kb else 0} kB of {len(kb)}")


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build-release")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--takeovers", type=int, default=10000)
    parser.add_argument("--one-rate", type=float, default=400)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--cost-rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("rows", nargs="*", default=[])
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}: {', '.join(ROWS)}")
    return options


def main():
    options = read_options()
    problems = []
    with tempfile.TemporaryDirectory(prefix="cardea-chaos-") as folder:
        os.chmod(folder, 0o755)
        bench = Bench(options, folder)
        for row in options.rows or ROWS:
            say(f"chaos: {row}")
            try:
                bench.results[row] = globals()[f"row_{row}"](bench)
            except (Problem, servers.ServerError, OSError,
                    subprocess.SubprocessError) as caught:
                problems.append(f"{row}: {caught}")
    print_chaos(bench.results)
    print_rest(bench.results)
    for problem in problems:
        print(f"problem: {problem}")
    with open(os.path.join(bench.build, "chaos.json"), "w",
              encoding="ascii") as file:
        json.dump(bench.results, file, indent=1)
    failed = sum(bench.results.get(row, {}).get("failed", 0)
                 for row in ("many", "one"))
    sys.exit(1 if failed or problems else 0)


if __name__ == "__main__":
    main()
