"""`cardea serve`: each kind of thing is told, served and answers; each that
cannot be is refused with one sentence."""

import os
import re
import shutil
import socket
import subprocess

import pytest

from lib.server import Server, until

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
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
    assert port_of(second) != port_of(first)
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


NODE = """require("http").createServer((q, r) => r.end("node " + q.url))
    .listen(process.env.LISTEN_FDS ? {fd: 3} : process.env.PORT);
"""
PYTHON = """'''
app = no
'''
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi " + environ["PATH_INFO"].encode()]
"""
PERL = 'print "Content-Type: text/plain\\n\\nperl";\n'
KINDS = [
    ("cgi.sh", '#!/bin/sh\nprintf "Content-Type: a/b\\n\\ncgi"\n', "cgi.sh",
     "CGI program, one call per run", b"cgi", ()),
    ("app.py", PYTHON, "app.py:application", "Python WSGI application",
     b"wsgi /x", ()),
    ("app.py", PYTHON, "app.py", "Python WSGI application", b"wsgi /x", ("2",)),
    ("print.py", 'print("python")\n', "print.py",
     "plain stdio program, one call per run", b"python\n", ()),
    ("a.pl", PERL, "a.pl", "CGI program, one call per run", b"perl", ()),
    ("server.js", NODE, "server.js", "program that serves HTTP itself",
     b"node /x", ()),
    ("node/package.json", '{"main": "./a.js"}', "node",
     "program that serves HTTP itself", b"node /x", ()),
    ("php/index.php", "<?php echo 'php', 1 + 1; ?>", "php",
     "PHP pages, by FastCGI", b"php2", ()),
    ("bin/x", HELLO, "bin", "folder of programs, one call per run",
     b"Hello, GET\n", ()),
]


@pytest.mark.parametrize("name, text, word, kind, body, more", KINDS,
                         ids=[row[2] for row in KINDS])
def test_each_kind_is_told_and_answers(serve, build, folder, name, text, word,
                                       kind, body, more):
    for sign, program in (("HTTP", "node"), ("PHP", "php-cgi")):
        if sign in kind and not (shutil.which(program) and os.path.exists(
                os.path.join(build, "shims", "cardea-backend"))):
            pytest.skip(f"no {program}, or no cardea-backend")
    put(folder, name, text, 0o755 if name in ("bin/x", "cgi.sh") else 0o644)
    if name.startswith("node/"):
        put(folder, "node/a.js", NODE, 0o644)
    server = serve(word, *(["0", *more] if more else []))
    assert server.log[0] == f"# {word}: {kind}"
    path = "/" if "PHP" in kind else "/x"
    reply = server.request(path)
    assert (reply.status, reply.body) == (200, body), server.dump()
    if more:
        assert "    copies 2" in server.log


