"""Applications by PEP 3333 behind `wsgi`: any file with a callable, served by
the interpreter that the configuration names."""

import os

import pytest

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
}
CONF = """
module hello { wsgi "hello.py:application" }
module show  { wsgi "show.py:application" }
module echo  { wsgi "echo.py:application" }

forward http 127.0.0.1:$PORT to {
    map GET  /hello to hello
    map GET  /show  to show
    map POST /echo  to echo
}
"""


def write_apps(folder, apps):
    for name, text in apps.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


@pytest.fixture(scope="module")
def server(build, shared, shared_folder):
    if not os.path.exists(os.path.join(build, "bindings/python/cardea",
                                       "_door.abi3.so")):
        pytest.skip("built without the headers of Python")
    write_apps(shared_folder, APPS)
    return shared(CONF)


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
