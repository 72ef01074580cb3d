"""Bounds of size and time, set small so that they are met quickly."""

import os
import time

import pytest

CONF = """
set body-limit 64K
set header-timeout 300ms
set body-timeout 300ms
set idle-timeout 300ms

module echo { run "$PROGRAMS/echo" }

forward http 127.0.0.1:$PORT to {
    map GET  /echo to echo
    map POST /echo to echo
}
"""


@pytest.fixture(scope="module")
def server(shared):
    return shared(CONF)


@pytest.fixture
def wire(server):
    with server.wire() as connection:
        yield connection


def test_a_body_at_the_limit_arrives(wire):
    body = os.urandom(65536)
    assert wire.request("/echo", "POST", body=body).body == body


def test_a_length_over_the_limit_is_413_before_the_body_comes(wire):
    wire.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n"
              "\r\n")
    assert wire.reply().status == 413


def test_no_100_for_a_body_over_the_limit(wire):
    wire.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n"
              "Expect: 100-continue\r\n\r\n")
    assert wire.reply().status == 413


def test_chunks_over_the_limit_are_413_and_the_end(wire):
    wire.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
              "Transfer-Encoding: chunked\r\n\r\n")
    wire.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
    wire.send(b"8001\r\n" + b"x" * 0x8001 + b"\r\n0\r\n\r\n")
    assert wire.reply().status == 413
    wire.assert_closed()


def test_a_head_that_does_not_end_is_408_and_the_end(wire):
    wire.send("GET /echo HTTP/1.1\r\nHost:")
    began = time.monotonic()
    assert wire.reply().status == 408
    wire.assert_closed()
    assert 0.2 < time.monotonic() - began < 5


def test_a_head_that_drips_has_no_more_time(server):
    with server.wire() as wire:
        wire.socket.settimeout(0.05)
        wire.send("GET /echo HTTP/1.1\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 10:
            try:
                wire.send("X: a\r\n")
                if not wire._more() or wire.buffer:
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 5


def test_a_body_that_does_not_come_is_408_and_the_end(wire):
    wire.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    assert wire.reply().status == 408
    wire.assert_closed()


def test_an_idle_connection_is_closed_without_a_word(wire):
    assert wire.request("/echo").status == 200
    began = time.monotonic()
    wire.assert_closed()
    assert 0.2 < time.monotonic() - began < 5


def test_a_connection_that_never_asks_is_closed(wire):
    began = time.monotonic()
    try:
        assert wire.reply().status == 408
    except AssertionError:
        pass
    wire.assert_closed()
    assert time.monotonic() - began < 5
