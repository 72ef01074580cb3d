"""The command line: words, exit codes, messages."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

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
    for verb in ("run", "serve", "save", "check", "status", "stop", "call",
                 "doctor", "version", "help"):
        assert re.search(rf"\b{verb}\b", done.stdout)


@pytest.mark.parametrize("words", [["fly"], ["run", "--fast"], ["check", "-x"],
                                   ["run", "-f"]])
def test_wrong_usage_is_64(cli, words):
    done = cli(*words)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr


@pytest.mark.parametrize("words, errors", [
    (["run", "foo.conf"], "cardea run: one word too many: foo.conf; did you "
     "mean -f foo.conf?"),
    (["run", "--file", "x"], "cardea run: no option --file; did you mean -f?"),
    (["status", "--jsno"], "cardea status: no option --jsno; did you mean "
     "--json?"),
    (["stop", "-now"], "cardea stop: no option -now; did you mean --now?"),
    (["stop", "--wiat=1s"], "cardea stop: no option --wiat=1s; did you mean "
     "--wait?"),
    (["check", "--hepl"], "cardea check: no option --hepl; did you mean "
     "--help?"),
    (["check", "-x"], "cardea check: no option -x"),
    (["run", "-f", "a", "b"], "cardea run: one word too many: b"),
])
def test_wrong_words_are_told_the_right_ones(cli, words, errors):
    done = cli(*words)
    assert (done.returncode, done.stderr.splitlines()[0]) == (64, errors)


def test_a_mistake_in_a_define_begins_as_others_do(cli, folder):
    path = write(folder, "forward http 127.0.0.1:80 to /run/app/hello.door\n")
    for verb in ("check", "run"):
        done = cli(verb, "-D", "port", "-f", path)
        assert done.returncode == 78
        assert done.stderr == f"cardea {verb}: -D port: write NAME=VALUE\n"


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


def test_a_second_run_names_the_first(build, folder, cli):
    server = Server(build, folder, """
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """)
    try:
        server.start()
        done = cli("run", "-f", server.conf, env=server.environment)
        assert done.returncode == 1
        assert (f"another cardea runs on this configuration, pid {server.pid}: "
                f"see cardea status -f {server.conf}; cardea stop -f "
                f"{server.conf} ends it") in done.stdout + done.stderr
    finally:
        server.destroy()


# Verbs that ask a running server

# So that root does not raise its limits either.
NO_MORE = ["setpriv", "--bounding-set=-sys_resource",
           "--inh-caps=-sys_resource"] if os.geteuid() == 0 else []

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
        assert done.stderr == ("cardea status: the only server that runs: "
                               f"-f {server.conf}\n")
        done = cli("call", "hello", env=server.environment, cwd="/")
        assert (done.returncode, done.stderr) == (0, (
            f"cardea call: the only server that runs: -f {server.conf}\n"))
    finally:
        server.destroy()


def test_stop_never_guesses_which_server(build, folder, cli):
    """Where nothing names it, it is listed, and goes on."""
    if os.path.exists("/etc/cardea/cardea.conf"):
        pytest.skip("this machine has a configuration of its own")
    server = Server(build, folder, TWO)
    try:
        server.start()
        done = cli("stop", env=server.environment, cwd="/")
        assert (done.returncode, done.stdout) == (64, "")
        assert done.stderr.startswith("cardea stop: which server? ")
        assert f"  -f {server.conf}   (pid {server.pid})\n" in done.stderr
        assert server.request("/").status == 200
        done = cli("stop", env=server.environment, cwd=folder)
        assert done.returncode == 0
        assert done.stdout.startswith(
            f"stopping ./cardea.conf (pid {server.pid})\n")
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
            assert f"  -f {server.conf}   (pid {server.pid})\n" in done.stderr
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
    perhaps = " (perhaps as another user)" if os.geteuid() else ""
    assert done.stderr == (f"cardea {verb}: no server runs on {path}{perhaps}; "
                           f"start one with: cardea run -f {path}\n")
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
    lines = done.stdout.splitlines()
    assert lines[0] == f"stopping ./cardea.conf (pid {server.pid})"
    assert lines[1] == "waiting for 1 request"
    assert lines[-1] == f"stopped (pid {server.pid}, status 0)"
    assert all(re.fullmatch("waiting for (the workers to end|module.*|the last "
                            "processes to end)", line) for line in lines[2:-1])
    assert server.child.poll() is not None or server.wait_exit(0.5) == 0


def test_stop_can_be_bounded_and_then_forced(cardea, cli):
    server = cardea(TWO)
    with server.wire() as wire:
        wire.send(b"GET /sleep?ms=50000 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_log("sleeping 50000")
        done = cli("stop", "--wait", "300ms", **ours(server))
        assert done.returncode == 1
        assert re.fullmatch(
            r"cardea stop: still waiting for 1 request; "
            r"cardea stop --now ends it at once\n", done.stderr)
        assert done.stdout == f"stopping ./cardea.conf (pid {server.pid})\n"
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


COMPLETE = """
. "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_cardea
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(server, *words):
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash",
         os.path.join(server.build, "src", "ctl", "cardea"),
         os.path.join(server.build, "cardea"), *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False, env=server.environment, cwd="/")
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_modules_and_methods_of_a_call(cardea):
    server = cardea(TWO)
    assert {"hello", "sleepy"} <= set(
        complete(server, "call", "-f", server.conf, ""))
    assert complete(server, "call", "-f", server.conf, "sl") == ["sleepy"]
    assert complete(server, "call", "-f", server.conf, "hello", "GE") == ["GET"]
    assert complete(server, "call", "-f", server.conf, "hello", "GET", "") == []
    server.stop()  # then it is silent
    assert complete(server, "call", "-f", server.conf, "sl") == []