@pytest.mark.parametrize("library", ["libdoor.a", "libdoor.so"])
def test_a_stripped_program_is_still_told_by_its_library(cli, build, folder,
                                                         library):
    source = put(folder, "a.c", "#include <cardea.h>\n"
                 "static void f(struct cardea_request *r) { (void)r; }\n"
                 "int main(void) { return cardea_serve_threads(f); }\n")
    with open(os.path.join(build, "build.ninja"), encoding="utf-8") as f:
        sanitized = "-fsanitize=address,undefined" in f.read()
    done = subprocess.run(
        ["cc", source, "-s", "-I", os.path.join(ROOT, "include"),
         *(["-fsanitize=address,undefined"] if sanitized else []),
         "-o", os.path.join(folder, "a.out"), os.path.join(build, library),
         "-pthread"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = cli("serve", "--print", "a.out")
    assert told.stdout.startswith("# a.out: a program that serves a door\n")
    assert f'    run "{folder}/a.out"' in told.stdout.splitlines()


def test_a_program_that_prints_is_served(serve, folder):
    shutil.copy(shutil.which("uname"), os.path.join(folder, "a.out"))
    server = serve("./a.out")
    assert server.log[0] == "# ./a.out: plain stdio program, one call per run"
    assert server.request("/").body == b"Linux\n"


def test_a_door_that_runs_is_put_on_the_network(serve, build, folder):
    door = os.path.join(folder, "hello.door")
    program = os.path.join(build, "tests", "programs", "hello")
    child = subprocess.Popen([program], env={**os.environ,
                                             "CARDEA_DOOR": door})
    try:
        until(lambda: os.path.exists(door), what="the door")
        server = serve(door)
        assert server.log[0].endswith("door of a program that runs already")
        assert server.request("/").status == 200
        server.stop()
    finally:
        child.kill()
        child.wait()


WRONG = [
    ("gone", None, "no such file or folder; ls shows what is here", 78),
    ("plain.sh", ("#!/bin/sh\n", 0o644),
     "it is not executable; chmod +x plain.sh makes it so", 78),
    ("none", ("hello\n", 0o755), "it is executable, but neither a program nor "
     "a script that names its interpreter; begin it with a line such as "
     "#!/bin/sh", 78),
    ("a.xyz", ("hello\n", 0o644), "nothing tells what it is; name its kind: "
     "cardea serve --as KIND a.xyz", 78),
    ("dos.sh", ("#!/bin/sh\r\n", 0o755), "its lines end as those of Windows "
     "do, so no interpreter is found; mend them (sed -i 's/\\r$//' dos.sh)",
     78),
    ("lost", ("#!/no/where\n", 0o755), "its first line names the interpreter "
     "'/no/where', which is not there; install it, or write another path", 78),
    ("env", ("#!/usr/bin/env nosuch\n", 0o755), "its first line names "
     "'nosuch', which is not in $PATH; install it, or write another", 78),
    ("a.c", ("int main;\n", 0o644), "it is a source; build it, and serve the "
     "program (cc FILE $(pkg-config --cflags --libs cardea) -o PROGRAM)", 78),
    ("x.conf", ("", 0o644), "it is no program; a configuration is served by "
     "cardea run -f x.conf", 78),
    ("broken", ("\x7fELF", 0o755), "it begins as a program does, but is "
     "damaged; build it again", 78),
    ("fast.py", ("app = fastapi.FastAPI()\n", 0o644), "app is an application "
     "of ASGI, and only WSGI is served yet; serve a program that runs it "
     "(uvicorn) --as http", 78),
]


@pytest.mark.parametrize("word, file, why, status", WRONG,
                         ids=[row[0] for row in WRONG])
def test_what_cannot_be_served_is_told_in_a_sentence(cli, folder, word, file,
                                                     why, status):
    if file:
        put(folder, word, *file)
    done = cli("serve", word)
    assert done.stderr == f"cardea serve: {word}: {why}\n"
    assert (done.returncode, done.stdout) == (status, "")


def test_an_empty_folder_and_missing_interpreters_are_told(cli, folder):
    os.mkdir(os.path.join(folder, "empty"))
    done = cli("serve", "empty")
    assert (done.returncode, done.stderr) == (
        78, "cardea serve: empty: the folder is empty; put an index.html into "
        "it, or programs\n")
    put(folder, "index.php", "<?php ?>", 0o644)
    put(folder, "a.js", "", 0o644)
    path = in_path(folder, "sh")
    if not os.path.isdir("/run/php"):
        assert "apt install php-cgi" in cli("serve", "index.php",
                                            PATH=path).stderr
    assert ("there is no node in $PATH to run it; install it (in Debian: apt "
            "install nodejs)") in cli("serve", "a.js", PATH=path).stderr


@pytest.mark.parametrize("words, why", [
    (["x.sh", "70000"], "70000: the port must be a number from 0 to 65535"),
    (["x.sh", "a.example"], "a.example: names are not resolved"),
    (["x.sh", "0", "many"], "many: no number of copies; write one from 1"),
    (["x.sh", "0", "3"], "3: a number of copies is for programs that serve a"),
    (["--as", "cobol", "x.sh"], "x.sh: there is no kind cobol; the kinds are"),
    (["--as", "files", "x.sh"], "x.sh: --as files wants a folder, and this"),
    (["--as", "run", "."], ".: --as run wants a file, and this is a folder"),
])
def test_wrong_words_are_told(cli, folder, words, why):
    put(folder, "x.sh", HELLO)
    done = cli("serve", *words)
    assert done.returncode == 64
    assert done.stderr.startswith(f"cardea serve: {why}"), done.stderr


def test_a_kind_can_be_forced(cli, folder):
    put(folder, "x.py", "print()\n", 0o644)
    for kind, line in (("http", '    http "python3 $/x.py"'),
                       ("scgi", '    scgi "python3 $/x.py"'),
                       ("inetd", '    inetd "python3 $/x.py"'),
                       ("run", '    run "python3 $/x.py"'),
                       ("wsgi", "    wsgi $/x.py:application"),
                       ("exec", '    exec "python3 $/x.py"'),
                       ("plain", '    exec plain "python3 $/x.py"')):
        done = cli("serve", "--print", "--as", kind, "x.py")
        assert line.replace("$", folder) in done.stdout.splitlines(), done


LISTENS = """import http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"mine")
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])),
                       Page).serve_forever()
"""


def test_a_program_that_listens_by_itself_is_served_as_http(serve, folder):
    put(folder, "listens.py", LISTENS, 0o644)
    server = serve("--as", "http", "listens.py", "0")
    assert server.log[0] == "# listens.py: program that serves HTTP itself"
    until(lambda: server.request("/").status != 503, what="its start")
    assert server.request("/").body == b"mine"


# ---- save ----

def test_what_is_served_can_be_saved_checked_and_run(serve, cli, build, folder):
    put(folder, "hello.sh", HELLO)
    server = serve("./hello.sh", "0")
    saved = cli("save", "-f", "hello.sh")
    assert saved.returncode == 0, saved.stderr
    assert saved.stdout == ("./cardea.conf: written; run it with: cardea run "
                            "-f ./cardea.conf\n")
    with open(os.path.join(folder, "cardea.conf"), encoding="utf-8") as f:
        text = f.read()
    assert text.splitlines()[:2] == server.log[:2]
    again = cli("save", "-f", "hello.sh")
    assert again.returncode == 1
    assert again.stderr.endswith(
        "cardea save: ./cardea.conf: it has a module hello already, and stays "
        "as it is; write into another file: cardea save FILE\n")
    server.stop()
    assert cli("check").stdout == "./cardea.conf: ok\n"
    kept = Server(build, folder, text)
    try:
        assert kept.start().request("/").body == b"Hello, GET\n"
        kept.stop()
    finally:
        kept.destroy()


def test_save_writes_behind_what_a_file_says(serve, cli, folder):
    put(folder, "hello.sh", HELLO)
    serve("./hello.sh", "0")
    put(folder, "cardea.conf",
        "set idle-timeout 7s\nforward http :81 to /a/b", 0o644)
    saved = cli("save", "-f", "hello.sh")
    assert saved.returncode == 0, saved.stderr
    checked = cli("check", "-v")
    assert "set idle-timeout 7s" in checked.stdout
    assert "module hello {" in checked.stdout
    put(folder, "bad.conf", "set wrokers 1\n", 0o644)
    bad = cli("save", "-f", "hello.sh", "bad.conf")
    assert bad.returncode == 1
    assert "it has mistakes; mend them first" in bad.stderr
    with open(os.path.join(folder, "bad.conf"), encoding="utf-8") as f:
        assert f.read() == "set wrokers 1\n"


def test_a_server_of_a_file_is_saved_already(cardea, cli, folder):
    cardea("forward http 127.0.0.1:$PORT to files .")
    done = cli("save", "-f", "cardea.conf")
    assert done.returncode == 1
    assert done.stderr.endswith("./cardea.conf: the server runs on this file, "
                                "so it is saved already\n")
    whole = cli("save", "-f", "cardea.conf", "whole.conf")
    assert whole.returncode == 0, whole.stderr
    assert cli("check", "-f", "whole.conf").returncode == 0


def score_of(path, *words):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true",
                           "--no-pager", *words, path], capture_output=True,
                          text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level for .*: ([0-9.]+) (\w+)",
                      done.stdout)
    assert found, done.stdout + done.stderr
    return float(found.group(1))


