"""The command line: words, exit codes, messages."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from lib.server import Server, until


def write(folder, text):
    path = os.path.join(folder, "cardea.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def test_version_is_one_line(cli):
    done = cli("version")
    assert done.returncode == 0
    assert re.fullmatch(r"cardea \d+\.\d+\.\d+\S*\n", done.stdout)


def test_help_names_every_verb(cli):
    done = cli("help")
    assert done.returncode == 0
    for verb in ("run", "check", "status", "stop", "call", "doctor",
                 "version", "help"):
        assert re.search(rf"\b{verb}\b", done.stdout)


@pytest.mark.parametrize("words", [["fly"], ["run", "--fast"], ["check", "-x"],
                                   ["run", "-f"]])
def test_wrong_usage_is_64(cli, words):
    done = cli(*words)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr


def test_check_of_a_good_file_is_0(cli, folder):
    path = write(folder, "forward http 127.0.0.1:8080 to /run/app/hello.door\n")
    assert cli("check", "-f", path).returncode == 0


@pytest.mark.parametrize("text, line, column", [
    ("forwrad http :8080 to /x\n", 1, 1),
    ("\n  set body-limt 5M\nforward http :8080 to /x/y\n", 2, 7),
    ("module a { run \"/bin/true\" }\nforward http :8080 to {\n map GET x to a"
     "\n}\n", 3, 10),
    ("forward http :8080 to nobody\n", 1, 23),
    ("forward http :8080 to module nobody\n", 1, 30),
])
def test_check_names_file_line_and_column(cli, folder, text, line, column):
    path = write(folder, text)
    done = cli("check", "-f", path)
    assert done.returncode == 78
    assert done.stderr.startswith(f"{path}:{line}:{column}: ")


def test_check_wants_a_program_that_is_there(cli, folder):
    path = write(folder, 'module a { run "./absent" }\n'
                 "forward http :8080 to a\n")
    done = cli("check", "-f", path)
    assert done.returncode == 78
    assert "absent" in done.stderr


def test_a_wrong_word_names_the_nearest_known_one(cli, folder):
    done = cli("check", "-f", write(folder, "set body-limt 5M\n"))
    assert "body-limit" in done.stderr


def test_check_finds_more_than_one_mistake(cli, folder):
    done = cli("check", "-f", write(folder, "set a b\nset c d\n"))
    assert len(done.stderr.splitlines()) >= 2


def test_run_with_a_broken_file_is_78_and_starts_nothing(cli, folder):
    done = cli("run", "-f", write(folder, "nonsense\n"))
    assert done.returncode == 78
    assert "ready" not in done.stdout + done.stderr


def test_no_such_file_is_said(cli, folder):
    path = os.path.join(folder, "absent.conf")
    done = cli("check", "-f", path)
    assert done.returncode == 78
    assert path in done.stderr


def test_a_user_without_root_is_a_mistake(cli, folder):
    if os.geteuid() == 0:
        pytest.skip("root may start modules as another user")
    path = write(folder, 'module a { run "/bin/true"; user nobody }\n'
                 "forward http :8080 to a\n")
    assert cli("check", "-f", path).returncode == 78


def test_a_given_port_that_is_taken_is_said_and_ends_it(build, folder, cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = write(folder, 'module a { run "' + build
                     + '/tests/programs/hello" }\n'
                     f"forward http 127.0.0.1:{port} to a\n")
        done = cli("run", "-f", path)
    assert done.returncode == 1
    assert str(port) in done.stdout + done.stderr


def test_the_example_site_is_valid(cli, build, folder):
    """As it stands in a checkout: its programs come from the folder build."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name in ("visits", "upload", "status"):
        if not os.path.exists(os.path.join(build, "examples", "site", name)):
            pytest.skip(f"{name} was not built: its library is missing")
    site = os.path.join(folder, "examples", "site")
    shutil.copytree(os.path.join(root, "examples", "site"), site)
    os.symlink(build, os.path.join(folder, "build"))
    done = cli("check", "-f", os.path.join(site, "cardea.conf"))
    assert (done.returncode, done.stderr) == (0, "")


def test_ready_is_said_once(build, folder):
    server = Server(build, folder, """
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """)
    try:
        server.start()
        assert server.request("/").status == 200
        server.stop()
        assert sum("ready url=" in line for line in server.log) == 1
    finally:
        server.destroy()


# Verbs that ask a running server

TWO = """
    module hello { run "$PROGRAMS/hello" }
    module sleepy { run "$PROGRAMS/sleep"; timeout 60s }
    forward http 127.0.0.1:$PORT to { map any / to hello
                                      map any /sleep to sleepy }
"""


def ours(server):
    """Where the command line finds what this server's user runs."""
    return dict(env=server.environment, cwd=server.folder)


