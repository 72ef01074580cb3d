#!/usr/bin/env python3
"""Measures Cardea against floor programs and peers; see README.md.

    bench/run.py --build BUILD_DIR [--quick] [ROW ...]

Builds nothing.  Prints a table and writes BUILD_DIR/bench.json.  Ends with 0
when everything asked for was measured (whatever the figures say), with 1
when something could not be, with 2 when the call was wrong.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import cgibin  # noqa: E402
import growth  # noqa: E402
import many  # noqa: E402
import memory  # noqa: E402
import php  # noqa: E402
import python  # noqa: E402
import servers  # noqa: E402
import stall  # noqa: E402
import stats  # noqa: E402

ROWS = ("floors", "door-call", "hello-64", "hello-1", "hello-1-spin",
        "burst-200", "idle-pss", "idle-10k", "idle-100k", "slow-1000", "crash-loop",
        "cgi", "wsgi-4", "wsgi-start", "php-4", "burst-copies",
        "burst-quota", "cpu-64", "parked-500", "mixed", "stall")
PROGRAMS = ("load", "floor-epoll", "floor-futex", "floor-line", "floor-park",
            "crowd", "pace", "app-crash", "door-call")
BURST = 200
BURST_PATH = "/slow?ms=100"


class Bench:
    """One run: its options, its folder, its results."""

    def __init__(self, options, folder):
        self.options = options
        self.build = os.path.abspath(options.build)
        self.folder = folder
        self.server_cpu, self.client_cpu = options.cpus
        self.lines = []
        self.details = {}
        self.problems = []
        self.answer_bytes = 0
        self.net = 0

    def say(self, text):
        """Progress goes to stderr: stdout is the result."""
        print(text, file=sys.stderr, flush=True)

    def problem(self, text):
        """Notes what could not be measured, or went wrong."""
        if text not in self.problems:
            self.problems.append(text)
            self.say(f"problem: {text}")

    def program(self, name, *arguments, limit=60):
        """Runs a bench program that prints JSON; ValueError if it fails."""
        try:
            done = subprocess.run(
                [f"{self.build}/bench/{name}", *map(str, arguments)],
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            raise ValueError(f"{name} took more than {limit:.0f} s") from None
        try:
            result = json.loads(done.stdout)
        except ValueError:
            raise ValueError(f"{name} ended with status {done.returncode}: "
                             f"{done.stderr.strip()}") from None
        result["status"] = done.returncode
        result["stderr"] = done.stderr.strip()
        return result

    def load(self, server, connections, seconds, warmup, spin=False):
        """Loads a server and returns what was measured, CPU time a request
        included; ValueError if the run is not valid."""
        pids = server.pids()
        arguments = ["--port", server.port, "--cpu", self.client_cpu,
                     "--connections", connections, "--seconds", seconds,
                     "--warmup", warmup, "--body", servers.BODY,
                     "--path", "/hello", "--pids", ",".join(map(str, pids))]
        if spin:
            arguments.append("--spin")
        before = (servers.switches(pids), servers.steal_ticks(),
                  servers.rescheduling_interrupts())
        run = self.program("load", *arguments, limit=seconds + warmup + 30)
        after = (servers.switches(pids), servers.steal_ticks(),
                 servers.rescheduling_interrupts())
        run["involuntary_switches"], run["steal_ticks"], \
            run["rescheduling_interrupts"] = \
            (b - a for a, b in zip(before, after))
        run["processes"] = len(pids)
        self.judge(server, run, pids)
        run["cpu_us"] = run["server_cpu_us"] / run["requests"]
        run["rate"] = run["requests"] / run["seconds"]
        return run

    def judge(self, server, run, pids):
        """A run counts only if nothing failed and the same processes served
        it from beginning to end (else CPU time would be missing)."""
        reason = None
        if run["status"] != 0 or run["errors"] or not run["complete"]:
            reason = f"{run['errors']} errors {run['stderr']}".strip()
        elif server.pids() != pids:
            reason = "its processes changed during the run"
        elif run["server_cpu_us"] is None or not run["requests"]:
            reason = "nothing was counted"
        if reason:
            self.problem(f"{server.name}: {reason}")
            raise ValueError(f"{server.name}: {reason}")

    def start_all(self):
        """Starts floor, Cardea and nginx on the server's CPU; says which are
        missing.  Returns {name: server}."""
        cpus = {self.server_cpu}
        found = {}
        try:
            if os.path.exists(f"{self.build}/cardea"):
                self.start(found, lambda: servers.cardea(
                    self.build, self.folder, cpus), "cardea")
            else:
                self.problem(f"cardea: {self.build}/cardea is missing")
            if servers.nginx_program():
                self.start(found, lambda: servers.nginx(self.folder, cpus),
                           "nginx")
            else:
                self.problem("nginx: not installed, so nothing is said of it")
            if "cardea" in found:
                self.probe(found)
            found["floor-epoll"] = servers.floor_epoll(
                self.build, self.folder, cpus, self.answer_bytes)
        except BaseException:
            self.stop_all(found)
            raise
        return found

    def start(self, found, make, name):
        """Starts one server; a failure is a problem, not the end."""
        try:
            found[name] = make()
            self.say(f"{name}: {len(found[name].pids())} processes")
        except servers.ServerError as error:
            self.problem(str(error))

    def probe(self, found):
        """Learns the size of Cardea's answer, which the floor then sends."""
        try:
            run = self.load(found["cardea"], 1, 0.05, 0)
            self.answer_bytes = run["response_bytes"]
        except ValueError:
            self.stop_one(found.pop("cardea"))

    @contextlib.contextmanager
    def running(self, start):
        """A server that start() gives, stopped at the end."""
        server = start()
        try:
            yield server
        finally:
            self.stop_one(server)

    def next_net(self):
        """A number for the next crowd's client addresses, 1 to 250."""
        self.net = self.net % 250 + 1
        return self.net

    def stop_one(self, server):
        """Stops a server and notes what it leaves behind."""
        server.stop()
        if server.left_behind:
            self.problem(f"{server.name}: left {len(server.left_behind)} "
                         "processes behind after TERM")

    def stop_all(self, found):
        """Stops all servers."""
        for server in found.values():
            self.stop_one(server)

    def rounds(self, row, connections, key, extra=None, spin=False):
        """The rounds of a hello row: floor, ours, peer, floor."""
        options = self.options
        found = self.start_all()

        def one(name):
            return self.load(found[name], connections, options.seconds,
                             options.warmup, spin)

        def play():
            result = {"floor-epoll": [one("floor-epoll")]}
            for name in ("cardea", "nginx"):
                if name in found:
                    result[name] = [one(name)]
            if extra:
                result.update(extra())
            result["floor-epoll"].append(one("floor-epoll"))
            return result

        try:
            good, bad = stats.collect(
                play, options.rounds, options.max_skew / 100, "floor-epoll",
                key, lambda text: self.say(f"{row}: {text}"))
        finally:
            self.stop_all(found)
        self.details[row] = {"rounds": good, "discarded": bad,
                             "answer_bytes": self.answer_bytes}
        if len(good) < options.rounds:
            self.problem(f"{row}: {len(good)} good rounds of "
                         f"{options.rounds} wanted, {len(bad)} discarded")
        return good

    def note(self, row):
        """How the rounds of a row went, in one sentence."""
        detail = self.details[row]
        runs = [run for one in detail["rounds"] for name in one
                for run in one[name] if "steal_ticks" in run]
        return (f"{len(detail['rounds'])} rounds, "
                f"{len(detail['discarded'])} discarded; answers of "
                f"{detail['answer_bytes'] or 'the least number of'} bytes; "
                f"steal {sum(r['steal_ticks'] for r in runs)} ticks, "
                f"involuntary switches "
                f"{sum(r['involuntary_switches'] for r in runs)}")

    def add(self, *arguments, **more):
        """Adds a line to the result."""
        self.lines.append(stats.measure(*arguments, **more))

    def add_server(self, row, good, name, key, what, unit):
        """A line without a verdict: what one server measured."""
        runs = [run for one in good for run in one.get(name, [])]
        self.add(row, f"{name}: {what}", unit, [run[key] for run in runs],
                 sum(run["requests"] for run in runs))

    def floors(self):
        """Row floors: the two ping-pongs."""
        ms = 200 if self.options.quick else 500
        pair = ["--cpu", self.server_cpu, "--cpu2", self.client_cpu]
        tries = [("floor-futex", ["--cpu", self.server_cpu], "median_us",
                  "futex round trip, one CPU", "us"),
                 ("floor-futex", pair, "median_us",
                  "futex round trip, two CPUs", "us"),
                 ("floor-line", pair, "mean_ns",
                  "cache line there and back", "ns")]
        self.details["floors"] = {}
        for name, arguments, key, what, unit in tries:
            if "--cpu2" in arguments and self.server_cpu == self.client_cpu:
                self.problem(f"floors: {what}: needs two CPUs")
                continue
            runs = [self.program(name, *arguments, "--ms", ms)
                    for _ in range(self.options.rounds)]
            self.details["floors"][what] = runs
            self.add("floors", what, unit, [run[key] for run in runs],
                     sum(run["round_trips"] for run in runs))

    def door_call(self):
        """Row door-call: a call of 16 bytes and its answer, beside the bare
        hand-over, in turn."""
        row = "door-call"
        ms = 200 if self.options.quick else 500
        tries = {"futex round trip, one CPU":
                 ("floor-futex", ["--cpu", self.server_cpu]),
                 "door_call, one CPU":
                 ("door-call", ["--cpu", self.server_cpu]),
                 "door_call, not bound": ("door-call", [])}
        runs = {what: [] for what in tries}
        for _ in range(self.options.rounds):
            for what, (name, arguments) in tries.items():
                runs[what].append(self.program(name, *arguments, "--ms", ms))
        self.details[row] = runs
        us = {what: [run["median_us"] for run in some]
              for what, some in runs.items()}
        for what, some in runs.items():
            self.add(row, what, "us", us[what],
                     sum(run["round_trips"] for run in some))
        futex, bound, free = us.values()
        self.add(row, "one CPU, door_call / futex", "",
                 [d / f for d, f in zip(bound, futex)], len(futex), figure=1.3)
        self.add(row, "door_call, not bound / one CPU", "",
                 [f / b for f, b in zip(free, bound)], len(bound), figure=2)

    def hello_64(self):
        """Row hello-64: CPU time a request with 64 kept connections."""
        row = "hello-64"
        good = self.rounds(row, 64, "cpu_us")
        note = self.note(row)
        for name in ("floor-epoll", "cardea", "nginx"):
            self.add_server(row, good, name, "cpu_us", "CPU a request", "us")
            self.add_server(row, good, name, "rate", "requests a second", "")
        done = sum(run["requests"] for one in good
                   for run in one.get("cardea", []))
        self.add(row, "CPU a request, cardea / floor-epoll", "",
                 stats.ratios(good, "cardea", "floor-epoll", "cpu_us"), done,
                 figure=1.25, goal=1 / 0.85, note=note)
        self.add(row, "CPU a request, cardea / nginx", "",
                 stats.ratios(good, "cardea", "nginx", "cpu_us"), done,
                 figure=1.0, strict=True, note=note)

    def hello_1(self, row="hello-1", spin=False):
        """Row hello-1: latency with one kept connection.  With spin the
        client never sleeps, so its wake-up is not in the figure."""

        def futex():
            run = self.program("floor-futex", "--cpu", self.server_cpu,
                               "--ms", 200)
            return {"floor-futex": [run]}

        good = self.rounds(row, 1, "p50_us", futex, spin)
        note = self.note(row)
        for name in ("floor-epoll", "cardea", "nginx"):
            self.add_server(row, good, name, "p50_us", "median latency", "us")
        models = [statistics.mean(run["p50_us"] for run in one["floor-epoll"])
                  + one["floor-futex"][0]["median_us"] for one in good]
        done = sum(run["requests"] for one in good
                   for run in one.get("cardea", []))
        self.add(row, "model: floor-epoll + futex round trip", "us", models,
                 sum(one["floor-futex"][0]["round_trips"] for one in good))
        self.add(row, "median latency, cardea / floor-epoll", "",
                 stats.ratios(good, "cardea", "floor-epoll", "p50_us"), done,
                 figure=1.5, note=note)
        self.add(row, "median latency, cardea / model", "",
                 [one["cardea"][0]["p50_us"] / model
                  for one, model in zip(good, models) if "cardea" in one],
                 done, goal=1 / 0.8, note=note)

    def burst_once(self):
        """One cold start and two bursts.  Not pinned: a server as a user
        starts it."""
        server = servers.cardea(self.build, self.folder)
        try:
            slow = [pid for pid in server.pids()
                    if any("slow" in os.path.basename(word)
                           for word in servers.arguments(pid)[:3])]
            if len(slow) != 1:
                raise ValueError(f"{len(slow)} processes look like the slow "
                                 "app, one is expected")
            result = {"cold_threads": servers.thread_count(slow[0])}
            for which in ("first", "second"):
                run = self.program("load", "--port", server.port, "--burst",
                                   BURST, "--path", BURST_PATH, limit=30)
                if run["status"] or run["requests"] != BURST:
                    raise ValueError(f"{which} burst: {run['errors']} errors "
                                     f"{run['stderr']}")
                result[f"{which}_ms"] = run["seconds"] * 1000
                result[f"{which}_min_ms"] = run["min_us"] / 1000
                result[f"{which}_median_ms"] = run["p50_us"] / 1000
                result[f"{which}_max_ms"] = run["max_us"] / 1000
                result[f"{which}_threads"] = servers.thread_count(slow[0])
            return result
        finally:
            self.stop_one(server)

    def burst_200(self):
        """Row burst-200: many blocking calls at once to a cold app."""
        row = "burst-200"
        runs = []
        if not os.path.exists(f"{self.build}/cardea"):
            self.problem(f"cardea: {self.build}/cardea is missing")
        else:
            for i in range(self.options.rounds):
                try:
                    runs.append(self.burst_once())
                    self.say(f"{row}: round {i + 1} of "
                             f"{self.options.rounds}")
                except (ValueError, servers.ServerError) as error:
                    self.problem(f"{row}: {error}")
        self.details[row] = {"rounds": runs}
        note = f"{len(runs)} rounds, each {BURST} requests to " \
               f"{BURST_PATH} at once; servers and client not pinned"

        def column(key):
            return [run[key] for run in runs]

        done = BURST * len(runs)
        self.add(row, "threads of the app before", "",
                 column("cold_threads"), done, note=note)
        self.add(row, "median answer", "ms", column("first_median_ms"), done)
        self.add(row, "last answer of a cold burst", "ms",
                 column("first_ms"), done, figure=250)
        self.add(row, "threads of the app after it", "",
                 column("first_threads"), done, figure=BURST + 1)
        self.add(row, "last answer of the second burst", "ms",
                 column("second_ms"), done, figure=250)
        self.add(row, "threads added by the second burst", "",
                 [run["second_threads"] - run["first_threads"]
                  for run in runs], done, figure=0)

    def require(self, row):
        """The rows of many.py are about Cardea or about nothing."""
        if row in ROWS[5:] and not os.path.exists(f"{self.build}/cardea"):
            raise ValueError(f"{self.build}/cardea is missing")

    def play(self, rows):
        """Measures the rows asked for."""
        todo = {"floors": self.floors, "door-call": self.door_call,
                "hello-64": self.hello_64,
                "hello-1": self.hello_1, "burst-200": self.burst_200,
                "hello-1-spin": lambda: self.hello_1("hello-1-spin", True),
                "idle-pss": lambda: many.idle_pss(self),
                "idle-10k": lambda: many.idle_many(self, 10000, "idle-10k"),
                "idle-100k": lambda: many.idle_many(self, 100000,
                                                    "idle-100k"),
                "slow-1000": lambda: many.slow_1000(self),
                "crash-loop": lambda: many.crash_loop(self),
                "cgi": lambda: cgibin.cgi(self),
                "wsgi-4": lambda: python.wsgi_cpu(self, 4, "wsgi-4"),
                "wsgi-start": lambda: python.wsgi_start(self, "wsgi-start"),
                "php-4": lambda: php.php_cpu(self, "php-4"),
                "burst-copies": lambda: growth.burst_copies(self),
                "burst-quota": lambda: growth.burst_quota(self),
                "cpu-64": lambda: growth.cpu_64(self),
                "parked-500": lambda: growth.parked_500(self),
                "mixed": lambda: growth.mixed(self),
                "stall": lambda: stall.stall(self, "stall")}
        for row in ROWS:
            if row in rows:
                try:
                    self.require(row)
                    todo[row]()
                except (ValueError, servers.ServerError,
                        memory.Unreadable) as error:
                    self.problem(f"{row}: {error}")


