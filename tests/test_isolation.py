"""What a module may, seen from inside: its program tells it in the log."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from lib import cgroup
from lib.python import need_extension, write_apps
from lib.server import SLOW, Server, alive, until

ROOT = os.geteuid() == 0
NEEDS_ROOT = pytest.mark.skipif(not ROOT,
                                reason="only root may become another user")
GUEST = 65533  # a user without a name, whom nothing else runs as


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o755)
    return path


@pytest.fixture(params=["as-we-are", "plain"])
def start(request, build, folder):
    """Starts a server of the configuration TEXT, as ourselves and as a user
    without any right."""
    servers = []

    def begin(text, environment=None):
        server = Server(build, folder, text, environment)
        servers.append(server)
        if request.param == "plain":
            if not ROOT:
                pytest.skip("as we are is plain already")
            server.prefix = ["setpriv", f"--reuid={GUEST}",
                             f"--regid={GUEST}", "--clear-groups"]
            for top, folders, names in os.walk(folder):
                for name in [top] + [os.path.join(top, n)
                                     for n in folders + names]:
                    os.chown(name, GUEST, GUEST)
        return server.start()

    yield begin
    for server in servers:
        server.destroy()


# Says LINES of its own and waits for its end.
TELLS = "#!/bin/sh\n%s\necho told\nexec sleep 1000\n"
FORWARD = """
module hello { run "$PROGRAMS/hello" }
forward http 127.0.0.1:$PORT to hello
"""


def told(server, module="m"):
    """What the module's program wrote, up to its last word."""
    server.wait_log(rf"event=output module={module} stream=stdout text=told")
    lines = []
    for line in list(server.log):
        found = re.search(rf"event=output module={module} stream=\S+ "
                          r'text=(?:"(.*)"|(\S+))$', line)
        if found:
            lines.append(found.group(1) or found.group(2))
    return lines[:-1]


def test_a_program_has_its_limits(start, folder):
    write(folder, "m.sh", TELLS % "ulimit -v; ulimit -n; ulimit -t; ulimit -Ht")
    server = start("""
        module m {
            run "$DIR/m.sh"
            limit memory 512M; limit files 40; limit cpu 1m
        }
        """ + FORWARD)
    memory = "unlimited" if cgroup.bounds(server.pid, "m") else "524288"
    assert told(server) == [memory, "40", "60", "61"]


def test_a_command_of_a_shim_has_its_limits_and_the_shim_has_not(start, folder):
    write(folder, "m.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\n'\n"
                          "ulimit -v; ulimit -n; ulimit -t\n"
                          "grep processes /proc/$$/limits\n"
                          "cat /proc/$PPID/limits\n")
    server = start("""
        module m {
            exec "$DIR/m.sh"
            limit memory 512M; limit files 40; limit cpu 7s
            limit processes 4000
        }
        forward http 127.0.0.1:$PORT to m
        """)
    lines = server.request("/").text.splitlines()
    if cgroup.bounds(server.pid, "m"):  # of shim and commands together
        assert lines[:3] == ["unlimited", "40", "7"]
        assert "4000" not in lines[3]
    else:
        assert lines[:3] == ["524288", "40", "7"]
        assert lines[3].split() == ["Max", "processes", "4000", "4000",
                                    "processes"]
    shim = "\n".join(lines[4:])
    assert re.search(r"Max cpu time +unlimited", shim), shim
    assert re.search(r"Max address space +unlimited", shim), shim
    assert not re.search(r"Max processes +4000", shim), shim


def test_a_program_over_its_cpu_time_is_ended(start, folder):
    write(folder, "m.sh", "#!/bin/sh\nwhile :; do :; done\n")
    server = start("""
        module m { run "$DIR/m.sh"; limit cpu 1s }
        """ + FORWARD)
    server.wait_log(r"event=died module=m cause=signal-XCPU")