def test_status_is_found_by_file_by_folder_and_as_the_only_one(cardea, cli):
    server = cardea(TWO)
    for words, place in ((["-f", server.conf], "/"), ([], server.folder)):
        done = cli("status", *words, env=server.environment, cwd=place)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("cardea ")
        assert f", pid {server.pid}, running, up " in done.stdout
    done = cli("status", "--json", **ours(server))
    assert json.loads(done.stdout)["pid"] == server.pid


def test_the_only_server_of_a_user_needs_no_name(build, folder, cli):
    """A user without root, whose run root is this test's alone."""
    if os.geteuid() == 0:
        pytest.skip("root's servers have one run root for the whole machine")
    server = Server(build, folder, TWO)
    try:
        server.start()
        done = cli("status", env=server.environment, cwd="/")
        assert f"pid {server.pid}," in done.stdout
    finally:
        server.destroy()


def test_two_servers_are_listed_when_none_is_named(build, folder, cli):
    other = os.path.join(folder, "other")
    os.mkdir(other)
    servers = [Server(build, folder, TWO), Server(build, other, TWO)]
    run = servers[0].environment["XDG_RUNTIME_DIR"]
    servers[1].environment["XDG_RUNTIME_DIR"] = run
    try:
        for server in servers:
            server.start()
        done = cli("status", env=servers[0].environment, cwd="/")
        assert (done.returncode, done.stdout) == (1, "")
        assert "more than one server runs" in done.stderr
        for server in servers:
            assert f"  -f {server.conf}\n" in done.stderr
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            server.destroy()


@pytest.mark.parametrize("verb", ["status", "stop"])
def test_no_server_is_said_with_how_to_start_one(cli, folder, verb):
    path = write(folder, "forward http 127.0.0.1:8080 to /run/app/hello.door\n")
    done = cli(verb, "-f", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"cardea {verb}: no server runs on {path}; start "
                           f"one with: cardea run -f {path}\n")
    done = cli(verb, "-f", path + ".absent")
    assert (done.returncode, done.stderr) == (
        78, f"cardea {verb}: {path}.absent: no such file\n")


def test_a_server_is_found_though_its_file_is_broken_by_now(cardea, cli):
    server = cardea(TWO)
    write(server.folder, "nonsense\n")
    assert cli("status", "-f", server.conf, **ours(server)).returncode == 0


