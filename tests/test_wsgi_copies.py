"""The copies of a Python application: forked from a parent that has imported it
once and answers nothing itself. Each rule has a case (docs/python.md)."""

import os
import signal
import time

import pytest

from lib.python import loaded, need_extension, write_apps
from lib.server import until

COPIES = '''
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid

import cardea

print("loaded", os.getpid(), flush=True)
WHERE = os.path.dirname(os.path.abspath(__file__))
LOADED = os.getpid()
own = random.Random(1)
order = []
HELD = open(__file__)
os.register_at_fork(before=lambda: order.append("os before"),
                    after_in_child=lambda: order.append("os after"))

@cardea.before_fork
def before():
    order.append(f"before {os.getpid() == LOADED}")

@cardea.after_fork
def after():
    order.append(f"after {os.getpid() != LOADED}")
    own.seed()

@cardea.retire
def retire():
    print("retired", os.getpid(), order.count("called"), flush=True)

def wait(name, text):
    """Waits in a call until the test has made the file NAME; says by a file of
    its own that it does."""
    open(os.path.join(WHERE, f"{name}.{os.getpid()}"), "w").close()
    end = time.monotonic() + 20
    while not os.path.exists(os.path.join(WHERE, name)) and \\
            time.monotonic() < end:
        time.sleep(0.005)
    return text

def do(what, name):
    if what == "pid":
        return f"{os.getpid()} {os.getppid()} {LOADED}"
    if what == "random":
        return wait(name, f"{os.getpid()} {random.random()} {own.random()} "
                          f"{uuid.uuid4()}")
    if what == "wait":
        return wait(name, str(os.getpid()))
    if what == "order":
        return ",".join(order)
    if what == "files":
        return "\\n".join(os.readlink(f"/proc/self/fd/{n}")
                         for n in os.listdir("/proc/self/fd")
                         if os.path.exists(f"/proc/self/fd/{n}"))
    if what == "child":
        return subprocess.run(["ls", "-l", "/proc/self/fd"],
                              stdout=subprocess.PIPE, text=True).stdout
    if what == "thread":
        got = []
        thread = threading.Thread(target=lambda: got.append("ran"))
        thread.start()
        thread.join()
        return got[0]
    if what == "process":
        end, other = multiprocessing.Pipe()
        mine = os.getpid()
        process = multiprocessing.get_context("fork").Process(
            target=lambda: other.send(os.getppid() == mine))
        process.start()
        process.join()
        return f"{end.recv()} {process.exitcode}"
    if what == "leaves":
        sys.exit(3)
    if what == "ends":
        os._exit(7)

def application(environ, start_response):
    text = do(environ["PATH_INFO"][1:], environ["QUERY_STRING"])
    order.append("called")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
'''
COPIES_CONF = """
module app {{ wsgi "copies.py:application" {more} }}
forward http 127.0.0.1:$PORT to app
"""


@pytest.fixture
def copies(build, cardea, folder):
    """copies(text of the application, more options): a server."""
    need_extension(build)

    def start(text=COPIES, more="", wait=True):
        write_apps(folder, {"copies.py": text})
        server = cardea(COPIES_CONF.format(more=more))
        return loaded(server, "/pid") if wait else server
    return start


def at_once(server, path, n):
    """The answers to N requests that wait for one another."""
    gate = f"gate{time.monotonic_ns()}"
    wires = [server.wire() for _ in range(n)]
    for wire in wires:
        wire.ask(f"{path}?{gate}")
    until(lambda: len([f for f in os.listdir(server.folder)
                       if f.startswith(gate + ".")]) == n,
          what=f"{n} copies in a call")
    with open(os.path.join(server.folder, gate), "w", encoding="ascii"):
        pass
    texts = [wire.reply().text for wire in wires]
    for wire in wires:
        wire.close()
    return texts


def parent_of(server):
    return int(server.wait_log(r"text=\"?loaded (\d+)").group(1))


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(n) for n in f.read().split()]


def test_calls_at_one_time_run_in_copies_of_a_parent_that_serves_none(copies):
    server = copies()
    parent = parent_of(server)
    assert server.threads(parent) == 1
    found = at_once(server, "/wait", 5)
    assert len(set(found)) == 5
    assert str(parent) not in found
    assert server.threads(parent) == 1
    mine, above, loaded = server.request("/pid").text.split()
    assert int(loaded) == parent != int(mine)


def test_random_numbers_differ_between_copies(copies):
    server = copies()
    found = [t.split() for t in at_once(server, "/random", 4)]
    for column in range(4):
        assert len({line[column] for line in found}) == 4, found


def test_hooks_run_around_the_making_of_a_copy(copies):
    server = copies()
    order = server.request("/order").text.split(",")
    assert [o for o in order if o in ("os before", "os after", "before True",
                                      "after True")][-4:] == \
        ["before True", "os before", "os after", "after True"]
    assert "before False" not in order and "after False" not in order