def test_the_environment_is_clean(start, folder):
    write(folder, "m.sh", TELLS % "env")
    server = start("""
        module m {
            run "$DIR/m.sh"
            environment LANG=de_DE.UTF-8; environment EMPTY=
            environment "SPACED=a b"
        }
        """ + FORWARD, {"PASSWORD_OF_OTHERS": "x", "LANG": "C", "TZ": "UTC",
                        "LD_PRELOAD": "", "HOME": "/nowhere"})
    got = dict(line.split("=", 1) for line in told(server))
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                 "LSAN_OPTIONS", "PWD", "_", "OLDPWD", "SHLVL"):
        got.pop(name, None)
    assert got.pop("PATH") == os.environ["PATH"]
    assert got.pop("CARDEA_DOOR").endswith("/m/door")
    assert got.pop("CARDEA_CONTROL").endswith("/control")
    assert got.pop("CARDEA_OUTPUT").endswith("/m/output")
    assert got.pop("CARDEA_STATE").endswith("/m")
    assert got == {"LANG": "de_DE.UTF-8", "EMPTY": "", "SPACED": "a b",
                   "TZ": "UTC", "HOME": "/nowhere", "CARDEA_MODULE": "m"}


def test_a_command_gets_the_environment_of_its_module(start, folder):
    write(folder, "m.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\n'; env\n")
    server = start("""
        module m {
            exec "$DIR/m.sh"; environment A=1; environment HTTP_HOST=fooled
        }
        forward http 127.0.0.1:$PORT to m
        """)
    lines = server.request("/").text.splitlines()
    assert "A=1" in lines
    assert [x for x in lines if x.startswith("HTTP_HOST=")] == [
        "HTTP_HOST=example.org"]
    assert not [x for x in lines if re.match(
        r"CARDEA_(DOOR|CONTROL|MODULE|LIMITS)=", x)]


def test_no_descriptor_but_three_and_no_new_rights(start, folder):
    write(folder, "m.sh", TELLS % "ls /proc/$$/fd; "
                                  "grep NoNewPrivs /proc/self/status")
    server = start("""
        module m { run "/bin/bash $DIR/m.sh" }
        """ + FORWARD)
    # 255: the script itself, as bash reads it.
    assert [x for x in told(server) if x != "255"] == [
        "0", "1", "2", "NoNewPrivs:\\x091"]


@NEEDS_ROOT
def test_a_module_under_another_user_and_group(build, folder):
    write(folder, "m.sh", TELLS % "id -un; id -gn; id -Gn; "
                                  "echo $HOME $USER $LOGNAME")
    server = Server(build, folder, """
        module m { run "$DIR/m.sh"; user nobody; group daemon }
        """ + FORWARD)
    try:
        server.start()
        assert told(server) == ["nobody", "daemon", "daemon",
                                "/nonexistent nobody nobody"]
    finally:
        server.destroy()


def landlock():
    import ctypes
    return max(ctypes.CDLL(None).syscall(444, None, 0, 1), 0)


NEEDS_LANDLOCK = pytest.mark.skipif(landlock() == 0,
                                    reason="the kernel has no Landlock")
# try WORD COMMAND: says whether COMMAND went well.
TRY = """
try() { w=$1; shift; if "$@" >/dev/null 2>&1; then echo $w yes; else echo $w no; fi; }
"""


@NEEDS_LANDLOCK
def test_a_module_reaches_its_paths_and_no_other(start, folder):
    for name in ("data", "up", "secret"):
        os.mkdir(os.path.join(folder, name))
        write(os.path.join(folder, name), "file", "#!/bin/sh\n")
    write(folder, "m.sh", TELLS % (TRY + """
        try read cat data/file
        try list ls data
        try execute data/file
        try change-read sh -c 'echo >data/file'
        try read-up cat up/file
        try execute-up up/file
        try make-up sh -c 'echo >up/new && mv up/new up/newer'
        try secret cat secret/file
        try list-secret ls secret
        try root ls /
        try etc cat /etc/passwd
        try change-etc sh -c 'echo >/etc/cardea-must-not-be'
        try null sh -c 'echo >/dev/null'
        try error sh -c 'echo >/dev/stderr'
        try temporary sh -c 'echo >$TMPDIR/x'
        try state sh -c 'echo >$CARDEA_STATE/x && rm $CARDEA_STATE/x'
        try door sh -c 'echo >$(dirname $CARDEA_DOOR)/x'
        try proc cat /proc/self/status
        try keeper sh -c "kill -0 $PPID && cat /proc/$PPID/environ"
        try signal kill -0 $PPID
        """))
    os.mkdir(os.path.join(folder, "tmp"))
    server = start("""
        module m {
            run "/bin/sh $DIR/m.sh"; read $DIR/data; write $DIR/up
            environment TMPDIR=$DIR/tmp
        }
        """ + FORWARD)
    got = dict(line.rsplit(" ", 1) for line in told(server))
    if landlock() < 6:  # signals to processes outside are not refused
        del got["signal"], got["keeper"]
    assert got == {
        "read": "yes", "list": "yes", "execute": "yes", "change-read": "no",
        "read-up": "yes", "execute-up": "no", "make-up": "yes", "secret": "no",
        "list-secret": "no", "root": "no", "etc": "yes", "change-etc": "no",
        "null": "yes", "error": "yes", "temporary": "yes", "state": "yes",
        "door": "yes", "proc": "yes",
        **({"keeper": "no", "signal": "no"} if landlock() >= 6 else {})}


