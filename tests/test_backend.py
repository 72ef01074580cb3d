"""Programs behind FastCGI, SCGI and HTTP: real ones (PHP, Node, Python, C), and
what happens to clients when they fail."""

import os
import pwd
import re
import shutil
import signal
import socket
import threading
import time

import pytest

from lib.server import alive, stand_still, stat_of, until

PAGES = {
    "index.php": "<?php echo 'index of ', $_SERVER['SCRIPT_NAME'];",
    "session.php": "<?php session_start();\n"
                   "$_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;\n"
                   "echo 'visit ', $_SESSION['n'];",
    "vars.php": "<?php header('Content-Type: text/plain');\n"
                "foreach ($_SERVER as $k => $v)\n"
                "    if (is_string($v)) echo \"$k=$v\\n\";",
    "post.php": "<?php echo strlen(file_get_contents('php://input')), ' ',\n"
                "    $_POST['name'] ?? '-';",
    "status.php": "<?php http_response_code(418); header('X-Tea: yes');\n"
                  "echo 'short and stout';",
    "err.php": "<?php file_put_contents('php://stderr', \"a word\\n\");\n"
               "error_log('a complaint'); echo 'fine';",
    "pid.php": "<?php echo getmypid();",
    "big.php": "<?php for ($i = 0; $i < 40; $i++)\n"
               "    echo str_repeat('x', 1 << 19);",
    "large.php": "<?php echo str_repeat('y', 3000000);",
    "slow.php": "<?php usleep(200000); echo 'slow';",
    "none.php": "<?php http_response_code(204);",
    "cut.php": "<?php header('Content-Length: 100'); echo 'ten bytes.';",
    "secret.txt": "not for you",
}
FPM = """[global]
daemonize = no
error_log = /dev/stderr
[www]
user = {user}
listen = {folder}/fpm.sock
listen.mode = 0600
pm = static
pm.max_children = 2
catch_workers_output = yes
php_admin_value[session.save_path] = {folder}/sessions
"""
CONF = """
module cgi {{
    fastcgi "php-cgi -d session.save_path={folder}/sessions"
    root "{folder}/www"
}}
module fpm {{
    fastcgi "{fpm} -F -R -n -y {folder}/fpm.conf"
    address "unix:{folder}/fpm.sock"
    root "{folder}/www"
}}
module node {{ http "node $DIR/server.js"; timeout 2s }}
forward http 127.0.0.1:$PORT to {{
    map any /cgi to cgi
    map any /fpm to fpm
    map any / to node
}}
"""


NODE = r"""
const http = require('http');
let n = 0;
http.createServer((req, res) => {
  if (req.url === '/large') return res.end('z'.repeat(2000000));
  if (req.url === '/chunks') {
    res.write('one '); setTimeout(() => { res.write('two '); res.end('three'); }, 5);
    return;
  }
  if (req.url === '/none') { res.statusCode = 204; return res.end(); }
  if (req.url === '/never') return;
  if (req.url === '/half') {
    res.writeHead(200, {'Content-Length': 50});
    return res.write('half', () => res.destroy());
  }
  if (req.url === '/port') return res.end(String(req.socket.remotePort));
  if (req.url === '/fields')
    return res.end(JSON.stringify(req.headers));
  let size = 0;
  req.on('data', d => { size += d.length; });
  req.on('end', () => {
    res.setHeader('X-From', 'node');
    res.setHeader('Set-Cookie', ['a=1', 'b=2']);
    res.end(`${req.method} ${req.url} ${size}\n`);
  });
}).listen(process.env.PORT, process.env.HOST, () => console.log('listening'));
"""


def fpm_program():
    """Its name has the version in it."""
    found = [os.path.join(d, n) for d in ("/usr/sbin", "/usr/bin")
             for n in sorted(os.listdir(d)) if re.match(r"php-fpm[\d.]+$", n)]
    assert found, "scripts/setup.sh test installs php-fpm"
    return found[-1]


class Php:
    """One of the two ways to run PHP."""

    def __init__(self, server, name):
        self.server = server
        self.prefix = "/" + name
        self.program = "php-" + name

    def request(self, target, *args, **more):
        return self.server.request(self.prefix + target, *args, **more)


