"""Which copy wrote a line: each has pipes of its own (src/cohort/writers.c)."""

import os
import signal
import socket
import threading

import pytest

from lib.python import loaded, need_extension, write_apps
from lib.server import alive, until
from test_copies import GROUP_SIGNALS, answer, at_once, children, route, settled

# Says how many of 300 connections got pipes, and again once they are closed.
GREEDY = '''
import array, os, socket, sys, time

def ask():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(os.environ["CARDEA_OUTPUT"])
    _, fds, _, _ = socket.recv_fds(s, 100, 4)
    s.close()
    return fds

end = time.monotonic() + 20
while True:
    got = [fd for _ in range(300) for fd in ask()]
    os.write(2, b"got %d\\n" % len(got))
    if got:
        os.write(got[1], b"of my own\\n")
        os.write(got[-2], b"no end")
    for fd in got:
        os.close(fd)
    if os.path.exists("go"):
        break
    time.sleep(0.05)
os.write(2, b"done\\n")
time.sleep(1000)
'''


PRINTS = '''
import faulthandler, logging, os, subprocess, sys

faulthandler.enable()
logging.basicConfig()

def application(environ, start_response):
    print("printed", "in two\\nlines")
    print("errs", file=sys.stderr)
    logging.warning("logged")
    sys.stdout.buffer.write(b"bytes\\n")
    sys.stdout.flush()
    os.write(1, b"by hand\\n")
    subprocess.run(["echo", "a child"], stdout=sys.stdout)
    if environ["QUERY_STRING"] == "crash":
        print("to be", end=" ", flush=True)
        print("or not", end="", flush=True)
        faulthandler._sigabrt()
    start_response("200 OK", [])
    return [b"%d %s" % (os.getpid(), environ["cardea.request_id"].encode())]
'''


def start_by(cardea, folder, script):
    """A server whose module is a shell SCRIPT in FOLDER that knows `copies`."""
    (folder / "start.sh").write_text(f'PATH="$1:$PATH"\n{script}\n')
    return cardea(f'''
        module app {{ run "/bin/sh start.sh $PROGRAMS"; folder {folder} }}
        forward http 127.0.0.1:$PORT to app
    ''')


def lines_of(server, pid, text):
    return server.wait_log(rf"event=output module=app .*\bpid={pid}\b.* "
                           rf"text=.*{text}")


def test_each_line_tells_which_copy_wrote_it(cardea):
    server = cardea(route())
    found = at_once(server, 6, "?ms=300&say=lines")
    assert {a[0] for a in found} == {200}
    pids = {a[1] for a in found}
    assert len(pids) > 1
    for pid in pids:
        server.wait_log(f'stream=stderr pid={pid} text="copy {pid} errs"')
        server.wait_log(f'stream=stdout pid={pid} text="copy {pid} prints"')
        server.wait_log(f'stream=stdout pid={pid} text="a child of {pid}"')
        # What hooks write too, from the first line on.
        server.wait_log(f'stream=stderr pid={pid} text="copy {pid} of ')
    server.assert_sane()


def test_half_a_line_of_a_copy_that_is_killed(cardea):
    server = cardea(route())
    pid = settled(server)
    assert server.request("/?say=half&signal=9", method="POST",
                          body=b"x").status == 502
    line = server.wait_log(r'text="half a line of copy \d+"').group()
    told = server.wait_log(r'pid=(\d+) text="half a line of copy (\d+)"')
    assert told.group(1) == told.group(2), line
    assert int(told.group(1)) == pid or not alive(int(told.group(1)))


def test_a_copy_cannot_pass_for_another(cardea):
    server = cardea(route())
    _, pid, _, _ = answer(server, "?say=lie")
    server.wait_log(f'pid={pid} request=some-id text="copy {pid} lies"')


def test_a_copy_tells_its_request(cardea):
    server = cardea(route())
    _, pid, _, _ = answer(server, "?say=log")
    server.wait_log(rf'pid={pid} request=[0-9a-f]{{16}} text="copy {pid} logs"')