@NEEDS_LANDLOCK
def test_a_shim_and_its_command_work_within_their_paths(start, folder):
    os.mkdir(os.path.join(folder, "data"))
    write(folder, "m.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\n'\n"
                          + TRY + "try data ls data; try other ls .\n"
                          "echo to the log >&2\n")
    server = start("""
        module m {
            exec "$DIR/m.sh"; read $DIR/data; environment TMPDIR=/nowhere
        }
        forward http 127.0.0.1:$PORT to m
        """)
    reply = server.request("/")
    assert (reply.status, reply.text) == (200, "data yes\nother no\n")
    server.wait_log("to the log")


@NEEDS_LANDLOCK
def test_a_python_application_works_within_its_paths(start, build, folder):
    need_extension(build)
    secret_file(folder)
    os.mkdir(os.path.join(folder, "data"))
    write_apps(folder, {"app.py": """
import os
def application(environ, start_response):
    try:
        got = os.listdir("/srv")
    except PermissionError:
        got = "closed"
    key = os.pread(int(os.environ["CARDEA_SECRET_KEY"]), 100, 0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{got} {key}".encode()]
"""})
    server = start("""
        module m {
            wsgi "$DIR/app.py:application"; read $DIR/data
            secret key from $DIR/key; environment TMPDIR=/nowhere
        }
        forward http 127.0.0.1:$PORT to m
        """)
    assert server.request("/").text == "closed b'hush-7b1d\\n'"


@NEEDS_LANDLOCK
def test_a_path_that_is_not_there_is_told_with_its_name(start, folder):
    os.mkdir(os.path.join(folder, "data"))
    write(folder, "m.sh", TELLS % "true")
    server = start("""
        module m { run "$DIR/m.sh"; read $DIR/data }
        """ + FORWARD)
    pid = int(server.wait_log(r"event=start module=m pid=(\d+)").group(1))
    os.rmdir(os.path.join(folder, "data"))
    os.kill(pid, 9)
    server.wait_log(r"event=no-path module=m path=\S+/data "
                    r'error="No such file or directory" hint=')
    server.wait_log("event=start-failed module=m .*cause=no-start-ENOENT")


@NEEDS_ROOT
def test_a_bound_that_does_not_hold_is_told(build, folder):
    write(folder, "m.sh", TELLS % "true")
    server = Server(build, folder, """
        module m { run "$DIR/m.sh"; limit processes 50 }
        """ + FORWARD)
    try:
        server.start()
        server.wait_log("event=(not-isolated module=m "
                        'option="limit processes" cause=.* hint=|ready)')
        told_of = [x for x in server.log if "event=not-isolated" in x]
        mount = cgroup.mount()
        if not mount or "pids" not in cgroup.read(
                mount, "cgroup.controllers"):
            assert len(told_of) == 1
    finally:
        server.destroy()


def test_without_landlock_a_module_runs_and_the_log_says_what_lacks(
        build, folder):
    write(folder, "m.sh", TELLS % (TRY + "try root ls /"))
    server = Server(build, folder, """
        module m { run "/bin/sh $DIR/m.sh"; read /srv }
        """ + FORWARD)
    server.prefix = [sys.executable,
                     os.path.join(os.path.dirname(__file__), "lib",
                                  "refuse.py"), "444"]
    try:
        server.start()
        server.wait_log('event=not-isolated module=m option="read, write" '
                        'cause="the kernel has no Landlock.*" hint=')
        assert told(server) == ["root yes"]
        done = subprocess.run(
            [*server.prefix, os.path.join(build, "cardea"), "doctor"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            check=False)
        assert re.search(r"info +landlock +not here: .*\n +mend: run Linux",
                         done.stdout), done.stdout
    finally:
        server.destroy()


SECRET = "hush-7b1d\n"


def secret_file(folder, text=SECRET):
    path = os.path.join(folder, "key")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o600)
    return path


