"""Doors at paths, of programs that Cardea did not start."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import time

import pytest

from lib import control
from lib.pace import within
from lib.server import until

CONF = """
set call-timeout 2s

forward http 127.0.0.1:$PORT to {
    map GET  / to "$DIR/plain.door"
    map POST / to "$DIR/plain.door"
}
"""


@pytest.fixture
def plain(helper, folder):
    """plain(): starts the program; its door is there when this returns. OVER:
    it is laid over a file."""
    def start(over=False):
        path = os.path.join(folder, "plain.door")
        if over:
            with open(path, "w", encoding="ascii") as f:
                f.write("no door yet\n")
        return helper("programs/plain", *(["-f"] if over else []), path)

    return start


def heard(reply):
    """What the door was told: request line, fields, body."""
    assert (reply.status, reply.get("X-Door")) == (200, "plain")
    head, body = reply.body.split(b"\r\n\r\n", 1)
    line, *fields = head.decode("latin-1").split("\r\n")
    return line, [tuple(f.split(":", 1)) for f in fields], body


def test_a_plain_door_gets_the_request_and_returns_a_response(cardea, plain):
    plain()
    server = cardea(CONF)
    line, fields, body = heard(
        server.request("/x?y=%7a", fields=["X-One: 1", "x-one:two"]))
    assert line == "GET /x?y=%7a HTTP/1.1"
    name, trace = fields.pop()
    assert name == "traceparent"
    assert re.fullmatch(r" 00-[0-9a-f]{32}-[0-9a-f]{16}-00", trace)
    assert fields == [("Host", " example.org"), ("X-One", " 1"),
                      ("x-one", " two")]
    assert body == b""


def test_a_plain_door_sees_no_field_of_the_connection(cardea, plain):
    plain()
    server = cardea(CONF)
    _, fields, _ = heard(server.request("/x", fields=[
        "Connection: close", "Keep-Alive: timeout=5", "TE: trailers",
        "Proxy-Connection: x", "Upgrade: h2c", "X-One: 1"]))
    assert [name for name, _ in fields] == ["Host", "X-One", "traceparent"]


def test_a_plain_door_is_told_of_the_trace_once(cardea, plain):
    plain()
    server = cardea(CONF)
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    _, fields, _ = heard(server.request("/x", fields=[
        f"traceparent: 00-{trace}-{span}-01", "tracestate: a=1"]))
    values = [v for n, v in fields if n.lower() == "traceparent"]
    assert len(values) == 1 and values[0].startswith(f" 00-{trace}-")
    assert span not in values[0]
    assert ("tracestate", " a=1") in fields


def lengths(fields):
    """Content-Length as the door sees it: 20 columns, since its place is kept
    before the length of a chunked body is known."""
    values = [v for n, v in fields if n.lower() == "content-length"]
    assert all(len(v) == 21 and v[0] == " " for v in values)
    return [v.strip() for v in values]


@pytest.mark.parametrize("size", [0, 3, 5000, 400000])
def test_a_plain_door_gets_the_body(cardea, plain, size):
    plain()
    server = cardea(CONF)
    body = os.urandom(size)
    line, fields, got = heard(server.request("/x", "POST", body=body))
    assert line == "POST /x HTTP/1.1"
    assert lengths(fields) == [str(size)]
    assert got == body


def test_a_plain_door_gets_a_chunked_body_with_a_length(cardea, plain):
    plain()
    server = cardea(CONF)
    body = os.urandom(300000)
    with server.wire() as wire:
        wire.send("POST /x HTTP/1.1\r\nHost: a\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 4099):
            part = body[at:at + 4099]
            wire.send(b"%x\r\n%s\r\n" % (len(part), part))
        wire.send("0\r\n\r\n")
        _, fields, got = heard(wire.reply())
    assert lengths(fields) == ["300000"]
    assert got == body
    assert "transfer-encoding" not in [n.lower() for n, _ in fields]


@pytest.mark.parametrize("path, length", [("/nobody", "7"),
                                          ("/nolength", "3")])
def test_a_head_request_may_be_answered_with_or_without_the_body(
        cardea, plain, path, length):
    plain()
    server = cardea(CONF)
    with server.wire() as wire:
        reply = wire.request(path, "HEAD")
        assert (reply.get("Content-Length"), reply.body) == (length, b"")
        # Not a byte of a body stands before the next reply.
        assert wire.request("/big").body == b"b" * 150000


def test_a_plain_door_may_leave_out_the_length(cardea, plain):
    plain()
    reply = cardea(CONF).request("/nolength")
    assert (reply.status, reply.get("X-A"), reply.body) == (203, "a", b"abc")
    assert reply.get("Content-Length") == "3"


def test_a_plain_door_cannot_end_the_connection(cardea, plain):
    plain()
    server = cardea(CONF)
    with server.wire() as wire:
        reply = wire.request("/hops")
        assert (reply.get("X-A"), reply.body) == ("a", b"abc")
        assert reply.get("Connection") is reply.get("Keep-Alive") is None
        assert wire.request("/empty").status == 204
        wire.assert_open("/x")


def test_a_large_response_of_a_plain_door_arrives_whole(cardea, plain):
    plain()
    assert cardea(CONF).request("/big").body == b"b" * 150000


@pytest.mark.parametrize("path", [
    "/lie", "/nothing", "/half", "/noise", "/short", "/long", "/interim",
    "/chunked", "/split",
])
def test_a_response_that_is_none_is_502(cardea, plain, path):
    plain()
    server = cardea(CONF)
    with server.wire() as wire:
        assert wire.request(path).status == 502
        wire.assert_open("/x")
    server.wait_log(rf"target={path} .*status=502 .*cause=(no-answer|lied)")


def test_a_door_may_lie_over_a_file(cardea, plain):
    plain(over=True)
    server = cardea(CONF)
    line, _, body = heard(server.request("/x", "POST", body=b"abc"))
    assert (line, body) == ("POST /x HTTP/1.1", b"abc")


def test_a_file_that_is_no_door_is_503(cardea, plain, folder):
    with open(os.path.join(folder, "plain.door"), "w", encoding="ascii") as f:
        f.write("HTTP/1.1 200 OK\r\n\r\n")
    server = cardea(CONF)
    assert server.request("/x").status == 503
    plain(over=True)
    until(lambda: server.request("/x").status == 200,
          what="the door's being found")


def test_a_door_may_come_later(cardea, plain):
    server = cardea(CONF)
    assert server.request("/x").status == 503
    plain()
    until(lambda: server.request("/x").status == 200,
          what="the door's being found")


def test_a_door_may_go_and_come_back(cardea, plain, folder):
    child = plain()
    server = cardea(CONF)
    assert server.request("/x").status == 200
    child.kill()
    child.wait()
    until(lambda: server.request("/x").status == 503, what="the door's end")
    if os.path.lexists(os.path.join(folder, "plain.door")):
        os.unlink(os.path.join(folder, "plain.door"))
    plain()
    until(lambda: server.request("/x").status == 200, what="its return")


def test_ls_shows_a_door_as_a_socket(plain, folder):
    plain()
    mode = os.stat(os.path.join(folder, "plain.door")).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666


def test_a_program_of_a_user_is_compiled_and_served(cardea, compile_program):
    compile_program("""
        #include <cardea.h>
        static void hello(struct cardea_request *r)
        {
            cardea_printf(r, "hello, %s\\n", cardea_peer(r));
        }
        int main(void) { return cardea_serve_threads(hello); }
    """, name="mine")
    server = cardea("""
        module mine { run "./mine" }
        forward http 127.0.0.1:$PORT to mine
    """)
    assert server.request("/").text == "hello, 127.0.0.1\n"


def test_callers_that_come_back_at_once_make_no_more_threads(cardea):
    """As many threads as calls were ever there at the same time, however often
    and however quickly the next call follows the answer."""
    server = cardea("""
        module sleep { run "$PROGRAMS/sleep" }
        forward http 127.0.0.1:$PORT to sleep
    """)
    callers = 24

    def call(wire):
        for ms in [5] * 15 + [1] * 15:
            reply = wire.request(f"/?ms={ms}")
            assert reply.status == 200

    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(server.wire()) for _ in range(callers)]
        with concurrent.futures.ThreadPoolExecutor(callers) as pool:
            list(pool.map(call, wires))
    sleep = control.module(control.status(control.path_of(server)), "sleep")
    assert sleep["calls"] == callers * 30
    assert sleep["threads_high"] <= callers


def test_a_link_is_no_door_of_a_module(cardea, folder):
    """A module owns its folder, but not what a link in it leads to: the keeper,
    which may be root, dials what lies in there itself."""
    with open(os.path.join(folder, "thief"), "w", encoding="ascii") as f:
        f.write('ln -sf ../hello/door "$CARDEA_DOOR" && exec sleep 60\n')
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        module thief { run "/bin/sh $DIR/thief" }
        forward http 127.0.0.1:$PORT to {
            map any / to hello
            map any /thief to thief
        }
    """)
    server.wait_log(r'event=door-wait module=thief .*error="Too many levels of '
                    r'symbolic links"')
    assert server.request("/").status == 200
    assert server.request("/thief").status == 503