@pytest.fixture(scope="module")
def server(shared, shared_folder):
    www = os.path.join(shared_folder, "www")
    for name in ("www/sub", "www/empty", "sessions"):
        os.makedirs(os.path.join(shared_folder, name))
    for name, text in PAGES.items():
        with open(os.path.join(www, name), "w", encoding="ascii") as f:
            f.write(text)
    for name in ("www/sub/index.php", "outside.php", "www/.hidden.php"):
        shutil.copy(os.path.join(www, "index.php"),
                    os.path.join(shared_folder, name))
    os.symlink("../outside.php", os.path.join(www, "leads-out.php"))
    with open(os.path.join(shared_folder, "fpm.conf"), "w",
              encoding="ascii") as f:
        f.write(FPM.format(user=pwd.getpwuid(os.getuid()).pw_name,
                           folder=shared_folder))
    with open(os.path.join(shared_folder, "server.js"), "w",
              encoding="ascii") as f:
        f.write(NODE)
    server = shared(CONF.format(folder=shared_folder, fpm=fpm_program()))
    for path in ("/cgi/none.php", "/fpm/none.php", "/none"):
        until(lambda: server.request(path).status == 204)
    return server


@pytest.fixture(params=["cgi", "fpm"])
def php(request, server):
    return Php(server, request.param)


def variables(reply):
    assert reply.status == 200, reply
    return dict(line.split("=", 1) for line in reply.text.splitlines()
                if "=" in line)


def test_a_php_page_keeps_a_session(php):
    first = php.request("/session.php")
    cookie = first.get("Set-Cookie").split(";")[0]
    assert (first.status, first.text) == (200, "visit 1")
    assert php.request("/session.php",
                       fields=["Cookie: " + cookie]).text == "visit 2"
    assert php.request("/session.php").text == "visit 1"


def test_php_is_told_the_request(php):
    got = variables(php.request("/vars.php/a/b%20c?q=1&r=%20", fields=[
        "X-Own: yes", "Proxy: evil", "Authorization: Basic YTpi"]))
    root = got["DOCUMENT_ROOT"]
    assert got["SCRIPT_FILENAME"] == root + "/vars.php"
    assert got["SCRIPT_NAME"] == php.prefix + "/vars.php"
    assert got["PATH_INFO"] == "/a/b c"
    assert got["REQUEST_URI"] == php.prefix + "/vars.php/a/b%20c?q=1&r=%20"
    assert got["QUERY_STRING"] == "q=1&r=%20"
    assert got["REQUEST_METHOD"] == "GET"
    assert got["HTTP_X_OWN"] == "yes"
    assert got["PHP_AUTH_USER"] == "a"
    assert "HTTP_PROXY" not in got


def test_php_reads_forms_and_long_bodies(php):
    form = ["Content-Type: application/x-www-form-urlencoded"]
    assert php.request("/post.php", "POST", form, b"name=me").text == "7 me"
    body = os.urandom(1 << 20)
    assert php.request("/post.php", "POST",
                       ["Content-Type: application/octet-stream"],
                       body).text == "1048576 -"


def test_what_php_answers_arrives(php):
    reply = php.request("/status.php")
    assert (reply.status, reply.text) == (418, "short and stout")
    assert reply.get("X-Tea") == "yes"
    assert reply.get("Content-Type").startswith("text/html")
    assert php.request("/none.php").status == 204
    assert php.request("/large.php").body == b"y" * 3000000
    assert php.request("/status.php", "HEAD").body == b""


@pytest.mark.parametrize("target,name", [
    ("/", "/index.php"), ("/sub/", "/sub/index.php"),
    ("/sub", "/sub/index.php"), ("/sub/index.php", "/sub/index.php"),
])
def test_the_index_answers_for_a_folder(php, target, name):
    assert php.request(target).text == \
        "index of " + php.prefix + name


@pytest.mark.parametrize("target", [
    "/missing.php", "/missing.php/x", "/secret.txt", "/empty/", "/missing/",
    "/.hidden.php", "/leads-out.php", "/sub/.hidden/x.php",
    "/..%2foutside.php", "/sub/..%2f..%2foutside.php", "/vars.php%00.txt",
    "/secret.txt/x.php", "/.php",
])
def test_nothing_else_is_run_or_shown(php, target):
    reply = php.request(target)
    assert reply.status in (400, 404), reply
    assert "index of" not in reply.text and "not for you" not in reply.text


def test_more_than_the_bound_is_502_and_half_an_answer_too(php):
    assert php.request("/big.php").status == 502
    php.server.wait_log(r"more than 16777216 bytes of answer")
    assert php.request("/cut.php").status == 502
    php.server.wait_log(r"announced 100 bytes and wrote 10")
    assert php.request("/pid.php").status == 200