def test_a_secret_arrives_as_a_descriptor_and_in_no_other_way(start, folder):
    secret_file(folder)
    write(folder, "m.sh", TELLS % """
        echo $CARDEA_SECRET_DB_KEY; cat <&$CARDEA_SECRET_DB_KEY
        (echo x >&$CARDEA_SECRET_DB_KEY) 2>/dev/null && echo written
        ls /proc/$$/fd
        grep -l hush /proc/$$/environ /proc/$$/cmdline
        """)
    server = start("""
        module m { run "/bin/sh $DIR/m.sh"; secret db-key from $DIR/key }
        """ + FORWARD)
    assert told(server) == ["3", "hush-7b1d", "0", "1", "10", "2", "3"]
    for pid in [server.pid, server.keeper(), *server.workers()]:
        with open(f"/proc/{pid}/environ", "rb") as f:
            assert b"hush" not in f.read()


def test_a_program_in_c_asks_for_its_secret(start, folder):
    secret_file(folder)
    server = start("""
        module m { run "$PROGRAMS/secret"; secret Key from $DIR/key }
        forward http 127.0.0.1:$PORT to m
        """)
    assert server.request("/key").text == SECRET
    assert server.request("/KEY").text == SECRET
    assert server.request("/other").text == "No such file or directory\n"


def test_each_command_reads_a_secret_from_its_start(start, folder):
    secret_file(folder)
    write(folder, "m.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\n'\n"
                          "cat <&$CARDEA_SECRET_KEY\n")
    server = start("""
        module m { exec "$DIR/m.sh"; secret key from $DIR/key }
        forward http 127.0.0.1:$PORT to m
        """)
    for _ in range(3):
        assert server.request("/").text == SECRET


@NEEDS_ROOT
def test_a_user_who_may_not_read_the_file_gets_the_secret(build, folder):
    secret_file(folder)
    write(folder, "m.sh", TELLS % "cat key; cat <&$CARDEA_SECRET_KEY")
    server = Server(build, folder, """
        module m { run "$DIR/m.sh"; user nobody; secret key from $DIR/key }
        """ + FORWARD)
    try:
        server.start()
        assert told(server)[-1] == "hush-7b1d"
        assert any("Permission denied" in line for line in told(server))
    finally:
        server.destroy()


def test_a_changed_secret_is_there_at_the_next_start(start, folder):
    path = secret_file(folder)
    write(folder, "m.sh", TELLS % "cat <&$CARDEA_SECRET_KEY")
    server = start("""
        module m { run "$DIR/m.sh"; secret key from $DIR/key }
        """ + FORWARD)
    pid = int(server.wait_log(r"event=start module=m pid=(\d+)").group(1))
    assert told(server) == ["hush-7b1d"]
    with open(path, "w", encoding="utf-8") as f:
        f.write("new\n")
    os.kill(pid, 9)
    server.wait_log("event=output module=m stream=stdout text=new")
    pid = [re.search(r"pid=(\d+)", line).group(1) for line in server.log
           if "event=start module=m" in line][-1]
    os.unlink(path)
    os.kill(int(pid), 9)
    server.wait_log(r"event=no-secret module=m secret=key path=\S+ "
                    r'cause="No such file or directory"')


@pytest.mark.parametrize("name, place, why", [
    ("fifo", 21, "'PATH' is not a plain file"),
    ("large", 5, "secret key from PATH: it has more than 1 MB: name a plain "
                 "file of at most 1 MB"),
])
def test_what_is_no_secret_is_refused_with_its_place(build, folder, name,
                                                     place, why):
    path = os.path.join(folder, name)
    if name == "fifo":
        os.mkfifo(path)
    else:
        with open(path, "wb") as f:
            f.truncate((1 << 20) + 1)
    conf = write(folder, "cardea.conf",
                 "module m {\n    run /bin/true\n"
                 f"    secret key from {path}\n}}\n"
                 "forward http 127.0.0.1:0 to m\n")
    done = subprocess.run(
        [os.path.join(build, "cardea"), "run", "-f", conf],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=30,
        env=dict(os.environ, XDG_RUNTIME_DIR=folder))
    assert done.returncode != 0
    assert f"cardea.conf:3:{place}: {why.replace('PATH', path)}\n" in \
        done.stdout, done.stdout


