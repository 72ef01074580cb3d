"""Doors at paths, of programs that Cardea did not start."""

import os
import stat
import subprocess

import pytest

from lib.server import until

CONF = """
set call-timeout 2s

forward http 127.0.0.1:$PORT to {
    map GET  / to "$DIR/plain.door"
    map POST / to "$DIR/plain.door"
}
"""


@pytest.fixture
def plain(build, folder):
    """plain(): starts the program; its door is there when this returns."""
    children = []

    def start():
        child = subprocess.Popen(
            [os.path.join(build, "tests", "programs", "plain"),
             os.path.join(folder, "plain.door")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout.readline() == b"attached\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_plain_door_gets_the_request_and_returns_a_response(cardea, plain):
    plain()
    server = cardea(CONF)
    reply = server.request("/x?y=z", fields=["X-One: 1"])
    assert (reply.status, reply.get("X-Door")) == (200, "plain")
    lines = reply.text.split("\r\n")
    assert lines[0] == "GET /x?y=z HTTP/1.1"
    assert "X-One: 1" in lines


def test_a_plain_door_gets_the_body_with_a_length(cardea, plain):
    plain()
    server = cardea(CONF)
    with server.wire() as wire:
        wire.send("POST /x HTTP/1.1\r\nHost: a\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        head, body = wire.reply().text.split("\r\n\r\n", 1)
    assert body == "abc"
    fields = [line.lower() for line in head.split("\r\n")[1:]]
    assert "content-length: 3" in fields
    assert not [f for f in fields if f.startswith("transfer-encoding")]


def test_a_large_response_of_a_plain_door_arrives_whole(cardea, plain):
    plain()
    assert cardea(CONF).request("/big").body == b"b" * 150000


def test_a_response_that_is_none_is_502(cardea, plain):
    plain()
    server = cardea(CONF)
    assert server.request("/lie").status == 502
    assert server.request("/x").status == 200


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
        forward http 127.0.0.1:$PORT to module mine
    """)
    assert server.request("/").text == "hello, 127.0.0.1\n"