def test_standard_error_is_in_the_log_with_the_request(php):
    assert php.request("/err.php").text == "fine"
    php.server.wait_log(r"request \w+: .*a complaint")


def test_more_clients_than_php_has_processes_are_all_answered(php):
    """A kept connection takes a process of PHP for itself; nobody starves."""
    got = []

    def ask():
        with php.server.wire() as wire:
            for _ in range(3):
                got.append(wire.request(php.prefix + "/slow.php").text)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["slow"] * 24


def program_of(server, name):
    """The program that SERVER's shim has started, ready or not; 0: none."""
    shims = server.modules("cardea-backend")
    for pid, _ in server.family():
        stat = stat_of(pid)
        if stat and stat[2] in shims and stat[0].startswith(name):
            return pid
    return 0


def test_a_killed_program_is_replaced(php):
    pid = program_of(php.server, php.program)
    assert pid
    start = len(php.server.log)
    os.kill(pid, signal.SIGKILL)
    php.server.wait_log(r"ended by signal 9 \(Killed\): it is started again",
                 start=start)
    assert php.request("/pid.php").status == 200
    assert program_of(php.server, php.program) not in (0, pid)


# ----- HTTP -----

@pytest.fixture
def node(server):
    return server


def test_a_node_server_answers(node):
    reply = node.request("/a?b=c", "POST", body=b"12345")
    assert reply.text == "POST /a?b=c 5\n"
    assert reply.get("X-From") == "node"
    assert reply.all("Set-Cookie") == ["a=1", "b=2"]
    assert node.request("/a", "HEAD").status == 200
    assert node.request("/chunks").text == "one two three"
    assert node.request("/none").status == 204
    assert node.request("/large").body == b"z" * 2000000
    assert node.request("/a", "PUT", body=b"x" * 3000000).text == \
        "PUT /a 3000000\n"


def test_fields_of_the_connection_do_not_pass(node):
    got = node.request("/fields", fields=[
        "X-Forwarded-For: 10.0.0.1", "Connection: X-Hop", "X-Hop: 1",
        "X-Own: 2", "TE: trailers"]).json
    assert got["x-forwarded-for"] == "127.0.0.1"
    assert got["x-own"] == "2"
    assert got["host"] == got["x-forwarded-host"] == "example.org"
    assert not {"x-hop", "te"} & set(got)


def test_connections_to_the_program_are_kept(node):
    assert node.request("/port").text == node.request("/port").text


def test_an_answer_that_does_not_come_is_504_and_half_of_one_502(node):
    assert node.request("/half").status == 502
    node.wait_log(r"not a valid answer: it ends within the body|"
                  r"hung up within its answer")
    assert node.request("/never").status == 504
    node.wait_log(r"the program did not answer in time")
    assert node.request("/a").status == 200


def test_a_stopped_program_is_replaced(node):
    pid = program_of(node, "node")
    stand_still(pid)
    # 502 if an earlier request's end was the reason to look.
    assert node.request("/a").status in (502, 504)
    node.wait_log(r"the program is stopped and a request had no answer: killed")
    until(lambda: node.request("/a").status == 200)
    assert not alive(pid)


def test_under_load_a_killed_program_costs_its_own_requests_alone(node):
    pid = program_of(node, "node")
    end = time.monotonic() + 2
    got = []

    def ask():
        while time.monotonic() < end:
            got.append(node.request("/a").status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(got) > 20)
    os.kill(pid, signal.SIGKILL)
    killed_at = len(got)
    for thread in threads:
        thread.join()
    assert set(got) <= {200, 502}, set(got)
    assert got.count(502) <= 4
    assert got[killed_at + 8:].count(200) > 0
    assert node.request("/a").status == 200


INHERITED = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
    if (!pid || !n || atoi(pid) != getpid() || strcmp(n, "1") != 0) {
        return 3;
    }
    for (;;) {
        char buf[65536];
        const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
                           "Connection: close\r\n\r\nfrom3";
        int fd = accept(3, NULL, NULL);
        if (read(fd, buf, sizeof buf) > 0 &&
            write(fd, text, strlen(text)) < 0) {
            return 4;
        }
        close(fd);
    }
}
"""


def test_a_program_may_take_the_listening_socket_it_is_given(
        cardea, compile_program):
    program = compile_program(INHERITED)
    server = cardea(f"""
        module own {{ http "{program}" }}
        forward http 127.0.0.1:$PORT to own
    """)
    for _ in range(3):
        assert server.request("/").text == "from3"


PYTHON_HTTP = r"""
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"py")
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *a):
        pass