@pytest.mark.parametrize("limit, level", [(1024, "warn"), (20000, "info")])
def test_few_descriptors_are_a_warning_only_if_they_are_few(cardea, limit,
                                                            level):
    server = cardea(TWO, prefix=["prlimit", f"--nofile={limit}:{limit}",
                                 *NO_MORE])
    server.wait_log(rf"level={level} event=few-descriptors limit={limit} ")


# Root and other users' servers

GUEST = 424242


def run_name(path):
    """What the run folder of the configuration PATH is called."""
    hashed = 2166136261
    for byte in os.path.realpath(path).encode():
        hashed = (hashed ^ byte) * 16777619 & 0xffffffff
    return f"{os.path.basename(path).removesuffix('.conf')}-{hashed:08x}"


@pytest.fixture
def guest(folder):
    """/tmp/cardea-GUEST, GUEST's own, and a folder where it may read."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    top = f"/tmp/cardea-{GUEST}"
    shutil.rmtree(top, ignore_errors=True)
    os.mkdir(top, 0o711)
    os.chown(top, GUEST, GUEST)
    yield top
    shutil.rmtree(top, ignore_errors=True)


def test_root_finds_a_plain_users_server_by_its_file(build, folder, cli, guest):
    server = Server(build, folder, TWO)
    server.prefix = ["setpriv", f"--reuid={GUEST}", f"--regid={GUEST}",
                     "--clear-groups"]
    del server.environment["XDG_RUNTIME_DIR"]
    for top, _, names in os.walk(folder):
        for name in [top] + [os.path.join(top, n) for n in names]:
            os.chown(name, GUEST, GUEST)
    try:
        server.start()
        place = dict(env=server.environment, cwd="/")
        done = cli("status", "-f", server.conf, **place)
        assert (done.returncode, done.stderr) == (0, "")
        assert f", pid {server.pid}, running" in done.stdout
        done = cli("call", "-f", server.conf, "hello", **place)
        assert (done.returncode, done.stderr) == (1, (
            f"cardea call: the server (pid {server.pid}) belongs to user "
            f"{GUEST}; call its doors as that user\n"))
        done = cli("stop", "-f", server.conf, **place)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(
            f"stopping {server.conf} (pid {server.pid} of user {GUEST})\n")
        assert server.wait_exit() == 0
    finally:
        server.destroy()


FAKE = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[2])
s.listen()
print("listens", flush=True)
while True:
    c, _ = s.accept()
    asked = c.recv(100)
    c.sendall(b"ok\\n")
    if asked.startswith(b"status"):
        c.sendall(b"\\x1b]0;title\\x07\\x9b31m\\xc2\\x9bred\\rend\\n")
    else:
        c.sendall(b"\\x1b[2J" * 20 + b"\\nended 0\\n")
    c.close()
"""