def test_stop_waits_until_it_has_ended(cardea, cli):
    server = cardea(TWO)
    with server.wire() as wire:
        wire.send(b"GET /sleep?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_log("sleeping 1000")
        done = cli("stop", **ours(server))
        assert wire.reply().body == b"slept 1000 ms\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert "with 1 connection\n" in done.stdout
    assert done.stdout.endswith(f"stopped (pid {server.pid}, status 0)\n")
    assert server.child.poll() is not None or server.wait_exit(0.5) == 0


def test_stop_can_be_bounded_and_then_forced(cardea, cli):
    server = cardea(TWO)
    with server.wire() as wire:
        wire.send(b"GET /sleep?ms=50000 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_log("sleeping 50000")
        done = cli("stop", "--wait", "300ms", **ours(server))
        assert done.returncode == 1
        assert re.fullmatch(
            r"cardea stop: still waiting for \d workers? with 1 connection; "
            r"cardea stop --now ends it at once\n", done.stderr)
        done = cli("stop", "--now", **ours(server))
        assert (done.returncode, done.stderr) == (2, "")
    assert server.wait_exit() == 2


def test_stop_tells_when_the_server_is_killed_meanwhile(cardea, cli):
    server = cardea(TWO)
    with server.wire() as wire:
        wire.send(b"GET /sleep?ms=50000 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_log("sleeping 50000")
        with subprocess.Popen(
                [os.path.join(server.build, "cardea"), "stop"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, **ours(server)) as asker:
            server.wait_log("event=control asked=stop")
            family = [p for p, _ in server.family() if p != asker.pid]
            os.kill(server.pid, signal.SIGKILL)
            for pid in family:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            out, errors = asker.communicate(timeout=30)
    assert asker.returncode == 3, out
    assert "killed while it stopped" in errors
    server.wait_exit()


# call

PLAIN = """
    module echo { run "$PROGRAMS/echo" }
    module reply { run "$PROGRAMS/reply" }
    module file { run "$PROGRAMS/file" }
    module crash { run "$PROGRAMS/crash" }
    module plain { run "$PROGRAMS/plain $DIR/plain.door" }
    forward http 127.0.0.1:$PORT to {
        map any / to echo
        map any /reply to reply
        map any /file to file
        map any /crash to crash
        map any /plain to "$DIR/plain.door"
    }
"""


@pytest.fixture(scope="module")
def doors(build, shared_folder, shared):
    return shared(PLAIN)


def call(doors, *words, data=b"", **more):
    return subprocess.run([os.path.join(doors.build, "cardea"), "call", *words],
                          input=data, capture_output=True, timeout=60,
                          check=False, **ours(doors), **more)


def test_call_of_a_module_sends_bytes_and_prints_the_body(doors, folder):
    data = bytes(range(256)) * 20000  # 5 MB
    done = call(doors, "echo", data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data
    path = os.path.join(folder, "in")
    with open(path, "wb") as f:
        f.write(b"from a file")
    assert call(doors, "echo", path).stdout == b"from a file"
    assert call(doors, "echo", "-", data=b"x").stdout == b"x"


def test_call_builds_a_request(doors):
    done = call(doors, "reply", "PUT", "/a%20b/c?q=1&q2=%41")
    assert done.returncode == 0
    told = done.stdout.decode()
    for line in ("method PUT", "path /a b/c", "query q=1&q2=%41",
                 "host localhost"):
        assert f"{line}\n" in told, told
    head = call(doors, "-i", "echo", "POST", "/").stdout
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Method: POST\r\n" in head


def test_call_of_an_answer_that_is_an_error_fails(doors):
    done = call(doors, "reply", "GET", "/?status=418&text=short")
    assert (done.returncode, done.stdout) == (1, b"short")
    assert b"cardea call: reply answered 418 " in done.stderr


def test_call_prints_a_body_that_is_a_file(doors):
    done = call(doors, "file", "GET", "/?size=1000000")
    assert done.returncode == 0
    assert done.stdout == bytes(i % 251 for i in range(1000000))


def test_call_of_a_plain_door_by_its_path(doors):
    door = os.path.join(doors.folder, "plain.door")
    until(lambda: call(doors, door, data=b"x").returncode == 0)
    done = call(doors, door, data=b"any bytes \x00\xff")
    assert (done.returncode, done.stderr) == (0, b"")
    done = call(doors, door, "GET", "/some?thing")
    assert done.stdout.startswith(b"HTTP/1.1 200 ")
    assert b"GET /some?thing HTTP/1.1\r\nHost: localhost\r\n" in done.stdout
    big = call(doors, door, "GET", "/big")
    assert big.returncode == 0 and len(big.stdout) > 100000


@pytest.mark.parametrize("words, errors", [
    (["/nowhere/a.door"], "cannot reach it: No such file or directory "
     "(ENOENT)"),
    (["$CONF"], "cannot reach it: Connection refused (ECONNREFUSED)"),
    (["$DIR"], "cannot reach it: Invalid argument (EINVAL)"),
    (["nobody"], "the server has no module nobody; cardea status lists them"),
    (["echo", "/absent"], "/absent: No such file or directory (ENOENT)"),
    (["crash", "GET", "/?now=1"], "the call: Interrupted system call (EINTR)"),
])
def test_call_says_what_is_wrong(doors, words, errors):
    words = [w.replace("$CONF", doors.conf).replace("$DIR", doors.folder)
             for w in words]
    done = call(doors, *words)
    assert (done.returncode, done.stdout) == (1, b"")
    assert errors in done.stderr.decode()


@pytest.mark.parametrize("words", [["echo", "GET", "no-slash"],
                                   ["echo", "G(T", "/"],
                                   ["echo", "GET", "/a b"],
                                   ["echo", "GET", "/../up"], []])
def test_call_with_what_is_no_request_is_wrong_usage(doors, words):
    assert call(doors, *words).returncode == 64


def examples():
    """(command, lines that it is to print) of EXAMPLES in cardea(1)."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(root, "man", "cardea.1"), encoding="utf-8") as f:
        section = f.read().split(".Sh EXAMPLES")[1].split("\n.Sh ")[0]
    found = []
    for line in re.findall(r"^\.Dl (.*)$", section, re.M):
        line = line.replace("\\(dq", '"')
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def test_the_examples_of_the_manual_run(build, folder):
    """In their order, in one folder, by a shell that finds cardea."""
    server = Server(build, folder, """
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to { map GET /hello to hello }
    """)
    shutil.copy(server.conf, os.path.join(folder, "site.conf"))
    place = dict(cwd=folder, env=dict(
        server.environment, PATH=f"{build}:{os.environ['PATH']}"))
    commands = examples()
    assert commands[0][0] == "cardea run" and len(commands) >= 6
    try:
        server.start()  # the first
        for command, printed in commands[1:]:
            done = subprocess.run(["sh", "-c", command],
                                  stdin=subprocess.DEVNULL, timeout=60,
                                  capture_output=True, text=True, check=False,
                                  **place)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout.splitlines()[:len(printed)] == printed
            if "json" in command:
                assert done.stdout == f"{server.pid}\n"
        assert server.wait_exit() == 0  # one of them stops it
    finally:
        server.destroy()
