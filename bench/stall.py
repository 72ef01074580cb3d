"""Row stall: all copies of a program stand still while three times the load
comes that they can take, from clients that leave after two seconds. How soon is
every client answered again, who was called for nobody, and how quick is a no?
The same beside gunicorn, and as a chart, BUILD_DIR/stall.svg."""

import collections
import errno
import os
import selectors
import socket
import time

import memory
import python
import servers

COPIES = 4
RUN_S = 0.05  # of one call
CAPACITY = COPIES / RUN_S
PATIENCE_S = 2.0  # of a client
BEFORE_S = 4.0
QUEUE = 100
APP = '''import os, time

LOG = os.open("{folder}/ran", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def application(environ, start_response):
    os.write(LOG, b"%s %f\\n" % (environ["QUERY_STRING"].encode(),
                                time.monotonic()))
    while os.path.exists("{folder}/stall"):
        time.sleep(0.01)
    time.sleep({run})
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\\n"]
'''
CONF = """\
set access-log off
set queue {queue}
module app {{
    wsgi "{folder}/app.py:application"
    python "{python}"
    floor {copies}
    ceiling {copies}
}}
forward http 127.0.0.1:0 to app
"""


class Crowd:
    """Clients that come at their time, whatever became of those before."""

    def __init__(self, port):
        self.port = port
        self.select = selectors.DefaultSelector()
        self.waiting = collections.OrderedDict()  # socket -> (id, began)
        self.good = []  # times of answers
        self.refused = []  # (time, seconds it took)
        self.gone = {}  # id -> when it left
        self.failed = 0
        self.n = 0

    def come(self, now):
        """One more client."""
        sock = socket.socket()
        sock.setblocking(False)
        code = sock.connect_ex(("127.0.0.1", self.port))
        if code not in (0, errno.EINPROGRESS):
            self.failed += 1
            sock.close()
            return
        self.n += 1
        self.waiting[sock] = (self.n, now)
        self.select.register(sock, selectors.EVENT_WRITE)

    def leave(self, sock):
        self.select.unregister(sock)
        sock.close()
        return self.waiting.pop(sock)

    def ready(self, sock, events):
        """SOCK is connected, or has its answer."""
        number, began = self.waiting[sock]
        try:
            if events & selectors.EVENT_WRITE:
                sock.send(b"GET /?%d HTTP/1.1\r\nHost: a\r\n"
                          b"Connection: close\r\n\r\n" % number)
                self.select.modify(sock, selectors.EVENT_READ)
                return
            data = sock.recv(4096)
        except OSError:
            data = b""
        now = time.monotonic()
        self.leave(sock)
        if data.startswith(b"HTTP/1.1 200 "):
            self.good.append(now)
        elif data.startswith(b"HTTP/1.1 503 "):
            self.refused.append((now, now - began))
        else:
            self.failed += 1

    def run(self, rate, seconds, each_second):
        """RATE clients a second for SECONDS."""
        began = now = time.monotonic()
        sent = told = 0
        while now < began + seconds:
            while sent < (now - began) * rate:
                self.come(now)
                sent += 1
            for key, events in self.select.select(0.002):
                self.ready(key.fileobj, events)
            now = time.monotonic()
            while self.waiting:
                sock, (number, since) = next(iter(self.waiting.items()))
                if now - since < PATIENCE_S:
                    break
                self.gone[number] = now
                self.leave(sock)
            if int(now - began) > told:
                told = int(now - began)
                each_second()

    def close(self):
        for sock in list(self.waiting):
            self.leave(sock)
        self.select.close()


def own_kb(server):
    """Memory of the server without its program, kB."""
    own = [p for p in server.pids()
           if os.path.basename(servers.arguments(p)[0]).startswith("cardea")]
    return sum(memory.pss(p)["Pss"] for p in own)


def for_nobody(folder, crowd):
    """How many calls began after their client had left (by 100 ms: the news
    must come there)."""
    with open(f"{folder}/ran", encoding="ascii") as file:
        ran = [line.split() for line in file if not line.startswith(" ")]
    return sum(float(at) > crowd.gone.get(int(number), float("inf")) + 0.1
               for number, at in ran)


def back_after(crowd, end, rate):
    """Seconds after END from which on a second brings as many answers as
    clients come; None: never."""
    for step in range(0, 200):
        at = end + step / 10
        got = sum(at <= t < at + 1 for t in crowd.good)
        if got >= 0.9 * rate:
            return step / 10
    return None


def one(bench, server, stall_s, after_s):
    """The experiment with one server."""
    crowd = Crowd(server.port)
    rate, sizes = 0.9 * CAPACITY, []
    gate = f"{bench.folder}/stall"
    began = time.monotonic()
    try:
        crowd.run(rate, BEFORE_S, lambda: None)
        with open(gate, "w", encoding="ascii"):
            pass
        crowd.run(3 * CAPACITY, stall_s,
                  lambda: sizes.append(own_kb(server)))
        os.unlink(gate)
        end = time.monotonic()
        crowd.run(rate, after_s, lambda: None)
    finally:
        crowd.close()
    seconds = int(BEFORE_S + stall_s + after_s)
    return {"clients": crowd.n, "good": len(crowd.good),
            "back_s": back_after(crowd, end, rate),
            "nobody": for_nobody(bench.folder, crowd),
            "refused": len(crowd.refused),
            "refused_ms": sorted(1000 * took for _, took in crowd.refused),
            "kb": sizes, "failed": crowd.failed,
            "line": [sum(began + s <= t < began + s + 1 for t in crowd.good)
                     for s in range(seconds)]}


