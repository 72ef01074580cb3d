"""The state folder of a module: what is put there outlives everything."""

import os
import pwd
import re
import signal
import stat

import pytest

from lib.server import Server

# One more line for each request; the answer says how many there are.
COUNT = """#!/bin/sh
echo x >> "$CARDEA_STATE/lines" || exit 1
printf 'Content-Type: text/plain\\n\\n'
wc -l < "$CARDEA_STATE/lines"
"""
CONF = """
module count { exec "sh $DIR/count.sh" }
module idle  { run "$PROGRAMS/hello" }
forward http 127.0.0.1:$PORT to {
    map GET / to count
    map GET /idle to idle
}
"""


@pytest.fixture
def script(folder):
    with open(os.path.join(folder, "count.sh"), "w", encoding="utf-8") as f:
        f.write(COUNT)


def state_folders(folder):
    """The modules' state folders that there are, by name."""
    top = os.path.join(folder, "state")
    return {name: os.path.join(top, conf, name)
            for conf in os.listdir(top)
            for name in os.listdir(os.path.join(top, conf))}


def count(server):
    return int(server.request("/").body)


def test_state_outlives_a_restart_and_a_killed_keeper(cardea, folder, script):
    server = cardea(CONF)
    assert [count(server), count(server)] == [1, 2]
    assert sorted(state_folders(folder)) == ["count", "idle"]
    for path in state_folders(folder).values():
        found = os.stat(path)
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid == os.geteuid()
    server.stop()
    # The one that kept nothing is gone.
    assert sorted(state_folders(folder)) == ["count"]

    server = cardea(CONF)
    assert count(server) == 3
    family = server.family()
    os.killpg(server.pid, signal.SIGKILL)
    for pid, _ in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    server.wait_exit()
    server.assert_gone(family)

    server = cardea(CONF)
    assert count(server) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users")
def test_state_belongs_to_the_modules_user(cardea, folder, script):
    server = cardea(CONF.replace('count.sh"', 'count.sh"; user nobody'))
    assert count(server) == 1
    found = os.stat(state_folders(folder)["count"])
    assert found.st_uid == pwd.getpwnam("nobody").pw_uid
    assert stat.S_IMODE(found.st_mode) == 0o700


def test_state_folder_can_be_named(cardea, folder, script):
    server = cardea('set state-folder "$DIR/kept"\n' + CONF)
    assert count(server) == 1
    with open(os.path.join(folder, "kept", "count", "lines"),
              encoding="ascii") as f:
        assert f.read() == "x\n"


def test_a_named_state_folder_that_cannot_be_stops_the_start(build, folder,
                                                             cli):
    path = os.path.join(folder, "open")
    os.mkdir(path)
    os.chmod(path, 0o777)
    server = Server(build, folder, f'set state-folder "{path}"\n'
                    'module idle { run "$PROGRAMS/hello" }\n'
                    "forward http 127.0.0.1:$PORT to idle\n")
    done = cli("run", "-f", server.conf, env=server.environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(rf"state folder {path}: Operation not permitted "
                     r"\(another's, or others may write to it\)", done.stderr)


def test_without_a_place_for_it_the_server_runs_and_says_so(cardea, folder):
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """, STATE_DIRECTORY=os.path.join(folder, "not", "there"))
    server.wait_log(r"level=warn event=no-state cause=.*not/there: "
                    r"No such file or directory")
    assert server.request("/").status == 200