def build_options(build):
    """What the build says of itself: build type and sanitizers."""
    text = servers.read_text(f"{build}/meson-info/intro-buildoptions.json")
    try:
        known = {one["name"]: one["value"] for one in json.loads(text)}
    except ValueError:
        return {}
    return {name: known.get(name) for name in ("buildtype", "b_sanitize")}


def machine():
    """What the numbers were measured on."""
    model = [line.split(":", 1)[1].strip() for line in
             servers.read_text("/proc/cpuinfo").splitlines()
             if line.startswith("model name")]
    return {"kernel": platform.release(), "cpus": os.cpu_count(),
            "cpu": model[0] if model else platform.machine(),
            "load": os.getloadavg()[0],
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def parse(argv):
    """The options; sensible numbers are the default."""
    mine = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        description="Measures Cardea against floors and peers.")
    parser.add_argument("row", nargs="*", metavar="ROW",
                        help="rows to measure: " + ", ".join(ROWS))
    parser.add_argument("--rows", metavar="ROW,...", default="",
                        help="the same, in one word")
    parser.add_argument("--build", required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true",
                        help="3 short rounds instead of 9")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of one run")
    parser.add_argument("--warmup", type=float, help="seconds before it")
    parser.add_argument("--hold", type=float, help="seconds that idle "
                        "connections must live (60; 5 with --quick)")
    parser.add_argument("--rate", type=float, default=500.0,
                        help="honest requests a second beside slow clients")
    parser.add_argument("--max-skew", type=float, default=3.0, metavar="PCT",
                        help="discard rounds whose floors differ by more")
    parser.add_argument("--cpus", metavar="A,B",
                        default=f"{mine[0]},{mine[-1]}",
                        help="CPU of the servers, CPU of the client")
    parser.add_argument("--json", metavar="FILE",
                        help="instead of DIR/bench.json")
    options = parser.parse_args(argv)
    options.row += [row for row in options.rows.split(",") if row]
    for row in options.row:
        if row not in ROWS:
            parser.error(f"no row {row}; there are {', '.join(ROWS)}")
    try:
        options.cpus = [int(word) for word in options.cpus.split(",")]
    except ValueError:
        options.cpus = []
    if len(options.cpus) != 2 or not set(options.cpus) <= set(mine):
        parser.error(f"--cpus: two of {', '.join(map(str, mine))}")
    default = (3, 0.5, 0.2, 5.0) if options.quick else (9, 2.0, 0.5, 60.0)
    for name, value in zip(("rounds", "seconds", "warmup", "hold"), default):
        if getattr(options, name) is None:
            setattr(options, name, value)
        if getattr(options, name) < 0:
            parser.error(f"--{name}: not below 0")
    options.rounds = max(options.rounds, 1)
    return options


def main(argv=None):
    """Runs, prints, writes."""
    options = parse(argv)
    for name in PROGRAMS:
        if not os.path.exists(f"{options.build}/bench/{name}"):
            print(f"bench: {options.build}/bench/{name} is missing; build "
                  "bench-programs first", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="cardea-bench-") as folder:
        bench = Bench(options, folder)
        built = build_options(options.build)
        if built.get("b_sanitize") not in (None, "none", "", []):
            bench.problem("this build has sanitizers: its figures mean "
                          "nothing")
        if options.cpus[0] == options.cpus[1]:
            bench.problem("servers and client share one CPU")
        bench.play(options.row or ROWS)
    result = {"machine": machine(), "build": built,
              "options": vars(options), "lines": bench.lines,
              "details": bench.details, "problems": bench.problems}
    path = options.json or os.path.join(options.build, "bench.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print(stats.table(bench.lines))
    for text in bench.problems:
        print(f"problem: {text}")
    return 1 if bench.problems else 0


if __name__ == "__main__":
    # Ends by way of the clauses that stop the servers.
    for wanted in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(wanted, lambda number, frame: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