def test_the_door_of_a_module_is_for_its_keeper_alone(cardea):
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to { map any / to hello }
    """)
    door = server.wait_log(r"event=door-open .*door=(\S+)").group(1)
    assert stat.S_IMODE(os.lstat(door).st_mode) == 0o600
    assert server.request("/").status == 200


# cardea doors, cardea call --fd

def row_of(cli, path):
    done = cli("doors", "--json")
    assert done.returncode == 0, done.stderr
    return next((r for r in json.loads(done.stdout) if r["path"] == path), None)


@pytest.mark.parametrize("over", [False, True])
def test_one_door_is_told_of_whole(cli, plain, folder, over):
    child = plain(over)
    path = os.path.join(folder, "plain.door")
    done = cli("call", path, "GET", "/", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = cli("doors", path)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert told["path"] == path
    assert told["server"] == f"{child.pid} plain"
    assert told["data"] == "0 to any number of bytes"
    assert told["takes"] == "bytes (door_call)"
    assert told["calls"] == "1"
    assert int(told["references"]) >= 2  # the server's own, and the name


def test_doors_lists_what_is_attached(cli, plain, folder):
    child = plain(True)
    path = os.path.join(folder, "plain.door")
    row = row_of(cli, path)
    if os.geteuid() != 0 and row is None:
        pytest.skip("the server's descriptors cannot be looked at")
    assert (row["pid"], row["program"]) == (child.pid, "plain")
    assert row["attributes"] == []
    assert (row["threads"], row["calls"]) == (1, 0)
    number = row["number"]
    assert any(line.startswith(number) and line.endswith(path)
               for line in cli("doors").stdout.splitlines())
    child.kill()
    child.wait()
    until(lambda: number not in cli("doors").stdout, what="its end")


def test_doors_that_are_stopped_hold_up_no_list(cli, helper, folder):
    paths = [os.path.join(folder, f"{n}.door") for n in range(4)]
    for path in paths:
        with open(path, "w", encoding="ascii") as f:
            f.write("no door yet\n")
    children = [helper("programs/plain", "-f", path) for path in paths]
    for child in children[:3]:
        os.kill(child.pid, signal.SIGSTOP)
    before = time.monotonic()
    rows = {r["path"]: r for r in json.loads(cli("doors", "--json").stdout)}
    assert within(time.monotonic() - before, 6)  # three times five, one by one
    assert rows[paths[3]]["pid"] == children[3].pid
    for child in children[:3]:
        os.kill(child.pid, signal.SIGCONT)
    rows = {r["path"]: r for r in json.loads(cli("doors", "--json").stdout)}
    assert [rows[p]["pid"] for p in paths] == [c.pid for c in children]


def test_doors_of_modules_are_listed(cardea, cli):
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """)
    for _ in range(3):
        assert server.request("/").status == 200
    done = cli("doors", "--json", env=server.environment)
    rows = [r for r in json.loads(done.stdout)
            if r["pid"] == server.modules("hello")[0] and r["path"]]
    assert len(rows) == 1 and rows[0]["path"].endswith("/hello/door")
    assert rows[0]["calls"] == 3