@pytest.fixture
def fake(folder, guest):
    """Starts a user's program that answers as a server would, with bytes that
    a terminal obeys."""
    children = []

    def start(uid, path):
        children.append(subprocess.Popen(
            [sys.executable, "-c", FAKE, str(uid), path],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))
        assert children[-1].stdout.readline() == "listens\n"
        return children[-1].pid
    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_what_a_fake_server_says_to_root_moves_no_terminal(folder, cli, guest,
                                                           fake):
    path = write(folder, "forward http 127.0.0.1:8080 to /run/app/hello.door\n")
    run = os.path.join(guest, run_name(path))
    os.mkdir(run, 0o711)
    os.chown(run, GUEST, GUEST)
    pid = fake(GUEST, os.path.join(run, "control"))
    done = cli("status", "-f", path)
    assert (done.returncode, done.stdout) == (0, "?]0;title??31m?red?end\n")
    done = cli("stop", "-f", path)
    assert done.stdout.startswith(
        f"stopping {path} (pid {pid} of user {GUEST})\n")
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("trap", ["other-listener", "link-to-socket",
                                  "link-to-folder", "others-folder",
                                  "link-at-top", "no-socket"])
def test_root_steps_into_no_trap(folder, cli, guest, fake, trap):
    """Whatever lies there, root talks to the folder's owner or to nobody."""
    path = write(folder, "forward http 127.0.0.1:8080 to /run/app/hello.door\n")
    name = run_name(path)
    run = os.path.join(guest, name)
    aside = os.path.join(folder, "aside")
    os.chmod(folder, 0o711)
    os.mkdir(aside)
    owner = GUEST + 1 if trap == "others-folder" else GUEST
    os.chown(aside, owner, owner)
    if trap == "link-to-folder":
        fake(GUEST, os.path.join(aside, "control"))
        os.symlink(aside, run)
    elif trap == "link-at-top":
        os.rmdir(guest)
        os.mkdir(os.path.join(aside, name))
        os.chown(os.path.join(aside, name), GUEST, GUEST)
        fake(GUEST, os.path.join(aside, name, "control"))
        os.symlink(aside, guest)
    else:
        os.mkdir(run, 0o711)
        os.chown(run, owner, owner)
        if trap == "link-to-socket":
            fake(GUEST, os.path.join(aside, "control"))
            os.symlink(os.path.join(aside, "control"),
                       os.path.join(run, "control"))
        elif trap == "others-folder":
            fake(owner, os.path.join(run, "control"))
        elif trap == "other-listener":  # a socket of root, given away
            fake(0, os.path.join(run, "control"))
            os.chown(os.path.join(run, "control"), GUEST, GUEST)
        else:
            with open(os.path.join(run, "control"), "wb"):
                pass
    done = cli("status", "-f", path)
    if trap == "link-at-top":
        os.unlink(guest)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no server runs on" in done.stderr


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
    (["echo", "./absent"], "./absent: No such file or directory (ENOENT)"),
    (["crash", "GET", "/?now=1"], "the call: Interrupted system call (EINTR)"),
])
def test_call_says_what_is_wrong(doors, words, errors):
    words = [w.replace("$CONF", doors.conf).replace("$DIR", doors.folder)
             for w in words]
    done = call(doors, *words)
    assert (done.returncode, done.stdout) == (1, b"")
    assert errors in done.stderr.decode()


@pytest.mark.parametrize("word, request_of_it", [("/hello", "GET /hello"),
                                                 ("GET", "GET /"),
                                                 ("POST", "POST /")])
def test_call_with_half_a_request_tells_the_whole(doors, word, request_of_it):
    done = call(doors, "echo", word)
    assert (done.returncode, done.stdout) == (64, b"")
    assert done.stderr.decode() == (
        f"cardea call: echo: there is no file {word}; a request is METHOD "
        f"PATH: cardea call echo {request_of_it}\n")


def test_call_of_a_module_without_a_door_tells_its_state(cardea, cli):
    server = cardea("""
        module broken { run "/bin/false" }
        forward http 127.0.0.1:$PORT to broken
    """)
    server.wait_log("event=died module=broken .*count=6")  # a second's pause
    done = cli("call", "broken", "GET", "/", **ours(server))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "cardea call: broken: its door is not open; the module's state is "
        '"waiting" (cardea status tells more)\n')


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
