"""Applications by PEP 3333 behind `wsgi`: any file with a callable, served by
the interpreter that the configuration names."""

import re
import time

import pytest

from lib.python import loaded, need_extension, write_apps
from lib.server import until

APPS = {
    "hello.py": '''
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\\n"]
''',
    # What an application sees, as one line for each name.
    "show.py": '''
def application(environ, start_response):
    body = "".join(f"{k}={v!r}\\n" for k, v in sorted(environ.items()))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode("ascii", "backslashreplace")]
''',
    "echo.py": '''
def application(environ, start_response):
    start_response("201 Made", [("X-From", "python")])
    return iter([environ["wsgi.input"].read(5), environ["wsgi.input"].read()])
''',
    "checked.py": '''
from wsgiref.validate import validator

def lines(environ, start_response):
    body = environ["wsgi.input"]
    got = [body.read(3), body.readline(), *body.readlines(), *body]
    print("checked", len(got), file=environ["wsgi.errors"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(got).encode()]

application = validator(lines)
''',
    "answers.py": '''
import os
import sys

class Blocks:
    """A body whose end the log tells of."""
    def __init__(self, *blocks, error=None):
        self.blocks, self.error = list(blocks), error
    def __iter__(self):
        yield from self.blocks
        if self.error:
            raise self.error
    def close(self):
        print("closed", flush=True)

def answer(start_response, status="200 OK", fields=(), *blocks):
    start_response(status, [("Content-Type", "text/plain"), *fields])
    return Blocks(*blocks)

def early(environ, start_response):
    raise ValueError("before start_response")

def late(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return Blocks(b"x" * 100, error=ValueError("after a block"))

def unstarted(environ, start_response):
    return Blocks(b"body")

def nothing(environ, start_response):
    return Blocks()

def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return Blocks(b"body")

def replaced(environ, start_response):
    start_response("200 OK", [("X-Old", "1")])
    try:
        raise ValueError("seen by the application")
    except ValueError:
        start_response("503 Busy", [("X-New", "1")], sys.exc_info())
    return Blocks(b"replaced")

def too_late(environ, start_response):
    write = start_response("200 OK", [])
    write(b"sent")
    try:
        raise KeyError("raised again")
    except KeyError:
        start_response("503 Busy", [], sys.exc_info())
    return Blocks(b"never")

def written(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"one ")
    write(b"two ")
    return Blocks(b"three")

def text(environ, start_response):
    start_response("200 OK", [])
    return Blocks("a string")

def leaves(environ, start_response):
    sys.exit("enough")

def ends(environ, start_response):
    os._exit(7)

def tuples(environ, start_response):
    start_response("200 OK", [("X-A", "1"), ("X-A", "2")])
    return (b"a", b"", b"b")

def large(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Blocks(*[bytes([65 + i]) * (1 << 20) for i in range(20)])

def kept(environ, start_response):
    global late_input
    before, late_input = globals().get("late_input"), environ["wsgi.input"]
    start_response("200 OK", [])
    try:
        return Blocks(before.read() if before else b"first")
    except ValueError as e:
        return Blocks(str(e).encode())

def closing(environ, start_response):
    class Bad(Blocks):
        def close(self):
            raise ValueError("in close")
    start_response("200 OK", [])
    return Bad(b"complete")

RAW = {
    "newline": ("200 OK", [("X-A", "1\\r\\nX-B: 2")]),
    "name": ("200 OK", [("X-A: 1\\r\\nX-B", "2")]),
    "space": ("200 OK", [("X A", "2")]),
    "status": ("200 OK\\r\\nX-B: 2", []),
    "hop": ("200 OK", [("Connection", "close")]),
    "framing": ("200 OK", [("Transfer-Encoding", "chunked")]),
    "number": ("200 OK", [("Content-Length", "-1")]),
    "lengths": ("200 OK", [("Content-Length", "1"), ("Content-Length", "2")]),
    "early": ("100 Continue", []),
    "word": ("OK", []),
    "bytes": (b"200 OK", []),
    "pairs": ("200 OK", [["X-A", "1"]]),
    "tuple": ("200 OK", (("X-A", "1"),)),
    "number-value": ("200 OK", [("X-A", 1)]),
    "snowman": ("200 OK", [("X-A", "\\u2603")]),
    "many": ("200 OK", [("X-A", "y" * 1000)] * 40),
}

def raw(environ, start_response):
    status, fields = RAW[environ["QUERY_STRING"]]
    start_response(status, fields)
    return Blocks(b"body")

def lengths(environ, start_response):
    said, given = environ["QUERY_STRING"].split(",")
    return answer(start_response, "200 OK", [("Content-Length", said)],
                  b"x" * int(given))

def code(environ, start_response):
    return answer(start_response, environ["QUERY_STRING"] + " Some", [],
                  b"body")

def file(environ, start_response):
    f = open(__file__, "rb")
    f.read(int(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/x-python")])
    return environ["wsgi.file_wrapper"](f, 8192)

def unfile(environ, start_response):
    import gzip, io
    f = gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b"unpacked")))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](f, 3)

def application(environ, start_response):
    return globals()[environ["PATH_INFO"][1:]](environ, start_response)
''',
}
CONF = """
module hello   { wsgi "hello.py:application" }
module show    { wsgi "show.py:application" }
module echo    { wsgi "echo.py:application" }
module checked { wsgi "checked.py:application" }
module answers { wsgi "answers.py:application" }

forward http 127.0.0.1:$PORT to {
    map GET  /hello   to hello
    map GET  /show    to show
    map any  /echo    to echo
    map any  /checked to checked
    map GET  /answers to answers
}
"""


