"""Calls that a program makes to other doors while it serves one: its deadline,
its request and its trace go with them."""

import os
import re
import subprocess

import pytest

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
FIELD = f"traceparent: 00-{TRACE}-{SPAN}-01"
ETIMEDOUT = 110


@pytest.fixture
def doors(helper, folder):
    """doors(kind, name, ...): a program that Cardea did not start; its door
    DIR/NAME is there when this returns. Its standard error is kept."""
    def start(kind, *names):
        return helper("programs/nested", kind,
                      *(os.path.join(folder, name) for name in names),
                      stderr=subprocess.PIPE)

    return start


MODULE = """
module app {
    run "$PROGRAMS/nested %s $DIR/a.door"
    timeout %s
}
forward http 127.0.0.1:$PORT to app
"""


def told(text):
    """What each door on the way told: its words."""
    return [dict(line.split("=", 1) for line in part.splitlines())
            for part in re.split(r"(?=^id=)", text, flags=re.M)]


@pytest.mark.parametrize("kind", ["run", "copies"])
def test_a_call_goes_on_in_the_doors_that_are_called_for_it(
        cardea, doors, kind):
    last = doors("door", "b.door")
    doors("door", "a.door", "b.door")
    server = cardea(MODULE % (kind, "20s"))
    reply = server.request("/", fields=[FIELD])
    own, first, second = told(reply.text)
    rid = reply.get("X-Request-Id") or own["own"].split("-")[2]
    trace = f"00-{TRACE}-{rid}-01"
    assert own == {"own": trace}
    for door in (first, second):
        assert (door["id"], door["trace"], door["gone"]) == (rid, trace, "0")
        assert 0 < int(door["left"]) <= 20e9
    assert int(second["left"]) <= int(first["left"])
    # A line of a door's procedure names the request that it is part of.
    assert last.stderr.readline().decode() == \
        f"request {rid} [{last.pid}]: called\n"


def test_a_plain_door_hands_on_what_it_is_part_of(cardea, doors):
    doors("door", "a.door")
    doors("plain", "plain.door", "a.door")
    server = cardea("""
        set call-timeout 20s
        forward http 127.0.0.1:$PORT to "$DIR/plain.door"
    """)
    door = told(server.request("/", fields=[FIELD]).text)[-1]
    assert door["trace"] == f"00-{TRACE}-{door['id']}-01"
    assert re.fullmatch("[0-9a-f]{16}", door["id"])
    assert 0 < int(door["left"]) <= 20e9


def test_a_call_that_is_made_for_another_ends_at_its_deadline(cardea, doors):
    last = doors("door", "b.door")
    first = doors("door", "a.door", "b.door")
    server = cardea(MODULE % ("run", "1s"))
    reply = server.request("/hold", fields=[FIELD])
    # Some door on the way may just be in time to tell that its call was not.
    assert reply.status == 504 or f"errno={ETIMEDOUT}\n" in reply.text
    assert first.stderr.readline().decode().endswith(": called\n")
    assert first.stderr.readline().decode().endswith(
        f": no answer: errno {ETIMEDOUT}\n")
    assert last.stderr.readline().decode().endswith(": called\n")
    assert last.stderr.readline().decode().endswith(": over\n")
    # All of them serve on.
    assert len(told(server.request("/").text)) == 3


def test_who_calls_for_nobody_has_no_deadline(build, doors, folder):
    doors("door", "b.door")
    doors("door", "a.door", "b.door")
    done = subprocess.run(
        [os.path.join(build, "cardea"), "call",
         os.path.join(folder, "a.door")],
        input=b"x", stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    for door in told(done.stdout.decode())[1:]:
        assert (door["id"], door["trace"]) == ("", "")
        assert (door["left"], door["gone"]) == (str(2 ** 63 - 1), "0")