def test_lines_tell_their_request_and_copy(start):
    server = start("""
        module m { run "$PROGRAMS/log" }
        forward http 127.0.0.1:$PORT to m
        """)
    pid = server.wait_log(r"event=start module=m pid=(\d+)").group(1)
    rid = server.request("/x").text
    head = "event=output module=m stream=stderr"
    server.wait_log("text=plain")
    got = [line.split(head)[1] for line in server.log if head in line]
    assert got == [f' pid={pid} request={rid} text="one of /x"',
                   f' pid={pid} request={rid} text="two 2"',
                   f" pid={pid} request={rid} text=three",
                   f' pid={pid} text="of none"', " text=plain"]


def test_lines_of_a_shim_tell_their_request(start, folder):
    write(folder, "m.sh", "#!/bin/sh\necho hello >&2; exit 3\n")
    server = start("""
        module m { exec "$DIR/m.sh" }
        forward http 127.0.0.1:$PORT to m
        """)
    text = server.request("/").text
    rid = re.search(r"Request id: (\S+)", text).group(1)
    server.wait_log(rf"event=output module=m stream=stderr request={rid} "
                    rf'text="cardea-exec: request {rid}: hello"')


def cpu_of(pid):
    """Seconds of CPU that it used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(SLOW, reason="an interpreted machine is too slow for it")
@pytest.mark.parametrize("command", ["yes words", "cat /dev/zero"])
def test_a_program_that_logs_without_end_costs_little(start, command):
    server = start("""
        module m { run "%s" }
        """ % command + FORWARD)
    dropped = r"event=output-dropped module=m lines=(\d+) most_a_second=1000"
    server.wait_log(dropped)
    cpu, began, seen = cpu_of(server.keeper()), time.monotonic(), len(server.log)
    for _ in range(2):
        match = server.wait_log(dropped, start=seen)
        told_at = next(i for i in range(seen, len(server.log))
                       if match.group(0) in server.log[i])
        lines = [x for x in server.log[seen:told_at]
                 if "event=output module=m" in x]
        assert len(lines) <= 1000
        assert int(match.group(1)) > 1000
        seen = told_at + 1
        assert server.request("/").status == 200
    spent = (cpu_of(server.keeper()) - cpu) / (time.monotonic() - began)
    assert spent < 0.5, spent  # of one CPU, with a sanitizer
    print(f"the keeper takes {spent:.3f} of a CPU")


@pytest.fixture(params=["as-we-are", "plain"])
def grouped(request, build, folder):
    """Starts a server in a control group of version 2 that belongs to its
    user; ourselves may make one only as root."""
    if not ROOT and request.param == "plain":
        pytest.skip("as we are is plain already")
    group = cgroup.make("test-" + os.path.basename(folder))
    servers = []

    def begin(text):
        server = Server(build, folder, text)
        servers.append(server)
        server.prefix = cgroup.enter(group)
        if request.param == "plain":
            server.prefix += ["setpriv", f"--reuid={GUEST}",
                              f"--regid={GUEST}", "--clear-groups"]
            cgroup.delegate(group, GUEST)
            for top, folders, names in os.walk(folder):
                for name in [top] + [os.path.join(top, n)
                                     for n in folders + names]:
                    os.chown(name, GUEST, GUEST)
        server.group = group
        return server.start()

    yield begin
    for server in servers:
        server.destroy()
    cgroup.remove(group)


# Leaves its group and session, and has another parent.
HIDES = "#!/bin/sh\nsetsid -f sh -c 'echo hidden $$; exec sleep 1000'\n"


def test_what_hides_from_its_module_ends_with_it(grouped, folder):
    write(folder, "m.sh", HIDES + "exec sleep 1000\n")
    server = grouped("""
        module m { run "$DIR/m.sh" }
        """ + FORWARD)
    hidden = server.wait_log(r"event=output module=m .*text=.hidden (\d+)")
    pid = server.wait_log(r"event=start module=m pid=(\d+)").group(1)
    with open(f"/proc/{hidden.group(1)}/cgroup", encoding="ascii") as f:
        assert re.search(rf"^0::.*/cardea.{server.pid}/m-m$", f.read(), re.M)
    os.kill(int(pid), 9)
    until(lambda: not alive(int(hidden.group(1))), what="the hidden's end")
    server.wait_log(r"event=output module=m .*text=.hidden (\d+)",
                    start=server.lines())
    server.stop()
    assert not [d for d in os.listdir(server.group)
                if d.startswith("cardea.")]


def test_a_killed_keepers_group_is_ended_by_the_next(grouped, folder):
    write(folder, "m.sh", HIDES + "exec sleep 1000\n")
    text = """
        module m { run "$DIR/m.sh" }
        """ + FORWARD
    server = grouped(text)
    hidden = int(server.wait_log(
        r"event=output module=m .*text=.hidden (\d+)").group(1))
    os.kill(server.pid, 9)
    server.wait_exit()
    assert alive(hidden)
    server.log.clear()
    server.start()
    until(lambda: not alive(hidden), what="the end of an earlier one's")
    assert os.listdir(server.group).count(f"cardea.{server.pid}") == 1


def be_nobody(*command):
    return subprocess.Popen(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         *command], stdin=subprocess.DEVNULL, cwd="/", text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/tmp"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def debuggers_work():
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as f:
            return f.read().strip() == "0"
    except FileNotFoundError:
        return True


@pytest.fixture
def sleeper(plain_build, folder):
    """A server whose module m is a program of the user nobody."""
    if not ROOT:
        pytest.skip("only root may become another user")
    if not debuggers_work():
        pytest.skip("kernel.yama.ptrace_scope forbids it to everybody")
    server = Server(plain_build, folder, """
        module m { run "/bin/sleep 1000"; user nobody }
        """ + FORWARD)
    server.start()
    yield server, server.wait_log(r"event=start module=m pid=(\d+)").group(1)
    server.destroy()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_copy_is_open_to_its_users_strace(sleeper):
    _, pid = sleeper
    strace = be_nobody("strace", "-f", "-p", pid)
    try:
        assert f"Process {pid} attached" in strace.stdout.readline()
    finally:
        strace.terminate()
        strace.communicate()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_plain_users_module_is_open_to_that_users_strace(plain_build, folder):
    if not debuggers_work():
        pytest.skip("kernel.yama.ptrace_scope forbids it to everybody")
    server = Server(plain_build, folder, """
        module m { run "/bin/sleep 1000" }
        """ + FORWARD)
    words = []
    if ROOT:
        words = ["setpriv", f"--reuid={GUEST}", f"--regid={GUEST}",
                 "--clear-groups"]
        server.prefix = words
        for top, _, names in os.walk(folder):
            for name in [top] + [os.path.join(top, n) for n in names]:
                os.chown(name, GUEST, GUEST)
    try:
        server.start()
        pid = server.wait_log(r"event=start module=m pid=(\d+)").group(1)
        with subprocess.Popen(
                [*words, "strace", "-f", "-p", pid], cwd="/", text=True,
                stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as strace:
            said = strace.stderr.readline()
            strace.terminate()
        assert f"Process {pid} attached" in said
        keeper = subprocess.run(
            [*words, "strace", "-p", str(server.pid)], cwd="/", text=True,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        assert "Operation not permitted" in keeper.stderr
    finally:
        server.destroy()


@pytest.mark.skipif(not shutil.which("gdb"), reason="needs gdb")
def test_a_copy_is_open_to_its_users_gdb(sleeper):
    _, pid = sleeper
    text = be_nobody("gdb", "-q", "-nx", "-batch", "-p", pid, "-ex",
                     "info proc").communicate()[0]
    assert f"process {pid}" in text, text
    assert "exe = '/usr/bin/sleep'" in text, text
    assert "not permitted" not in text, text


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_keeper_and_workers_are_open_to_no_other_user(sleeper):
    server, _ = sleeper
    for pid in [server.pid, server.keeper(), *server.workers()]:
        text = be_nobody("strace", "-p", str(pid)).communicate()[0]
        assert "Operation not permitted" in text, text
