"""What commands of CGI may do wrong, and what comes of it: a defined status, a
line in the log that names the request, bounded cost, and nothing left
running."""

import os
import re
import time

import pytest

from lib.server import alive, until

CONF = """
set body-limit 8M
module bin { scripts "$DIR/bin"; timeout 2s }
module long { scripts "$DIR/bin"; timeout 1m }
forward http 127.0.0.1:$PORT to {
    map any / to bin
    map any /long to long
}
"""
PLAIN = "printf 'Content-Type: text/plain\\n\\n'; "
# name: (script, status, what the log says, or None)
TABLE = {
    # Headers that would say more than one thing, or something else.
    "cr-in-value": ("printf 'X: a\\rSet-Cookie: b\\n\\nbody'", 502,
                    "not a CGI answer: line 1"),
    "nul-in-value": ("printf 'X: a\\0b\\n\\nbody'", 502, "line 1"),
    "continued-line": ("printf 'X: a\\n Y: b\\n\\nbody'", 502, "line 2"),
    "space-in-name": ("printf 'X Y: a\\n\\nbody'", 502, "line 1"),
    "space-behind-name": ("printf 'X : a\\n\\nbody'", 502, "line 1"),
    "no-name": ("printf ': a\\n\\nbody'", 502, "line 1"),
    "no-colon": ("printf 'hello\\n\\nbody'", 502, "line 1"),
    "a-whole-reply": ("printf 'HTTP/1.1 200 OK\\nX: a\\n\\nbody'", 502,
                      "line 1"),
    "control-in-value": ("printf 'X: a\\033[2Jb\\n\\nbody'", 502, "line 1"),
    "no-header": ("printf '\\nbody'", 502, "not a CGI answer"),
    "many-headers": ("i=0; while [ $i -lt 500 ]; do echo X$i: a;"
                     " i=$((i+1)); done; echo; echo body", 502,
                     "not a CGI answer"),
    # Two of what there is one of.
    "two-statuses": ("printf 'Status: 200 OK\\nStatus: 404 No\\n\\nbody'",
                     502, "not a CGI answer"),
    "two-types": ("printf 'Content-Type: a/b\\nContent-Type: c/d\\n\\nbody'",
                  502, "not a CGI answer"),
    "two-locations": ("printf 'Location: /a\\nLocation: /b\\n\\n'", 502,
                      "not a CGI answer"),
    "two-lengths": ("printf 'Content-Length: 4\\nContent-Length: 5\\n\\nbody'",
                    502, "not a CGI answer"),
    "status-of-words": ("printf 'Status: fine\\n\\nbody'", 502, "line 1"),
    "status-too-small": ("printf 'Status: 99\\n\\nbody'", 502, "line 1"),
    "status-too-large": ("printf 'Status: 600\\n\\nbody'", 502, "line 1"),
    "status-of-an-upgrade": ("printf 'Status: 101 Go\\n\\nbody'", 502,
                             "line 1"),
    # Output that is not whole, or never ends.
    "nothing": ("exit 0", 502, "not a CGI answer: no output"),
    "half-a-header": ("printf 'Content-Type: text/pl'", 502,
                      "not a CGI answer"),
    "header-alone": ("printf 'Content-Type: text/plain\\n'", 502,
                     "no empty line ends the header"),
    "dies-in-its-body": (PLAIN + "echo begin; kill -9 $$", 502,
                         "ended by signal 9"),
    "less-than-announced": ("printf 'Content-Length: 9\\n\\nbody'", 502,
                            "announced 9 bytes and wrote 4"),
    "frames-itself": ("printf 'Transfer-Encoding: chunked\\n\\n"
                      "4\\r\\nbody\\r\\n0\\r\\n\\r\\n'", 502, "line 1"),
    "length-of-words": ("printf 'Content-Length: four\\n\\nbody'", 502,
                        "line 1"),
    "length-below-none": ("printf 'Content-Length: -4\\n\\nbody'", 502,
                          "line 1"),
    "endless-body": (PLAIN + "exec yes", 502, "more than 16777216 bytes"),
    "endless-header": ("exec tr '\\0' a </dev/zero", 502,
                       "more than 16777216 bytes"),
    # Programs that stay.
    "says-nothing": ("exec sleep 1234567", 504, "its time was over"),
    "closes-all": (PLAIN + "exec >&- 2>&- <&-; sleep 1234567", 504,
                   "its time was over"),
    "ignores-term": ("trap '' TERM; while :; do sleep 1234567; done", 504,
                     "its time was over"),
    # What is odd, and right.
    "fails-and-answers": (PLAIN + "echo sorry; exit 3", 200,
                          "exited with status 3"),
    "more-than-announced": ("printf 'Content-Length: 2\\n\\nbody'", 200,
                            "announced 2 bytes and wrote 4"),
    "reads-nothing": (PLAIN + "exec <&-; echo fine", 200, None),
}


@pytest.fixture(scope="module")
def server(shared, shared_folder):
    folder = os.path.join(shared_folder, "bin")
    os.makedirs(folder)
    more = {name: row[0] for name, row in TABLE.items()} | MORE
    for name, text in more.items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            f.write("#!/bin/sh\n" + text + "\n")
        os.chmod(f.name, 0o755)
    return shared(CONF)