@pytest.fixture(scope="module")
def server(build, shared, shared_folder):
    need_extension(build)
    write_apps(shared_folder, APPS)
    return loaded(shared(CONF), "/hello", "/show", "/echo",
                  "/checked", "/answers/tuples")


def shown(reply):
    assert reply.status == 200, reply
    return dict(line.split("=", 1) for line in reply.text.splitlines())


def test_an_application_answers(server):
    reply = server.request("/hello")
    assert (reply.status, reply.body) == (200, b"hello\n")
    assert reply.get("Content-Type") == "text/plain"


def test_environ_is_as_pep_3333_has_it(server):
    got = shown(server.request("/show/more%20path/%c3%a4?a=b&c", fields=[
        "X-Thing: 1", "X-Thing: 2", "Cookie: a=1", "Cookie: b=2",
        "Accept: */*"]))
    assert got["REQUEST_METHOD"] == "'GET'"
    assert got["SCRIPT_NAME"] == "'/show'"
    assert got["PATH_INFO"] == "'/more path/\\xc3\\xa4'"
    assert got["QUERY_STRING"] == "'a=b&c'"
    assert got["SERVER_NAME"] == "'example.org'"
    assert got["SERVER_PROTOCOL"] == "'HTTP/1.1'"
    assert got["REMOTE_ADDR"] == "'127.0.0.1'"
    assert got["HTTP_X_THING"] == "'1,2'"
    assert got["HTTP_COOKIE"] == "'a=1; b=2'"
    assert got["wsgi.version"] == "(1, 0)"
    left = float(got["cardea.deadline"]) - time.monotonic()
    assert 0 < left < 30.1
    assert got["wsgi.url_scheme"] == "'http'"
    assert "CONTENT_LENGTH" not in got


def test_fields_that_would_fool_an_application_are_left_out(server):
    got = shown(server.request("/show", fields=[
        "Proxy: http://evil.example.org", "X_Thing: 1",
        "Authorization: Basic eDp5"]))
    assert "HTTP_PROXY" not in got
    assert "HTTP_X_THING" not in got
    assert got["HTTP_AUTHORIZATION"] == "'Basic eDp5'"


@pytest.mark.parametrize("size", [0, 5, 300000])
def test_an_application_reads_the_body(server, size):
    reply = server.request("/echo", "POST", body=b"y" * size)
    assert (reply.status, reply.get("X-From")) == (201, "python")
    assert reply.body == b"y" * size


def test_wsgiref_validate_is_content(server):
    reply = server.request("/checked/a?b=c", "POST",
                           body=b"one\ntwo\nthree\nfour")
    assert (reply.status, reply.text) == (
        200, "[b'one', b'\\n', b'two\\n', b'three\\n', b'four']")
    server.wait_log(r'module=checked .*request=[0-9a-f]+ text="checked 5"')


def failed(server, path, status=500):
    """The request failed as one; what the log says under its id."""
    start = server.lines()
    reply = server.request("/answers/" + path)
    assert reply.status == status, reply
    request = re.search(r"Request id: ([0-9a-f]+)", reply.text).group(1)
    assert "b'" not in reply.text and "xxx" not in reply.text
    assert server.request("/hello").status == 200
    return lambda pattern: server.wait_log(
        rf"event=output .*pid=\d+ request={request} text=.*{pattern}",
        start=start)


