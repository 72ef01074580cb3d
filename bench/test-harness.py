#!/usr/bin/env python3
"""Tests of the bench harness itself: its arithmetic with literal numbers,
its load generator against a server that misbehaves on request, and one short
run from end to end against a stand-in for Cardea.

    test-harness.py DIR_OF_BENCH_PROGRAMS
"""

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.dont_write_bytecode = True

import many  # noqa: E402
import memory  # noqa: E402
import run as bench_run  # noqa: E402
import servers  # noqa: E402
import stats  # noqa: E402

PROGRAMS = ""
HERE = os.path.dirname(os.path.abspath(__file__))
CPU = str(min(os.sched_getaffinity(0)))

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\nWell, hello to you " \
        b"too!\n"

# What a request gets, what the client must make of it: good responses or
# not, and whether it had to connect again.
ANSWERS = [
    ("plain", [HELLO], True, False),
    ("split in the head", [HELLO[:9], HELLO[9:]], True, False),
    ("split in the body", [HELLO[:-3], HELLO[-3:]], True, False),
    ("lower case", [HELLO.replace(b"Content-L", b"content-l")], True, False),
    ("close", [HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
               None], True, True),
    ("status 500", [HELLO.replace(b"200 OK", b"500 No")], False, False),
    ("version 1.0", [HELLO.replace(b"/1.1", b"/1.0")], False, False),
    ("other body", [HELLO.replace(b"hello", b"hullo")], False, False),
    ("stated longer", [HELLO.replace(b"24", b"25"), None], False, False),
    ("stated shorter", [HELLO.replace(b"24", b"23")], False, False),
    ("no length", [HELLO.replace(b"Content-Length", b"X-Length")], False,
     False),
    ("two lengths", [HELLO.replace(b"\r\n\r\n",
                                   b"\r\nContent-Length: 24\r\n\r\n")],
     False, False),
    ("signed length", [HELLO.replace(b" 24", b" +24")], False, False),
    ("huge length", [HELLO.replace(b"24", b"99999999999999999999")], False,
     False),
    ("chunked", [HELLO.replace(b"\r\n\r\n",
                               b"\r\nTransfer-Encoding: chunked\r\n\r\n")],
     False, False),
    ("two for one", [HELLO + HELLO], False, False),
    ("no answer", [None], False, False),
    ("cut off", [HELLO[:30], None], False, False),
    ("short head", [b"\r\n\r\n"], False, False),
]


