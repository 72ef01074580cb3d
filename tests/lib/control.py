"""The control socket of a server under test, byte for byte."""

import json
import os
import re
import socket


def path_of(server):
    folder = server.wait_log(r"^ready .*run-folder=(\S+)").group(1)
    return os.path.join(folder, "control")


def connect(path, timeout=15):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        s.connect(path)  # blocking: the queue may be full for a moment
    except OSError:
        s.close()
        raise
    s.settimeout(timeout)
    return s


def rest_of(s):
    """All that comes until the end of the connection, as text."""
    parts = []
    while True:
        part = s.recv(65536)
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def ask(path, words, timeout=15):
    """(first line, body) of the reply to one request."""
    with connect(path, timeout) as s:
        s.sendall(words.encode() + b"\n")
        first, _, body = rest_of(s).partition("\n")
    return first, body


def status(path):
    first, body = ask(path, "status json")
    assert first == "ok"
    return json.loads(body)


def module(state, name):
    return next(m for m in state["modules"] if m["name"] == name)


def requests(state):
    return sum(w["requests"] for w in state["workers"])


def numbers(line):
    return [int(n) for n in re.findall(r"\d+", line)]