@pytest.mark.parametrize("path, word", [
    ("early", "ValueError: before start_response"),
    ("late", "ValueError: after a block"),
    ("unstarted", "AssertionError: a body before start_response"),
    ("nothing", "AssertionError: start_response was not called"),
    ("twice", "AssertionError: start_response was called twice"),
    ("too_late", "KeyError: .*raised again"),
    ("text", "TypeError: the body must be of bytes"),
])
def test_an_exception_is_500_and_its_traceback_in_the_log(server, path, word):
    log = failed(server, path)
    log(word)
    if path in ("early", "late", "twice", "too_late"):  # within its own code
        log(r"Traceback \(most recent call last\):")
        log(r"answers\.py.*, line \d+, in ")


@pytest.mark.parametrize("name", [
    "newline", "name", "space", "status", "hop", "framing", "number",
    "lengths", "early", "word", "bytes", "pairs", "tuple", "number-value",
    "snowman", "many"])
def test_what_is_no_status_and_no_field_is_refused(server, name):
    reply = server.request("/answers/raw?" + name)
    assert reply.status == 500
    assert reply.get("X-A") is None and reply.get("X-B") is None


def test_input_that_was_kept_cannot_be_read_later(server):
    assert server.request("/answers/kept").body == b"first"
    assert server.request("/answers/kept").text == \
        "wsgi.input was read after its call"


def test_a_body_is_closed_whatever_happens(server):
    for path in ("late", "written", "unstarted", "replaced"):
        start = server.lines()
        server.request("/answers/" + path)
        server.wait_log(r'module=answers .*text="?closed', start=start)


def test_start_response_may_be_called_again_with_exc_info(server):
    reply = server.request("/answers/replaced")
    assert (reply.status, reply.body) == (503, b"replaced")
    assert reply.get("X-Old") is None and reply.get("X-New") == "1"


def test_what_write_gets_comes_before_the_blocks(server):
    assert server.request("/answers/written").body == b"one two three"


def test_a_tuple_is_a_body_and_a_field_may_come_twice(server):
    reply = server.request("/answers/tuples")
    assert reply.body == b"ab"
    assert [v for n, v in reply.fields if n == "X-A"] == ["1", "2"]


def test_a_body_larger_than_the_reply_memory_arrives(server):
    reply = server.request("/answers/large")
    assert len(reply.body) == 20 << 20
    assert reply.body[::1 << 20] == bytes(range(65, 85))


def test_an_error_in_close_leaves_the_answer(server):
    start = server.lines()
    assert server.request("/answers/closing").body == b"complete"
    server.wait_log(r'request=[0-9a-f]+ text="ValueError: in close',
                    start=start)


def test_more_than_was_announced_is_left_out(server):
    start = server.lines()
    assert server.request("/answers/lengths?5,9").body == b"xxxxx"
    server.wait_log("more than the 5 bytes that it announced", start=start)


def test_less_than_was_announced_is_502(server):
    failed(server, "lengths?9,5", 502)("announced 9 bytes and gave 5")


def test_head_has_the_length_and_no_body(server):
    for path, length in (("written", "13"), ("lengths?5,5", "5"),
                         ("lengths?70000,0", "70000")):
        with server.wire() as wire:
            reply = wire.request("/answers/" + path, "HEAD")
            assert (reply.status, reply.body) == (200, b"")
            assert reply.get("Content-Length") == length
            assert wire.request("/hello").body == b"hello\n"


@pytest.mark.parametrize("code", [204, 304])
def test_a_status_without_a_body_has_none(server, code):
    with server.wire() as wire:
        reply = wire.request(f"/answers/code?{code}")
        assert (reply.status, reply.body) == (code, b"")
        assert wire.request("/hello").body == b"hello\n"


def test_a_file_is_sent_from_where_it_stands(server):
    text = APPS["answers.py"].encode()
    for offset in (0, 10, len(text)):
        reply = server.request(f"/answers/file?{offset}")
        assert (reply.status, reply.body) == (200, text[offset:])
        assert reply.get("Content-Type") == "text/x-python"


def test_what_only_has_a_file_below_is_read(server):
    assert server.request("/answers/unfile").body == b"unpacked"


def test_exit_in_a_call_is_502_for_that_client_alone(server):
    start = server.lines()
    assert server.request("/answers/leaves").status == 502
    server.wait_log('request=[0-9a-f]+ text="the application left in a call, '
                    "with 'enough'", start=start)
    assert server.request("/answers/ends").status == 502
    until(lambda: server.request("/answers/tuples").status == 200)