class Misbehaving:
    """A server that answers each request with the same pieces, each in a
    packet of its own; None closes the connection."""

    def __init__(self, pieces):
        self.pieces = pieces
        self.later = pieces  # for all requests but the first
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def close(self):
        """The thread first: the kernel begins its accept() anew when it has
        been shown a signal (any SIGCHLD that the one which starts children
        had blocked), and by then the descriptor may be the next server's."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.listener.close()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,),
                             daemon=True).start()

    def serve(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock:
            try:
                while sock.recv(4096):
                    pieces, self.pieces = self.pieces, self.later
                    for piece in pieces:
                        if piece is None:
                            return
                        sock.sendall(piece)
            except OSError:
                return


def load(port, *arguments):
    """Runs the load generator; returns its exit status and its result."""
    done = subprocess.run([f"{PROGRAMS}/load", "--port", str(port),
                           *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60,
                          check=False)
    return done.returncode, json.loads(done.stdout)


class TestLoad(unittest.TestCase):
    """The load generator believes nothing."""

    def test_answers(self):
        for name, pieces, good, again in ANSWERS:
            with self.subTest(name):
                server = Misbehaving(pieces)
                status, got = load(server.port, "--burst", "4", "--body",
                                   "Well, hello to you too!\n", "--stall",
                                   "5")
                server.close()
                self.assertEqual(got["requests"], 4 if good else 0)
                self.assertEqual(got["errors"], 0 if good else 4)
                self.assertEqual(got["reconnects"] > 0, again)
                self.assertEqual(status, 0 if good else 1)

    def test_a_change_after_good_answers_is_seen(self):
        for bad in (HELLO.replace(b"hello", b"hullo"),
                    HELLO.replace(b"200", b"201"),
                    HELLO.replace(b"24", b"23"),
                    HELLO.replace(b"\r\n\r\n", b"\r\nX\rX")):
            with self.subTest(bad):
                server = Misbehaving([HELLO])
                server.later = [bad, None]
                _, got = load(server.port, "--connections", "1", "--warmup",
                              "0", "--seconds", "0.2", "--body",
                              "Well, hello to you too!\n")
                server.close()
                self.assertEqual(got["requests"], 1)
                self.assertGreater(got["errors"], 0)

    def test_stall(self):
        server = Misbehaving([])
        for more in ([], ["--spin"]):
            status, got = load(server.port, "--burst", "3", "--stall", "0.2",
                               *more)
            self.assertEqual((status, got["requests"], got["errors"]),
                             (1, 0, 3))
            self.assertFalse(got["complete"])
        server.close()

    def test_body_is_free_unless_asked(self):
        server = Misbehaving([HELLO.replace(b"hello", b"hullo")])
        status, got = load(server.port, "--burst", "2")
        server.close()
        self.assertEqual((status, got["requests"]), (0, 2))

    def test_bad_calls(self):
        for arguments in (["--path", "x"], ["--port", "0"], ["--burst", "0"],
                          ["--seconds", "-1"], ["--nonsense"], ["word"]):
            done = subprocess.run([f"{PROGRAMS}/load", "--port", "1",
                                   *arguments], capture_output=True,
                                  timeout=10, check=False)
            self.assertEqual(done.returncode, 2, arguments)


class TestFloors(unittest.TestCase):
    """The floors run, and the load generator counts them right."""

    def test_epoll(self):
        with tempfile.TemporaryDirectory() as folder:
            build = os.path.dirname(PROGRAMS)
            for size in (200, 100):
                server = servers.floor_epoll(build, folder, None, size)
                try:
                    status, got = load(
                        server.port, "--connections", "8", "--seconds",
                        "0.3", "--warmup", "0.1", "--body", servers.BODY,
                        "--pids", str(server.process.pid))
                finally:
                    server.stop()
                self.assertEqual(server.left_behind, [])
                self.assertEqual(status, 0)
                self.assertEqual(got["response_bytes"], size)
                self.assertEqual(got["samples"], got["requests"])
                self.assertGreater(got["requests"], 0)
                self.assertGreater(got["server_cpu_us"], 0)
                self.assertLess(got["server_cpu_us"],
                                1.2e6 * got["seconds"])
                latency = [got[key] for key in ("min_us", "p50_us", "p90_us",
                                                "p99_us", "max_us")]
                self.assertEqual(latency, sorted(latency))
                self.assertGreater(latency[0], 0)

    def test_futex(self):
        done = subprocess.run([f"{PROGRAMS}/floor-futex", "--cpu", CPU,
                               "--ms", "50"], capture_output=True,
                              timeout=30, check=True)
        got = json.loads(done.stdout)
        self.assertGreater(got["median_us"], 0.1)
        self.assertGreaterEqual(got["round_trips"], 100)

    def test_line(self):
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            self.skipTest("needs two CPUs")
        done = subprocess.run([f"{PROGRAMS}/floor-line", "--cpu",
                               str(cpus[0]), "--cpu2", str(cpus[1]), "--ms",
                               "20"], capture_output=True, timeout=30,
                              check=True)
        got = json.loads(done.stdout)
        self.assertGreater(got["best_ns"], 5)
        self.assertGreaterEqual(got["mean_ns"], got["best_ns"])


class TestCrowd(unittest.TestCase):
    """The crowd counts what is held, and believes no answer."""

    def crowd(self, port, *arguments):
        return subprocess.Popen([f"{PROGRAMS}/crowd", "--port", str(port),
                                 *arguments], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)

    def say(self, crowd, order):
        crowd.stdin.write(order.encode() + b"\n")
        crowd.stdin.flush()
        return json.loads(crowd.stdout.readline())

    def test_idle_ones_are_held_and_answer(self):
        server = Misbehaving([HELLO])
        with self.crowd(server.port, "--connections", "70", "--body",
                        "Well, hello to you too!\n") as crowd:
            self.assertEqual(json.loads(crowd.stdout.readline()),
                             {"open": 70})
            self.assertEqual(self.say(crowd, "ask 70"),
                             {"asked": 70, "good": 70})
            self.assertEqual(self.say(crowd, "ask 7"),
                             {"asked": 7, "good": 7})
            server.later = [HELLO.replace(b"hello", b"hullo")]
            server.pieces = server.later
            self.assertEqual(self.say(crowd, "ask 7"),
                             {"asked": 7, "good": 0})
            server.pieces = server.later = [None]
            self.assertEqual(self.say(crowd, "ask 5"),
                             {"asked": 5, "good": 0})
            self.assertEqual(self.say(crowd, "count"), {"open": 65})
            crowd.stdin.close()
            self.assertEqual(crowd.wait(10), 0)
        server.close()

    def test_slow_ones_send_a_byte_a_second(self):
        for kind, start in (("head", b"GET /x HTTP/1.1\r\n"),
                            ("body", b"POST /x HTTP/1.1\r\n")):
            with self.subTest(kind), socket.create_server(
                    ("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
                with self.crowd(port, "--kind", kind, "--path",
                                "/x") as crowd:
                    got, sock = b"", listener.accept()[0]
                    sock.settimeout(10)
                    while not got.endswith(b"aa"):
                        got += sock.recv(4096)
                    self.assertTrue(got.startswith(start))
                    crowd.stdin.close()
                    sock.close()

    def test_bad_orders(self):
        server = Misbehaving([HELLO])
        for order in ("nonsense", "ask 0", "ask x"):
            with self.crowd(server.port) as crowd:
                crowd.communicate(order.encode() + b"\n", timeout=10)
                self.assertEqual(crowd.returncode, 2)
        server.close()


class TestPace(unittest.TestCase):
    """The open loop counts from when a request was due."""

    def pace(self, port, *arguments):
        done = subprocess.run([f"{PROGRAMS}/pace", "--port", str(port),
                               *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=60, check=False)
        return done.returncode, json.loads(done.stdout)

    def test_good_answers(self):
        server = Misbehaving([HELLO])
        status, got = self.pace(server.port, "--rate", "200", "--seconds",
                                "0.5", "--body",
                                "Well, hello to you too!\n")
        server.close()
        self.assertEqual((status, got["requests"], got["errors"]),
                         (0, 100, 0))
        latency = [got[key] for key in ("p50_us", "p90_us", "p99_us",
                                        "p999_us", "max_us")]
        self.assertEqual(latency, sorted(latency))
        self.assertGreater(latency[0], 0)

    def test_a_stall_counts_for_all_that_was_due(self):
        server = Misbehaving([])  # reads and never answers
        status, got = self.pace(server.port, "--rate", "100", "--seconds",
                                "0.2", "--connections", "1")
        server.close()
        self.assertEqual((status, got["requests"], got["errors"]),
                         (1, 20, 20))
        # The last was due when 0.19 s had gone, and waited as the first did.
        self.assertGreater(got["p50_us"], 4.9e6)

    def test_bad_answers_are_errors(self):
        for pieces in ([HELLO.replace(b"200 OK", b"503 No")], [None],
                       [HELLO + HELLO]):
            server = Misbehaving(pieces)
            status, got = self.pace(server.port, "--rate", "50", "--seconds",
                                    "0.2")
            self.assertEqual((status, got["errors"]), (1, 10), pieces)
            status, got = self.pace(server.port, "--rate", "50", "--seconds",
                                    "0.2", "--fresh")
            server.close()
            self.assertEqual(got["errors"], 10 if pieces == [None] else 0)


class TestPark(unittest.TestCase):
    """The floor accepts, holds, and answers nothing."""

    def test_park(self):
        with tempfile.TemporaryDirectory() as folder:
            server = servers.floor_park(os.path.dirname(PROGRAMS), folder, 3)
            try:
                # It listens before all of them are there; and the look whether
                # it does was a connection too: without it each has the
                # listener alone.
                end = time.monotonic() + 10
                while len(server.pids()) != 3 or \
                        memory.sockets(server.pids()) != 3:
                    self.assertLess(time.monotonic(), end)
                    time.sleep(0.02)
                before = 3
                held = [socket.create_connection(("127.0.0.1", server.port))
                        for _ in range(50)]
                many.await_accepted(server, before, 50, 10)
                for sock in held:
                    sock.close()
            finally:
                server.stop()
            self.assertEqual(server.left_behind, [])


class TestMemory(unittest.TestCase):
    """What we read of ourselves is plausible, and grows as we do."""

    def test_private(self):
        before = memory.private([os.getpid()])
        block = bytearray(64 << 20)
        block[::4096] = b"x" * len(block[::4096])
        grown = memory.private([os.getpid()]) - before
        self.assertGreater(grown, 60 << 20)
        self.assertLess(grown, 80 << 20)

    def test_parts_make_the_whole(self):
        parts = memory.pss(os.getpid())
        self.assertLess(abs(parts["Pss"] - parts["Pss_Anon"]
                            - parts["Pss_File"] - parts["Pss_Shmem"]), 8)
        self.assertEqual(memory.add([parts, parts])["Pss"],
                         2 * parts["Pss"])
        self.assertGreater(memory.kernel(), 1 << 20)

    def test_a_process_that_is_gone(self):
        with self.assertRaises(memory.Unreadable):
            memory.pss(0x7fffffff)

    def test_settled(self):
        values = iter([1, 2, 3, 4, 4, 4, 5])
        self.assertEqual(memory.settled(lambda: next(values), 10, 0), 4)


class TestStats(unittest.TestCase):
    """Arithmetic with literal numbers."""

    def test_ratio_is_against_both_floors(self):
        rounds = [{"f": [{"k": 4.0}, {"k": 6.0}], "a": [{"k": 10.0}]},
                  {"f": [{"k": 4.0}, {"k": 4.0}], "b": [{"k": 1.0}]}]
        self.assertEqual(stats.ratios(rounds, "a", "f", "k"), [2.0])
        self.assertEqual(stats.ratios(rounds, "b", "f", "k"), [0.25])
        self.assertEqual(stats.ratios(rounds, "a", "b", "k"), [])

    def collect(self, pairs, wanted):
        left = list(pairs)

        def play():
            first = left.pop(0)
            if first is None:
                raise ValueError("server: 1 errors")
            return {"f": [{"k": first[0]}, {"k": first[1]}]}

        return stats.collect(play, wanted, 0.03, "f", "k", lambda text: None)

    def test_rounds_with_uneven_floors_go(self):
        good, bad = self.collect([(100, 102), (100, 104), (104, 100), None,
                                  (100, 100)], 2)
        self.assertEqual([one["f"][1]["k"] for one in good], [102, 100])
        self.assertEqual([one["valid"] for one in bad],
                         [True, True, False])

    def test_tries_end(self):
        good, bad = self.collect([(1, 2)] * 6 + [(1, 1)], 2)
        self.assertEqual((len(good), len(bad)), (0, 6))

    def test_verdicts(self):
        for value, figure, goal, strict, want in [
                (1.25, 1.25, None, False, "reached"),
                (1.26, 1.25, None, False, "not reached"),
                (1.0, 1.0, None, True, "not reached"),
                (0.99, 1.0, None, True, "reached"),
                (1.2, 1.25, 1.18, False, "reached, goal not reached"),
                (1.1, 1.25, 1.18, False, "reached, goal reached"),
                (1.1, None, 1.18, False, "goal reached"),
                (1.1, None, None, False, "-"),
                (None, 1.25, None, False, "not measured")]:
            self.assertEqual(stats.verdict(value, figure, goal, strict), want)

    def test_table(self):
        line = stats.measure("r", "x / y", "", [1.5, 1.1, 1.2], 42,
                             figure=1.25, note="three rounds")
        text = stats.table([line])
        self.assertIn("<= 1.25", text)
        self.assertIn("1.20 [1.10 to 1.50]", text)
        self.assertIn("| 42", text)
        self.assertTrue(text.endswith("r: three rounds"))


STAND_IN = '''#!{python}
import http.server, signal, subprocess, sys, time
from urllib.parse import urlsplit
if sys.argv[0].endswith("slow"):
    print("up", flush=True)
    time.sleep(60)
    sys.exit()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    def do_GET(self):
        if urlsplit(self.path).path == "/slow":
            time.sleep(0.1)
        body = b"Well, hello to you too!\\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *rest):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
slow = subprocess.Popen([sys.argv[0].replace("cardea", "slow")],
                        stdout=subprocess.PIPE)
slow.stdout.readline()
def stop(*rest):
    if {tidy}:
        slow.kill()
        slow.wait()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
server = Server(("127.0.0.1", 0), Handler)
print("ready url=http://127.0.0.1:%d/ pid=1" % server.server_port, flush=True)
server.serve_forever()
'''


class TestRun(unittest.TestCase):
    """Everything together, with a stand-in for Cardea."""

    def bench(self, tidy, *arguments):
        """Runs run.py on a build folder with a stand-in; returns its exit
        status, what it printed and what it wrote."""
        with tempfile.TemporaryDirectory() as build:
            os.symlink(PROGRAMS, f"{build}/bench")
            for name in ("cardea", "slow"):
                with open(f"{build}/{name}", "w", encoding="utf-8") as file:
                    file.write(STAND_IN.format(python=sys.executable,
                                               tidy=tidy))
                os.chmod(f"{build}/{name}", stat.S_IRWXU)
            done = subprocess.run(
                [sys.executable, f"{HERE}/run.py", "--build", build,
                 "--quick", "--rounds", "1", "--seconds", "0.2", "--warmup",
                 "0.05", "--max-skew", "200", *arguments],
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=100, check=False)
            try:
                with open(f"{build}/bench.json", encoding="utf-8") as file:
                    return done, json.load(file)
            except OSError:
                return done, None

    def test_end_to_end(self):
        done, got = self.bench(True, "hello-64", "burst-200")
        lines = {(line["row"], line["what"]): line for line in got["lines"]}
        ours = lines["hello-64", "CPU a request, cardea / floor-epoll"]
        self.assertGreater(ours["measured"]["median"], 2)
        self.assertEqual(ours["verdict"], "not reached, goal not reached")
        self.assertGreater(ours["requests"], 0)
        burst = lines["burst-200", "last answer of a cold burst"]
        self.assertGreaterEqual(burst["measured"]["median"], 100)
        self.assertEqual(burst["requests"], 200)
        threads = lines["burst-200", "threads of the app after it"]
        self.assertEqual(threads["measured"]["median"], 1)
        run = got["details"]["hello-64"]["rounds"][0]
        self.assertEqual(run["floor-epoll"][0]["response_bytes"],
                         run["cardea"][0]["response_bytes"])
        said = [text for text in got["problems"]
                if "share one CPU" not in text and "nginx" not in text]
        self.assertEqual(said, [], done.stderr)

    def test_what_is_left_behind_is_said(self):
        done, got = self.bench(False, "burst-200")
        self.assertIn("cardea: left 1 processes behind after TERM",
                      got["problems"], done.stderr)
        self.assertEqual(done.returncode, 1)

    def test_missing_programs(self):
        with tempfile.TemporaryDirectory() as build:
            done = subprocess.run(
                [sys.executable, f"{HERE}/run.py", "--build", build],
                capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("is missing", done.stderr)

    def test_bad_calls(self):
        for arguments in (["no-such-row"], ["--cpus", "0"],
                          ["--cpus", "0,99999"], ["--rounds", "-1"]):
            with self.subTest(arguments), self.assertRaises(SystemExit) as got:
                sys.stderr = open(os.devnull, "w", encoding="utf-8")
                try:
                    bench_run.parse(["--build", ".", *arguments])
                finally:
                    sys.stderr.close()
                    sys.stderr = sys.__stderr__
            self.assertEqual(got.exception.code, 2)


if __name__ == "__main__":
    PROGRAMS = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
