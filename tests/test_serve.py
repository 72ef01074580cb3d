"""`cardea serve`: each kind of thing is told, served and answers; each that
cannot be is refused with one sentence."""

import os
import re
import shutil
import socket
import subprocess

import pytest

from lib.server import Server

HELLO = '#!/bin/sh\necho "Hello, $REQUEST_METHOD"\n'


def put(folder, name, text, mode=0o755):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


@pytest.fixture
def cli(build, folder):
    """cli(words...): the ended command, in the test's folder."""
    def run(*words, **environment):
        return subprocess.run(
            [os.path.join(build, "cardea"), *words], cwd=folder,
            env={**os.environ,
                 "XDG_RUNTIME_DIR": os.path.join(folder, "run"),
                 **environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, check=False)
    os.makedirs(os.path.join(folder, "run"), mode=0o700, exist_ok=True)
    return run


@pytest.fixture
def serve(build, folder):
    """serve(words...): the ready server of `cardea serve`."""
    servers = []

    def start(*words, **environment):
        server = Server(build, folder, "", environment)
        os.unlink(server.conf)
        server.words = ["serve", *words]
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


def port_of(server):
    return int(re.search(r":(\d+)/", server.url).group(1))


def free(server):
    return server.port


def test_a_script_that_prints_is_served_as_text(serve, folder):
    put(folder, "hello.sh", HELLO)
    server = serve("./hello.sh")
    assert server.log[0] == ("# ./hello.sh: plain stdio program, "
                             "one call per run")
    reply = server.request("/any/path")
    assert (reply.status, reply.body) == (200, b"Hello, GET\n")
    assert reply.get("Content-Type") == "text/plain; charset=utf-8"


def test_a_program_of_cardea_h_is_run(serve, build, folder):
    path = os.path.join(build, "tests", "programs", "hello")
    server = serve(path)
    assert server.log[0].endswith("hello: a program that serves a door")
    assert server.request("/").status == 200


def test_a_folder_of_files_is_served(serve, folder):
    put(folder, "site/index.html", "<p>hi", 0o644)
    put(folder, "site/a.txt", "text", 0o644)
    server = serve("site")
    assert server.log[0] == "# site: folder of plain files"
    assert server.request("/").body == b"<p>hi"
    assert server.request("/a.txt").body == b"text"


def test_the_configuration_is_one_that_check_takes(cli, folder):
    put(folder, "odd name's $x.sh", HELLO)
    printed = cli("serve", "--print", "odd name's $x.sh", "unix:x.sock")
    assert printed.returncode == 0, printed.stderr
    put(folder, "kept.conf", printed.stdout, 0o644)
    checked = cli("check", "-v", "-f", "kept.conf")
    assert checked.returncode == 0, checked.stderr
    assert "module odd-name-s-x {" in checked.stdout
    assert f"forward http unix:{folder}/x.sock" in checked.stdout


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(cli, folder):
    put(folder, "hello.sh", HELLO)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = str(s.getsockname()[1])
        done = cli("serve", "hello.sh", port)
    assert done.returncode == 1
    assert done.stderr == (
        f"cardea serve: {port}: another program listens at this port (ss "
        "-ltnp shows which); name another port, or none: then the nearest "
        "free one is taken\n")


def test_without_a_port_the_nearest_free_one_is_taken(serve, folder):
    put(folder, "hello.sh", HELLO)
    put(folder, "other/hello.sh", HELLO)
    first, second = serve("hello.sh"), serve("other/hello.sh")
    assert port_of(first) >= 8080
    assert port_of(second) > port_of(first)
    assert first.request("/").status == second.request("/").status == 200


def test_a_server_is_known_by_what_it_serves(serve, cli, folder):
    put(folder, "hello.sh", HELLO)
    server = serve("hello.sh")
    done = cli("stop", "-f", "./hello.sh")
    assert done.returncode == 0, done.stderr
    assert server.wait_exit() == 0


def in_path(folder, *names):
    """A $PATH with these programs and no others."""
    where = os.path.join(folder, "bin")
    os.makedirs(where, exist_ok=True)
    for name in names:
        os.symlink(shutil.which(name), os.path.join(where, name))
    return where