def test_no_door_is_told_so(cli, folder):
    done = cli("doors", os.path.join(folder, "none"))
    assert done.returncode == 1
    assert "no door answers there: No such file or directory" in done.stderr


DESCS = r"""
    #include <door.h>
    #include <stdio.h>
    #include <string.h>
    #include <unistd.h>
    static void answer(void *cookie, char *argp, size_t size, door_desc_t *dp,
                       unsigned int n)
    {
        char text[1000];
        size_t len = 0;
        (void)cookie; (void)argp; (void)size;
        for (unsigned int i = 0; i < n; i++) {
            ssize_t got = read(dp[i].d_data.d_desc.d_descriptor, text + len,
                               sizeof text - len);
            len += got > 0 ? (size_t)got : 0;
        }
        door_return(text, len, dp, n > 2 ? 2 : n);
    }
    int main(int argc, char **argv)
    {
        int d = door_create(answer, NULL, argc > 2 ? DOOR_REFUSE_DESC : 0);
        if (d < 0 || door_attach(d, argv[1], 0600) < 0) {
            return 1;
        }
        puts("attached");
        fflush(stdout);
        pause();
    }
"""


@pytest.fixture
def reads_descs(compile_program, folder):
    """Its path. What it reads from the descriptors is its answer."""
    program = compile_program(DESCS, name="descs")
    path = os.path.join(folder, "d.door")
    child = subprocess.Popen([program, path], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"attached\n"
    yield path
    child.kill()
    child.wait()
    child.stdout.close()


def test_call_passes_descriptors(cli, reads_descs, folder):
    paths = [os.path.join(folder, n) for n in ("one", "two", "three")]
    for p in paths:
        with open(p, "w", encoding="ascii") as f:
            f.write(os.path.basename(p) + ";")
    with open(paths[2], "rb") as inherited:
        done = cli("call", "--fd", paths[0], "--fd=" + paths[1], "--fd",
                   str(inherited.fileno()), reads_descs, pass_fds=[
                       inherited.fileno()])
    assert (done.returncode, done.stdout) == (0, "one;two;three;"), done.stderr
    assert f"returned descriptor 1 of 2: {paths[0]} (closed" in done.stderr
    assert f"returned descriptor 2 of 2: {paths[1]} (closed" in done.stderr


def test_call_says_what_it_cannot_pass(cli, reads_descs, folder, cardea):
    done = cli("call", "--fd", os.path.join(folder, "no"), reads_descs)
    assert done.returncode == 1 and "cannot open it: No such file" in done.stderr
    done = cli("call", "--fd", "99", reads_descs)
    assert done.returncode == 64 and "no such descriptor" in done.stderr
    many = [w for _ in range(17) for w in ("--fd", "0")]
    assert cli("call", *many, reads_descs).returncode == 64
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """)
    done = cli("call", "hello", "--fd", "0", "-f", server.conf,
               env=server.environment)
    assert done.returncode == 1 and "no descriptors (--fd)" in done.stderr


# Watches

# A user namespace has a count of its own, so no other test is hindered; and in
# one within it the server is a plain user, for there is no other one.
NO_WATCH = ["unshare", "--user", "--map-root-user", "sh", "-c",
            "echo 0 >/proc/sys/user/max_inotify_instances && "
            'exec unshare --user --map-user=1000 "$@"', "sh"]


def test_doors_are_found_where_no_folder_can_be_watched(cardea, helper, folder):
    """A user's other programs may have all that there are."""
    if subprocess.run([*NO_WATCH, "true"], check=False).returncode:
        pytest.skip("only who may make user namespaces has none to be watched")
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to {
            map GET / to hello
            map GET /plain to "$DIR/plain.door"
        }
    """, prefix=NO_WATCH)
    server.wait_log(r"level=warn event=no-watch error=.*open files")
    assert server.request("/").status == 200
    assert server.request("/plain").status == 503
    helper("programs/plain", f"{folder}/plain.door")
    until(lambda: server.request("/plain").status == 200)
    (pid,) = server.modules("hello")
    os.kill(pid, signal.SIGKILL)
    server.wait_log(r"event=died module=hello")
    assert server.request("/").status == 200
    assert len([l for l in server.log if "event=no-watch" in l]) == 1