def test_a_copy_has_no_descriptors_but_its_own(copies):
    server = copies()
    found = server.request("/files").text.splitlines()
    # Of the keeper nothing: no listener, no pipe of another program.
    port = f":{server.port:04X} "
    with open("/proc/net/tcp", encoding="ascii") as f:
        listening = {f"socket:[{line.split()[9]}]" for line in f
                     if port in line}
    assert not listening & set(found)
    # Of the application all, of the interpreter and the door no more than a
    # handful.
    assert server.folder + "/copies.py" in found
    assert len(found) < 20, found
    # What it runs gets three, and ls opens one.
    child = server.request("/child").text.strip().splitlines()
    assert len([line for line in child if "->" in line]) == 4, child


def test_a_copy_may_have_threads(copies):
    server = copies()
    assert [server.request("/thread").text for _ in range(3)] == ["ran"] * 3


def test_a_copy_may_fork_in_a_call(copies):
    server = copies()
    assert [server.request("/process").text for _ in range(3)] == \
        ["True 0"] * 3


def test_the_end_of_a_copy_in_a_call_is_502_for_that_client_alone(copies):
    server = copies()
    gate = os.path.join(server.folder, "gate")
    with server.wire() as other:
        other.ask("/wait?gate")
        until(lambda: [f for f in os.listdir(server.folder)
                       if f.startswith("gate.")], what="a copy in a call")
        for path, line in (("/leaves", r"text=\"?retired \d+"),
                           ("/ends", "")):
            assert server.request(path).status == 502
            server.wait_log(line)
        with open(gate, "w", encoding="ascii"):
            pass
        assert other.reply().status == 200
    mine, _, loaded = server.request("/pid").text.split()
    assert int(loaded) == parent_of(server) != int(mine)


def test_a_copy_that_had_its_calls_leaves_in_order(copies):
    server = copies(more="; recycle calls 4")
    found = [server.request("/pid").text.split()[0] for _ in range(12)]
    assert len(set(found)) > 1
    # A tenth more or less; one that a worker's start replaced has had fewer.
    left = server.wait_log(r'text="?retired (\d+) [345]\b')
    assert left.group(1) in found
    assert max(found.count(pid) for pid in found) <= 5


def test_a_killed_parent_is_replaced_by_one_with_the_new_code(copies):
    server = copies()
    parent = parent_of(server)
    assert server.request("/thread").text == "ran"
    start = server.lines()
    write_apps(server.folder, {"copies.py": COPIES.replace('"ran"',
                                                           '"new"')})
    os.kill(parent, signal.SIGKILL)
    again = int(server.wait_log(r"text=\"?loaded (\d+)",
                                start=start).group(1))
    assert again != parent

    def answered():
        reply = server.request("/thread")
        return reply.status == 200 and reply.text == "new"
    until(answered, what="the new code's answer")


def test_an_application_with_threads_is_served_by_threads(copies):
    server = copies(COPIES + """
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
""")
    server.wait_log("started 1 threads when it was loaded, so no copies")
    assert server.request("/pid").text.split()[0] == str(parent_of(server))
    assert len(children(parent_of(server))) == 0
    assert sum("so no copies" in line for line in server.log) == 1
    with server.wire() as first, server.wire() as second:
        first.ask("/wait?both")
        second.ask("/wait?both")
        assert server.request("/thread").text == "ran"  # beside them
        with open(os.path.join(server.folder, "both"), "w", encoding="ascii"):
            pass
        assert first.reply().status == second.reply().status == 200


def test_a_socket_that_copies_share_is_told_of(copies):
    server = copies(COPIES + """
ends = socket.socketpair()
kept = ends[0].fileno()
""")
    server.request("/pid")
    server.wait_log("copies of the application share the socket on "
                    r"descriptor \d+, which was opened when it was loaded")


def test_a_socket_that_a_hook_opens_anew_is_not_told_of(copies):
    server = copies(COPIES + """
ends = socket.socketpair()
@cardea.after_fork
def renew():
    global ends
    for end in ends:
        end.close()
    ends = socket.socketpair()
""")
    assert server.request("/pid").status == 200
    at_once(server, "/wait", 3)
    assert not [line for line in server.log if "share the socket" in line]


def test_a_hook_that_fails_ends_the_copy_and_is_told(copies):
    server = copies(COPIES + """
@cardea.after_fork
def fails():
    raise ValueError("no database")
""", wait=False)
    server.wait_log("ValueError: no database")


def test_an_application_that_hangs_at_its_start_is_ended(copies):
    server = copies("import time\ntime.sleep(1000)\n",
                    "; start-timeout 3s", wait=False)
    server.wait_log("Timeout ")
    server.wait_log(r'copies\.py\\?", line 2 in <module>')
    server.wait_log(r"event=died module=app .*cause=late")
    assert server.request("/").status in (502, 503)


@pytest.mark.parametrize("text, word", [
    ("import nothing_of_this_name", "ModuleNotFoundError"),
    ("def application(:", "SyntaxError"),
    ("other = 1", "has no application"),
    ("application = 1", "application cannot be called"),
    ("import sys; sys.exit(3)", "left with 3 when it was loaded"),
])
def test_an_application_that_cannot_be_loaded_says_why(copies, text, word):
    copies(text + "\n", wait=False).wait_log(word)
