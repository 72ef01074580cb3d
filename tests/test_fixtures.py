"""Programs built with an old release still run behind this server."""

import os
import platform

import pytest

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64",
                                reason="the fixtures are x86-64 programs")


def programs(kind):
    return sorted(name for name in os.listdir(FIXTURES)
                  if name.startswith(kind + "-"))


def test_there_is_one_of_each_kind():
    assert programs("hello") and programs("door")


@pytest.mark.parametrize("name", programs("hello"))
def test_an_old_hello_still_answers(cardea, name):
    server = cardea(f"""
        module old {{ run "{FIXTURES}/{name}" }}
        forward http 127.0.0.1:$PORT to old
    """)
    with server.wire() as wire:
        for _ in range(100):
            wire.send(b"GET /?a=b HTTP/1.1\r\nHost: a\r\n\r\n")
            reply = wire.reply()
            assert reply.status == 200
            assert reply.body == b"Well, hello to you too!\n"


@pytest.mark.parametrize("name", programs("door"))
def test_an_old_plain_door_still_answers(cardea, name):
    server = cardea(f"""
        module old {{ run "{FIXTURES}/{name}" }}
        forward http 127.0.0.1:$PORT to old
    """)
    reply = server.request("/")
    assert reply.status == 200
    assert reply.body == b"A plain door of 0.1.\n"
