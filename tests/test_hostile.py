"""Hostile peers of doors (tests/hostile): the server must live, lose nothing,
and answer the honest caller beside them rightly all the time."""

import os
import signal
import subprocess

import pytest

from lib.server import SANITIZER, alive, until


class Program:
    """A program that says a word when it is ready, and ends with its input."""

    def __init__(self, *command, **environment):
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, **environment})

    def line(self):
        return self.child.stdout.readline().decode().strip()

    def end(self):
        """Ends its input; (status, output, errors)."""
        out, errors = self.child.communicate(timeout=30)
        return self.child.returncode, out.decode(), errors.decode()

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.communicate()


@pytest.fixture
def programs(build):
    running = []

    def start(name, *arguments, **environment):
        path = os.path.join(build, "tests", name)
        program = Program(path, *arguments, **environment)
        running.append(program)
        return program

    yield start
    for program in running:
        program.kill()


def attack(build, name, *arguments, limit=80):
    """Runs a hostile program to its end, which must be a good one."""
    done = subprocess.run(
        [os.path.join(build, "tests", "hostile", f"hostile-{name}"),
         *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=limit, check=False)
    assert done.returncode == 0, done.stdout.decode()


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def target(build, programs, folder):
    """A door under attack, with an honest caller. At the end: all well?"""
    path = os.path.join(folder, "target.door")
    server = programs("hostile/hostile-target", path)
    assert server.line() == "ready"
    honest = programs("hostile/hostile-honest", path)
    assert honest.line() == "ready", honest.end()
    pid = server.child.pid
    before = descriptors(pid)
    yield path
    assert honest.child.poll() is None, honest.end()
    assert alive(pid), server.end()
    # What the attackers had goes with them; the honest caller's stays.
    until(lambda: descriptors(pid) <= before,
          what=f"return to {before} descriptors")
    status, out, errors = honest.end()
    assert (status, errors) == (0, "")
    assert int(out.split()[-1]) > 10
    # A last call from a fresh process, and a clean end.
    last = programs("hostile/hostile-honest", path)
    assert last.line() == "ready", last.end()
    assert last.end()[0] == 0
    status, _, errors = server.end()
    assert not SANITIZER.search(errors), errors
    assert status == 0, errors


def test_wrong_memory_is_refused(build, target):
    attack(build, "memory", target)


def test_places_outside_the_memory_are_refused(build, target):
    attack(build, "entries", target)


def test_descriptors_that_are_not_as_they_should_be(build, target):
    attack(build, "descs", target)


def test_headers_that_flip_under_the_server(build, target):
    attack(build, "flip", target, "12", "bytes")


def test_floods(build, target):
    attack(build, "flood", target, "3")


def test_a_caller_that_never_listens_and_stops(build, programs, target):
    stuck = programs("hostile/hostile-stuck", target)
    assert stuck.line() == "stuck"
    pid = stuck.child.pid
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    # The others are served meanwhile.
    for _ in range(3):
        honest = programs("hostile/hostile-honest", target)
        assert honest.line() == "ready", honest.end()
        assert honest.end()[0] == 0
    os.kill(pid, signal.SIGKILL)


def test_a_server_that_lies(build):
    attack(build, "liar")


def test_a_handler_whose_caller_flips_the_request(build, programs, folder):
    path = os.path.join(folder, "echo.door")
    echo = programs("programs/echo", CARDEA_DOOR=path)
    until(lambda: os.path.exists(path), what="the door")
    before = descriptors(echo.child.pid)
    attack(build, "flip", path, "10", "http")
    assert alive(echo.child.pid), echo.end()
    until(lambda: descriptors(echo.child.pid) <= before,
          what="return of the descriptors")
    echo.child.terminate()
    _, _, errors = echo.end()
    assert not SANITIZER.search(errors), errors
