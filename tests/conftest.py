"""Fixtures of the scenario tests. They run against the binaries in the folder
that CARDEA_BUILD names (build-asan or build in the root otherwise)."""

import json
import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from lib.server import PATIENCE, SLOW, Server

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEST_LIMIT = 90


def find_build():
    named = os.environ.get("CARDEA_BUILD")
    if named:
        return os.path.abspath(named)
    for name in ("build-asan", "build"):
        if os.path.exists(os.path.join(ROOT, name, "cardea")):
            return os.path.join(ROOT, name)
    raise pytest.UsageError("no build: make build, or set CARDEA_BUILD")


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): its own TEST_LIMIT")


@pytest.fixture(autouse=True)
def deadline(request):
    """No test hangs: after TEST_LIMIT seconds (or those of its own mark) it
    fails where it stands."""
    mark = request.node.get_closest_marker("limit")
    limit = (mark.args[0] if mark else TEST_LIMIT) * PATIENCE

    def over(*_):
        raise AssertionError(f"not done in {limit} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(limit)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def build():
    return find_build()


@pytest.fixture(scope="session")
def plain_build():
    """A build without sanitizers (they do not live under ptrace): CARDEA_PLAIN
    where that is set, and made if not."""
    named = os.environ.get("CARDEA_PLAIN")
    if named:
        return os.path.abspath(named)
    if SLOW:
        return find_build()  # is one, and nothing is compiled there
    path = os.path.join(ROOT, "build")
    for command in (["scripts/configure.sh", "build"],
                    ["ninja", "-C", path, "--quiet"]):
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)
        assert done.returncode == 0, done.stdout.decode()
    return path


def short_folder():
    """A folder with a short name (a Unix socket's path has 107 bytes) that
    other users may enter."""
    folder = tempfile.mkdtemp(prefix="cardea-")
    os.chmod(folder, 0o755)
    return folder


@pytest.fixture
def folder():
    path = short_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_folder():
    path = short_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def helper(build):
    """helper(program, argument ..., says=LINES): a program of the build's folder
    tests, which has said one of LINES when this returns. It is killed at the
    end of the test. MORE: for Popen."""
    children = []

    def start(program, *arguments, says=(b"attached\n",), **more):
        child = subprocess.Popen(
            [os.path.join(build, "tests", program), *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **more)
        children.append(child)
        assert child.stdout.readline() in says
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        for pipe in filter(None, (child.stdout, child.stderr)):
            pipe.close()


@pytest.fixture
def cardea(build, folder):
    """cardea(text): a server with that configuration, ready. It is stopped at
    the end of the test, and must then leave cleanly. PREFIX: a command that
    runs it."""
    servers = []

    def start(text, prefix=(), **environment):
        server = Server(build, folder, text, environment)
        server.prefix = list(prefix)
        servers.append(server)
        return server.start()

    try:
        yield start
        for server in servers:
            if server.child and server.child.returncode is None:
                server.stop()
    finally:
        for server in servers:
            server.destroy()


@pytest.fixture(scope="module")
def shared(build, shared_folder):
    """The same for all tests of a file: one start, one stop. What the tests
    leave behind in it, the last check (a clean stop) sees."""
    servers = []

    def start(text):
        server = Server(build, shared_folder, text)
        servers.append(server)
        return server.start()

    try:
        yield start
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            server.destroy()


@pytest.fixture
def cli(build):
    """cli(argument ...): runs build/cardea; a CompletedProcess with text."""
    def run(*arguments, **more):
        return subprocess.run([os.path.join(build, "cardea"), *arguments],
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, timeout=60,
                              check=False, **more)
    return run


@pytest.fixture
def compile_program(build, folder):
    """compile_program(source text, name): path of the program, linked with the
    build's libdoor.a and its sanitizers."""
    def run(source, name="program"):
        options = json.loads(subprocess.run(
            ["meson", "introspect", "--buildoptions", build],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            check=True).stdout)
        sanitize = [o["value"] for o in options if o["name"] == "b_sanitize"]
        flags = [f"-fsanitize={s}" for s in sanitize if s != "none"]
        with open(os.path.join(build, "compile_commands.json"),
                  encoding="utf-8") as f:
            words = json.load(f)[0]["command"].split()
        compiler = next(w for w in words if not w.endswith("ccache"))
        path = os.path.join(folder, name)
        with open(path + ".c", "w", encoding="utf-8") as f:
            f.write(source)
        done = subprocess.run(
            [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-g", "-Wall",
             "-Wextra", "-Werror", *flags,
             "-I" + os.path.join(ROOT, "include"), path + ".c",
             os.path.join(build, "libdoor.a"), "-lpthread", "-o", path],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, done.stdout.decode()
        return path
    return run
