"""Commands behind `exec`: CGI/1.1 (RFC 3875), one process a request."""

import os
import time

import pytest

from lib.server import pids, until

CONF = """
module env    { exec "/usr/bin/env sh $DIR/env.sh" }
module echo   { exec "sh $DIR/echo.sh" }
module reply  { exec "sh $DIR/reply.sh" }
module bad    { exec "sh $DIR/bad.sh" }
module text   { exec plain "sh $DIR/bad.sh" }
module cgi    { exec plain "sh $DIR/reply.sh" }
module fails  { exec plain "sh -c 'exit 3'" }
module dies   { exec "sh $DIR/dies.sh" }
module slow   { exec "sh $DIR/slow.sh"; timeout 500ms }

forward http 127.0.0.1:$PORT to {
    map GET  /env   to env
    map POST /echo  to echo
    map GET  /reply to reply
    map GET  /bad   to bad
    map GET  /dies  to dies
    map GET  /text  to text
    map GET  /cgi   to cgi
    map GET  /fails to fails
    map GET  /slow  to slow
}
"""
SCRIPTS = {
    "env.sh": 'printf "Content-Type: text/plain\\n\\n"; env\n',
    "echo.sh": 'printf "Content-Type: text/plain\\n\\n%s " '
               '"$CONTENT_LENGTH"; cat\n',
    "reply.sh": 'printf "Status: 404 Gone Fishing\\nX-From: sh\\n'
                'Content-Type: a/b\\n\\nfish"\n',
    "bad.sh": 'echo "this is no header"; echo; echo body\n',
    "dies.sh": 'kill -9 $$\n',
    # A child that outlives the shell unless the whole group is ended.
    "slow.sh": 'sleep 1234567 & echo "child $!" >&2; sleep 1234567\n',
}


@pytest.fixture(scope="module")
def server(shared, shared_folder):
    for name, text in SCRIPTS.items():
        with open(os.path.join(shared_folder, name), "w",
                  encoding="ascii") as f:
            f.write(text)
    return shared(CONF)


def variables(reply):
    assert reply.status == 200, reply
    return dict(line.split("=", 1) for line in reply.text.splitlines()
                if "=" in line)


def test_a_command_gets_the_variables_of_cgi(server):
    got = variables(server.request("/env/more%20path?a=b&c",
                                   fields=["X-Thing: 1", "Accept: */*"]))
    assert got["GATEWAY_INTERFACE"] == "CGI/1.1"
    assert got["REQUEST_METHOD"] == "GET"
    assert got["SCRIPT_NAME"] == "/env"
    assert got["PATH_INFO"] == "/more path"
    assert got["QUERY_STRING"] == "a=b&c"
    assert got["SERVER_NAME"] == "example.org"
    assert got["SERVER_PORT"] == str(server.port) or got["SERVER_PORT"] == "80"
    assert got["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert got["REMOTE_ADDR"] == "127.0.0.1"
    assert 0 < int(got["CARDEA_TIME_LEFT_MS"]) <= 30001
    assert got["HTTP_X_THING"] == "1"


def test_fields_that_would_fool_a_command_are_left_out(server):
    got = variables(server.request("/env", fields=[
        "Proxy: http://evil.example.org", "X_Thing: 1",
        "Authorization: Basic eDp5"]))
    assert "HTTP_PROXY" not in got
    assert "HTTP_X_THING" not in got
    assert "HTTP_AUTHORIZATION" not in got


@pytest.mark.parametrize("size", [0, 5, 300000])
def test_a_command_reads_the_body(server, size):
    reply = server.request("/echo", "POST", body=b"y" * size)
    # RFC 3875 4.1.2: no body, no (or an empty, or a zero) CONTENT_LENGTH.
    assert reply.text.rstrip() in ((f"{size} " + "y" * size).rstrip(),
                                   "y" * size)


def test_a_chunked_body_has_a_length_for_the_command(server):
    with server.wire() as wire:
        wire.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n"
                  "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert wire.reply().body == b"5 abcde"


def test_a_command_sets_status_and_fields(server):
    reply = server.request("/reply")
    assert (reply.status, reply.get("X-From"), reply.get("Content-Type"),
            reply.body) == (404, "sh", "a/b", b"fish")
    assert reply.get("Status") is None


def test_output_that_is_no_reply_is_502(server):
    assert server.request("/bad").status == 502


def test_output_of_a_plain_command_is_text(server):
    reply = server.request("/text")
    assert (reply.status, reply.body) == (200, b"this is no header\n\nbody\n")
    assert reply.get("Content-Type") == "text/plain; charset=utf-8"
    assert reply.get("X-Content-Type-Options") == "nosniff"


def test_a_plain_command_may_answer_as_cgi_does(server):
    reply = server.request("/cgi")
    assert (reply.status, reply.get("X-From"), reply.get("Content-Type"),
            reply.body) == (404, "sh", "a/b", b"fish")


def test_a_plain_command_that_fails_without_a_word_is_502(server):
    assert server.request("/fails").status == 502


def test_a_command_that_is_killed_is_502(server):
    assert server.request("/dies").status == 502


def test_a_command_over_its_time_is_504_and_its_group_is_ended(server):
    began = time.monotonic()
    assert server.request("/slow").status == 504
    assert time.monotonic() - began < 5
    child = int(server.wait_log(r"child (\d+)").group(1))
    until(lambda: child not in pids() or not running(child),
          what="the end of the command's child")


def running(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return b"1234567" in f.read()
    except OSError:
        return False


def test_commands_run_beside_one_another(server):
    wires = [server.wire() for _ in range(10)]
    for wire in wires:
        wire.ask("/env")
    for wire in wires:
        assert wire.reply().status == 200
        wire.close()