MORE = {
    "hello": PLAIN + "echo hello",
    "framing": "printf 'Connection: close\\n'; printf '"
               "Content-Length: 4\\nKeep-Alive: x\\nDate: today\\n"
               "Server: mine\\nSet-Cookie: a\\nSet-Cookie: b\\n\\nbody'",
    "head": "printf 'Content-Length: 5000\\n\\n'; [ $REQUEST_METHOD = HEAD ] "
            "|| head -c 5000 /dev/zero",
    "head-with-body": PLAIN + "echo body of $REQUEST_METHOD",
    "no-content": "printf 'Status: 204 None\\n\\nbody of nothing'",
    "not-modified": "printf 'Status: 304 Same\\nETag: \"x\"\\n\\nbody'",
    "detach": PLAIN + "setsid sleep 1234567 >&- 2>&- <&- & echo $!",
    "daemon": PLAIN + "export D=done.$$; (setsid sh -c "
              "'sleep 1234567 & echo $!; >$D' &); "
              "until [ -e $D ]; do sleep 0.01; done; rm $D",
    "holds-output": PLAIN + "sleep 1234567 & echo $!",
    "complains": "echo \"mine: $QUERY_STRING\" >&2; " + PLAIN,
    "floods": PLAIN + "i=0; while [ $i -lt 20000 ]; do "
              "echo flood $i; i=$((i+1)); done >&2; echo done",
    "floods-without-lines": PLAIN + "head -c 3000000 /dev/zero | "
                            "tr '\\0' x >&2; echo done",
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_faults(server, name):
    _, status, says = TABLE[name]
    start = server.lines()
    began = time.monotonic()
    reply = server.request("/" + name, "POST", body=b"x" * 100000)
    assert reply.status == status, reply
    assert time.monotonic() - began < 10
    if status != 200:
        number = re.search(r"Request id: (\w+)", reply.text).group(1)
        server.wait_log(f"request {number}: .*{re.escape(says)}", start=start)
        assert reply.get("X") is None and reply.get("Set-Cookie") is None
    elif says:
        server.wait_log(re.escape(says), start=start)
    assert server.request("/hello").text == "hello\n"
    # Nothing of it is left.
    until(lambda: not commands(server), what="the end of all commands")


def commands(server):
    return [pid for pid, start in server.family() if alive(pid, start)
            and cmdline(pid) & {b"1234567", b"yes", b"/dev/zero"}]


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return set(f.read().split(b"\0"))
    except OSError:
        return set()


def test_fields_of_the_connection_are_cardeas_own(server):
    with server.wire() as wire:
        for _ in range(2):  # and the connection is kept
            wire.ask("/framing")
            reply = wire.reply()
            assert reply.status == 200 and reply.body == b"body"
            assert reply.get("Content-Length") == "4"
            assert reply.get("Keep-Alive") is None
            assert reply.get("Date") != "today"
            assert reply.all("Set-Cookie") == ["a", "b"]


@pytest.mark.parametrize("name,length", [("head", "5000"),
                                         ("head-with-body", None)])
def test_a_reply_to_head_has_no_body_whatever_the_command_writes(
        server, name, length):
    with server.wire() as wire:
        wire.send(f"HEAD /{name} HTTP/1.1\r\nHost: a\r\n\r\n"
                  "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        head = wire.reply("HEAD")
        assert head.status == 200
        assert length in (None, head.get("Content-Length"))
        assert wire.reply().body == b"hello\n"


@pytest.mark.parametrize("name,status", [("no-content", 204),
                                         ("not-modified", 304)])
def test_a_status_without_body_has_none(server, name, status):
    with server.wire() as wire:
        wire.ask("/" + name)
        assert wire.reply().status == status
        wire.ask("/hello")
        assert wire.reply().body == b"hello\n"


@pytest.mark.parametrize("name", ["detach", "daemon", "holds-output"])
def test_what_a_command_leaves_is_ended_with_it(server, name):
    began = time.monotonic()
    pid = int(server.request("/long/" + name).text)
    assert time.monotonic() - began < 15  # it waits for none of them
    until(lambda: not alive(pid), what="the end of what it left")


def test_standard_error_names_its_request(server):
    start = server.lines()
    replies = []
    wires = [server.wire() for _ in range(8)]
    for n, wire in enumerate(wires):
        wire.ask(f"/complains?{n}")
    for wire in wires:
        replies.append(wire.reply())
        wire.close()
    assert all(r.status == 200 for r in replies)
    found = set()
    for n in range(8):
        match = server.wait_log(rf"request (\w+): mine: {n}\b", start=start)
        found.add(match.group(1))
    assert len(found) == 8
    if replies[0].get("X-Request-Id"):
        assert found == {r.get("X-Request-Id") for r in replies}


def test_a_log_without_end_is_bounded_counted_and_costs_no_answer(server):
    start = server.lines()
    assert server.request("/floods").text == "done\n"
    server.wait_log(r"request \w+: \d+ lines of standard error dropped",
                    start=start)
    until(lambda: sum_of_lines(server, start) >= 20000, what="all lines")
    assert sum_of_lines(server, start) == 20000
    passed = [l for l in server.log[start:] if re.search(r": flood \d+", l)]
    assert 100 <= len(passed) <= 2500


def sum_of_lines(server, start):
    lines = server.log[start:]
    passed = sum(1 for l in lines if re.search(r": flood \d+", l))
    dropped = [re.search(r": (\d+) lines of standard error dropped", l)
               for l in lines]
    return passed + sum(int(m.group(1)) for m in dropped if m)


def test_a_line_without_end_is_cut_and_bounded(server):
    start = server.lines()
    assert server.request("/floods-without-lines").text == "done\n"
    server.wait_log(r"lines of standard error dropped", start=start)
    with server.changed:
        assert max(map(len, server.log[start:])) < 2000


def test_a_client_that_resets_takes_its_command_with_it(server):
    wire = server.wire()
    wire.ask("/long/says-nothing")
    until(lambda: commands(server), what="the command")
    wire.reset()
    began = time.monotonic()
    until(lambda: not commands(server), what="its end")
    assert time.monotonic() - began < 15  # before its time is over