time.sleep(float(sys.argv[1]))
http.server.ThreadingHTTPServer(
    (os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_a_slow_start_is_waited_for(cardea, folder):
    with open(os.path.join(folder, "slow.py"), "w", encoding="ascii") as f:
        f.write(PYTHON_HTTP)
    server = cardea("""
        module slow { http "/usr/bin/python3 $DIR/slow.py 1.5" }
        forward http 127.0.0.1:$PORT to slow
    """)
    assert until(lambda: server.request("/").status == 200)


def test_a_program_that_never_listens_is_ended_and_said(cardea, folder):
    with open(os.path.join(folder, "no-format"), "w", encoding="ascii") as f:
        f.write("#!/no/such/interpreter\n")
    os.chmod(f.name, 0o755)
    server = cardea("""
        module deaf { http "/bin/sleep 1234561"; start-timeout 1s }
        module dead { scgi "/bin/false" }
        module none { fastcgi "$DIR/no-format" }
        forward http 127.0.0.1:$PORT to {
            map any /deaf to deaf
            map any / to dead
        }
    """)
    server.wait_log(r"the program was not ready within 0.9 s: ended")
    server.wait_log(r"the program exited with status 1 before it was ready")
    server.wait_log(r"cannot run \S+/no-format: No such file")
    assert server.request("/deaf").status in (502, 503, 504)


def test_nothing_is_left_when_the_shim_is_killed(cardea, folder):
    with open(os.path.join(folder, "slow.py"), "w", encoding="ascii") as f:
        f.write(PYTHON_HTTP)
    server = cardea("""
        module py { http "/usr/bin/python3 $DIR/slow.py 0" }
        forward http 127.0.0.1:$PORT to py
    """)
    until(lambda: server.request("/").status == 200)
    pid = program_of(server, "python3")
    os.kill(stat_of(pid)[2], signal.SIGKILL)
    until(lambda: not alive(pid), what="the program's end")
    until(lambda: server.request("/").status == 200)
    pid = program_of(server, "python3")
    server.stop()
    assert not alive(pid)


# ----- what hostile programs answer -----

HOSTILE = r"""
import socket, sys, os
s = socket.socket(fileno=0) if sys.argv[1] != "http" else socket.create_server(
    (os.environ["HOST"], int(os.environ["PORT"])))
out = open(sys.argv[2], "rb").read()
def record(kind, data, pad=0):
    return bytes([1, kind, 0, 1]) + len(data).to_bytes(2, "big") + \
        bytes([pad, 0]) + data + bytes(pad)
while True:
    c, _ = s.accept()
    c.settimeout(5)
    got = c.recv(65536)
    if not got:
        c.close()
        continue
    if got.startswith(b"HEAD /"):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    else:
        answer = eval(out)
        c.sendall(answer)
    c.close()
"""
CASES = [
    ("http", rb"b'HTTP/1.1 200 OK\r\nX: 1\r\n evil: fold\r\n\r\n'", 502),
    ("http", rb"b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
             rb"Content-Length: 4\r\n\r\nabcd'", 502),
    ("http", rb"b'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n'",
     502),
    ("http", rb"b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz'",
     502),
    ("http", rb"b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab'",
     502),
    ("http", rb"b'HTTP/1.1 101 Switching\r\n\r\n'", 502),
    ("http", rb"b'HTTP/1.1 100 Continue\r\n\r\n' * 9", 502),
    ("http", rb"b'SSH-2.0-OpenSSH\r\n'", 502),
    ("http", rb"b''", 502),
    ("http", rb"b'HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok'",
     200),
    ("http", rb"b'HTTP/1.1 204 No\r\n\r\nbody'", 204),
    ("http", rb"b'HTTP/1.1 304 Not\r\n\r\nbody'", 304),
    ("fastcgi", rb"b'HTTP/1.1 200 OK\r\n\r\n'", 502),
    ("fastcgi", rb"record(6, b'A: b\r\n\r\nok')", 502),
    ("fastcgi", rb"record(6, b'A: b\r\n\r\nok')[:-1]", 502),
    ("fastcgi", rb"record(3, b'\0\0\0\0\0\0\0\0')", 502),
    ("fastcgi", rb"record(3, b'\0\0\0\0\2\0\0\0')", 503),
    ("fastcgi", rb"record(3, b'\0\0\0\0\3\0\0\0')", 502),
    ("fastcgi", rb"record(3, b'\0\0\0\0')", 502),
    ("fastcgi", rb"record(6, b'Status: 200\r\nStatus: 404\r\n\r\n') + "
                rb"record(3, bytes(8))", 502),
    ("fastcgi", rb"record(6, b'A: b\r\n\r\n', 255) + record(9, b'xyz') + "
                rb"record(6, b'ok', 3) + record(6, b'') + record(3, bytes(8))",
     200),
    ("scgi", rb"b'no header'", 502),
    ("scgi", rb"b''", 502),
    ("scgi", rb"b'Status: 200 OK\r\nX: a\rb\r\n\r\n'", 502),
    ("scgi", rb"b'Content-Type: a/b\nContent-Length: 9\n\nok'", 502),
    ("scgi", rb"b'Content-Type: a/b\n\nok'", 200),
]


@pytest.mark.parametrize("protocol", ["http", "fastcgi", "scgi"])
def test_hostile_answers_have_a_defined_status(cardea, folder, protocol):
    with open(os.path.join(folder, "hostile.py"), "w", encoding="ascii") as f:
        f.write(HOSTILE)
    cases = [c for c in CASES if c[0] == protocol]
    modules = maps = ""
    for i, (_, text, _) in enumerate(cases):
        with open(os.path.join(folder, f"out{i}"), "wb") as f:
            f.write(text)
        modules += (f'module m{i} {{ {protocol} "/usr/bin/python3 '
                    f'$DIR/hostile.py {protocol} $DIR/out{i}" }}\n')
        maps += f"map any /{i} to m{i}\n"
    server = cardea(f"""
        {modules}
        forward http 127.0.0.1:$PORT to {{ {maps} }}
    """)
    for i, (_, text, status) in enumerate(cases):
        reply = until(lambda: (lambda r: r if r.status != 503 or status == 503
                               else None)(server.request(f"/{i}")))
        assert reply.status == status, (text, reply)
        if status == 200:
            assert reply.body == b"ok", (text, reply)
        if status in (204, 304):
            assert reply.body == b""


# ----- SCGI -----

SCGI = r"""
import socket
s = socket.socket(fileno=0)
while True:
    c, _ = s.accept()
    f = c.makefile("rb")
    n = b""
    while not n.endswith(b":"):
        got = f.read(1)
        if not got:
            break
        n += got
    if not n:
        c.close()
        continue
    head = f.read(int(n[:-1]))
    assert f.read(1) == b","
    parts = head.split(b"\0")
    assert parts[0] == b"CONTENT_LENGTH" and parts[-1] == b""
    env = dict(zip(parts[:-1:2], parts[1:-1:2]))
    assert env[b"SCGI"] == b"1" and len(env) == len(parts) // 2
    body = f.read(int(env[b"CONTENT_LENGTH"]))
    c.sendall(b"Status: 201 Made\r\nContent-Type: text/plain\r\n\r\n" +
              env[b"REQUEST_METHOD"] + b" " + env[b"SCRIPT_NAME"] + b" " +
              env[b"PATH_INFO"] + b" " + str(len(body)).encode())
    f.close()
    c.close()
"""


def test_an_scgi_program_answers(cardea, folder):
    with open(os.path.join(folder, "scgi.py"), "w", encoding="ascii") as f:
        f.write(SCGI)
    server = cardea("""
        module s { scgi "/usr/bin/python3 $DIR/scgi.py" }
        forward http 127.0.0.1:$PORT to { map any /app to s }
    """)
    reply = until(lambda: (lambda r: r if r.status != 503 else None)(
        server.request("/app/x", "POST", body=b"q" * 100000)))
    assert (reply.status, reply.text) == (201, "POST /app /x 100000")
    assert server.request("/app").text == "GET /app  0"


def test_a_program_that_runs_already_is_found(cardea, folder):
    """And one that goes away is 502, and is found again."""
    path = os.path.join(folder, "found.sock")

    def serve(listener):
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            if c.recv(65536):
                c.sendall(b"Content-Type: a/b\n\nfound")
            c.close()

    def listen():
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        return listener

    first = listen()
    server = cardea("""
        module s { scgi; address "unix:$DIR/found.sock" }
        forward http 127.0.0.1:$PORT to s
    """)
    until(lambda: server.request("/").text == "found")
    first.shutdown(socket.SHUT_RDWR)
    first.close()
    os.unlink(path)
    assert server.request("/").status == 502
    listen()
    assert server.request("/").text == "found"