@pytest.mark.skipif(not GROUP_SIGNALS, reason="no copy lives on")
def test_copies_that_live_on_are_heard(cardea):
    server = cardea(route())
    settled(server)
    warm = answer(server)[3]
    start = server.lines()
    found = []
    slow = threading.Thread(target=lambda: found.append(
        answer(server, "?first=log&ms=1000&say=lines")))
    slow.start()
    pid = server.wait_log(r'text="copy (\d+) logs"', start=start).group(1)
    os.kill(warm, signal.SIGKILL)
    server.wait_log("event=serves-on", start=start)
    slow.join()
    assert found[0][:2] == (200, int(pid))
    server.wait_log(f'stream=stdout pid={pid} text="copy {pid} prints"',
                    start=start)
    until(lambda: not alive(int(pid)), limit=30, what="the end of the old copy")
    server.assert_sane()


def test_without_pipes_of_their_own_lines_come_all_the_same(cardea, tmp_path):
    server = start_by(cardea, tmp_path, 'rm "$CARDEA_OUTPUT"; exec copies')
    _, pid, _, _ = answer(server, "?say=lines")
    server.wait_log(f'stream=stderr text="copy {pid} errs"')
    server.wait_log(f'stream=stdout text="copy {pid} prints"')


def test_what_a_program_redirected_stays_so(cardea, tmp_path):
    server = start_by(cardea, tmp_path, "exec copies 2>errors")
    _, pid, _, _ = answer(server, "?say=lines")
    server.wait_log(f'stream=stdout pid={pid} text="copy {pid} prints"')
    with open(tmp_path / "errors", encoding="ascii") as f:
        assert f"copy {pid} errs" in f.read()


def test_a_stranger_gets_no_pipes(cardea):
    server = cardea(route())
    warm = answer(server)[3]
    with open(f"/proc/{warm}/environ", encoding="utf-8") as f:
        path = [v for v in f.read().split("\0")
                if v.startswith("CARDEA_OUTPUT=")][0].partition("=")[2]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(15)
        s.connect(path)
        assert socket.recv_fds(s, 100, 4)[:2] == (b"", [])
    server.assert_sane()


def test_pipes_are_bounded_and_come_back(cardea, tmp_path):
    (tmp_path / "greedy.py").write_text(GREEDY)
    server = cardea(f'''
        module greedy {{ run "/usr/bin/python3 greedy.py"; folder {tmp_path} }}
        {route()}
    ''')
    server.wait_log('text="got 512"')
    server.wait_log(r'stream=stderr pid=\d+ text="of my own"')
    server.wait_log(r'stream=stdout pid=\d+ text="no end"')
    # The others have theirs meanwhile.
    _, pid, _, _ = answer(server, "?say=lines")
    lines_of(server, pid, f"copy {pid} errs")
    (tmp_path / "go").touch()
    server.wait_log('text=done')
    until(lambda: server.fds(server.keeper()) < 100, what="the end of the pipes")
    server.assert_sane()


def test_what_python_prints_tells_copy_and_request(cardea, build, tmp_path):
    need_extension(build)
    write_apps(tmp_path, {"prints.py": PRINTS})
    server = loaded(cardea(f'''
        module app {{ wsgi "{tmp_path}/prints.py:application" }}
        forward http 127.0.0.1:$PORT to app
    '''), "/")
    pid, call = server.request("/").text.split()
    for stream, text in (("stdout", '"printed in two"'), ("stdout", "lines"),
                         ("stderr", "errs"), ("stderr", "WARNING:root:logged"),
                         ("stdout", "bytes")):
        server.wait_log(f"stream={stream} pid={pid} request={call} text={text}")
    for text in ("by hand", "a child"):
        server.wait_log(f'stream=stdout pid={pid} text="{text}"')
    # A half line has its tag once, and the interpreter's last words a pid.
    start = server.lines()
    assert server.request("/?crash", method="POST", body=b"x").status == 502
    said = server.wait_log(r'stream=stdout pid=(\d+) request=[0-9a-f]+ '
                           r'text="to be or not"', start=start)
    server.wait_log(rf'stream=stderr pid={said.group(1)} '
                    r'text="Fatal Python error: Aborted', start=start)
    server.assert_sane()