@pytest.mark.parametrize("unit, most", [("system", 2.0), ("user", 7.0)])
def test_the_unit_is_valid_and_hardened(serve, cli, folder, unit, most,
                                        record_property):
    put(folder, "hello.sh", HELLO)
    serve("./hello.sh", "0")
    done = cli("save", "-f", "hello.sh", "--unit", unit, "--output", folder)
    assert done.returncode == 0, done.stderr
    path = os.path.join(folder, "cardea.service")
    assert f"{folder}/cardea.service: written; start it with" in done.stdout
    again = cli("save", "-f", "hello.sh", "--unit", unit, "--output", folder,
                "other.conf")
    assert again.returncode == 1
    assert "there is one already, and it stays" in again.stderr
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no",
         *(["--user"] if unit == "user" else []), path],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": os.path.join(folder, "run")})
    assert "cardea.service" not in verified.stderr, verified.stderr
    score = score_of(path)
    print(f"exposure of the {unit} unit: {score}")
    record_property("exposure", score)
    assert score <= most


def test_a_manager_is_told_of_start_life_and_stop(serve, folder):
    put(folder, "hello.sh", HELLO)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(os.path.join(folder, "notify"))
        manager.settimeout(30)
        server = serve("hello.sh", "0",
                       NOTIFY_SOCKET=os.path.join(folder, "notify"),
                       WATCHDOG_USEC="200000")
        heard = []
        while heard.count("WATCHDOG=1") < 4 or "READY=1" not in heard:
            heard.append(manager.recv(100).decode())
        server.stop()
        while "STOPPING=1" not in heard:
            heard.append(manager.recv(100).decode())
    assert set(heard) == {"WATCHDOG=1", "READY=1", "STOPPING=1"}