def chart(results, stall_s, path):
    """Answers a second, of each server, as a picture."""
    left, top, width, height = 60, 40, 620, 240
    n = max(len(r["line"]) for r in results.values())
    most = CAPACITY * 1.25

    def x(second):
        return left + width * second / n

    def y(value):
        return top + height - height * value / most

    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="720" height="340" '
           'font-family="sans-serif" font-size="13">',
           '<rect width="720" height="340" fill="#fff"/>',
           f'<rect x="{x(BEFORE_S):.1f}" y="{top}" '
           f'width="{x(BEFORE_S + stall_s) - x(BEFORE_S):.1f}" '
           f'height="{height}" fill="#eee"/>',
           f'<text x="{x(BEFORE_S) + 6:.1f}" y="{top + 16}">all copies stand '
           'still, three times the load</text>',
           f'<text x="{left}" y="24">clients answered in time, a second '
           f'(they leave after {PATIENCE_S:.0f} s)</text>']
    for value in range(0, int(most) + 1, 20):
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(value):.1f}"'
                   f' y2="{y(value):.1f}" stroke="#ccc"/>'
                   f'<text x="{left - 8}" y="{y(value) + 4:.1f}" '
                   f'text-anchor="end">{value}</text>')
    for second in range(0, n + 1, 5):
        out.append(f'<text x="{x(second):.1f}" y="{top + height + 18}" '
                   f'text-anchor="middle">{second} s</text>')
    for k, (name, result) in enumerate(results.items()):
        color = ("#06c", "#c50")[k % 2]
        points = " ".join(f"{x(s + 0.5):.1f},{y(v):.1f}"
                          for s, v in enumerate(result["line"]))
        out.append(f'<polyline points="{points}" fill="none" '
                   f'stroke="{color}" stroke-width="2.5"/>'
                   f'<text x="{left + 8 + 150 * k}" y="{top + height + 44}" '
                   f'fill="{color}">{name}</text>')
    out.append("</svg>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


def report(bench, row, name, result):
    """The lines of one server."""
    done = result["clients"]
    ours = name == "cardea"
    back = result["back_s"]

    bench.add(row, f"{name}: full goodput after the stall", "s",
              [back if back is not None else 999.0], done,
              figure=2 if ours else None,
              note="" if back is not None else "999: not while it was watched")
    bench.add(row, f"{name}: calls for clients that had gone", "",
              [result["nobody"]], done, figure=0 if ours else None)
    if result["refused_ms"]:
        times = result["refused_ms"]
        bench.add(row, f"{name}: refusals, median", "ms",
                  [times[len(times) // 2]], len(times), figure=5)
        bench.add(row, f"{name}: refusals, 99 % within", "ms",
                  [times[len(times) * 99 // 100]], len(times))
    if ours and len(result["kb"]) > 3:
        sizes = result["kb"]
        bench.add(row, "cardea: its memory grew from the stall's middle on",
                  "kB", [max(sizes[len(sizes) // 2:])
                         - sizes[len(sizes) // 2]], done)


def stall(bench, row):
    """Row stall."""
    quick = bench.options.quick
    stall_s, after_s = (6, 8) if quick else (20, 25)
    results = {}
    python.write_app(bench, APP.format(folder=bench.folder, run=RUN_S))

    def play(name, server):
        try:
            results[name] = one(bench, server, stall_s, after_s)
        finally:
            bench.stop_one(server)
            for left in ("ran", "stall"):
                if os.path.exists(f"{bench.folder}/{left}"):
                    os.unlink(f"{bench.folder}/{left}")

    if not os.path.exists(f"{bench.build}/bindings/python/cardea/"
                          "_door.abi3.so"):
        raise ValueError("this build has no Python package")
    server = servers.cardea_from(bench.build, bench.folder, CONF, None,
                                 python=python.PYTHON, queue=QUEUE,
                                 copies=COPIES)
    python.ask(server.port, "/")
    play("cardea", server)
    if os.path.exists("/usr/bin/gunicorn"):
        argv = [python.PYTHON, "/usr/bin/gunicorn", "-w", str(COPIES), "-b",
                "127.0.0.1:{port}", "--log-level", "error", "--timeout",
                "120", "app:application"]
        server = python.start_peer(bench, "gunicorn", argv)
        if server:
            play("gunicorn", server)
    else:
        bench.problem("gunicorn: not installed, so nothing is said of it")
    for name, result in results.items():
        report(bench, row, name, result)
    bench.details[row] = results
    chart(results, stall_s, f"{bench.build}/stall.svg")
