"""The row of CGI: a program for each request, by Cardea and by its peers.

One processor's worth of work is nearly all the program's own start, so what is
compared is how many are started and answered in a second, with the whole
machine for server and client alike.  Each round asks every server in turn.
"""

import os
import shutil
import signal
import socket
import statistics

import servers

CONNECTIONS = 16
PATH = "/cgi-bin/hello.sh"
# With its length: the load generator knows no chunks.
SCRIPT = f"""#!/bin/sh
printf 'Content-Type: text/plain\\nContent-Length: {len(servers.BODY)}\\n\\n'
printf '{servers.BODY.strip()}\\n'
"""
CARDEA_CONF = """\
set access-log off
forward http 127.0.0.1:0 to {{
    map any /cgi-bin to bin
    map any /hello to hello
}}
module hello {{ exec "{build}/bench/cgi-hello" }}
module bin {{ scripts "{folder}/cgi-bin" }}
"""
APACHE_MODULES = "/usr/lib/apache2/modules"
APACHE_CONF = """\
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
Mutex file:{folder}
ErrorLog {folder}/apache-error.log
LogLevel error
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule env_module {modules}/mod_env.so
SetEnv ap_trust_cgilike_cl 1
LoadModule cgid_module {modules}/mod_cgid.so
ScriptSock {folder}/cgid.sock
StartServers 2
ThreadsPerChild 25
MaxKeepAliveRequests 0
KeepAliveTimeout 3600
DocumentRoot {folder}/cgi-bin
ScriptAlias /cgi-bin/ {folder}/cgi-bin/
<Directory {folder}/cgi-bin>
    Require all granted
</Directory>
"""
NGINX_CONF = """\
daemon off;
worker_processes 2;
{user}
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    tcp_nodelay on;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        location /cgi-bin/ {{
            fastcgi_pass unix:{folder}/fcgiwrap.sock;
            fastcgi_param SCRIPT_FILENAME {folder}$fastcgi_script_name;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param GATEWAY_INTERFACE CGI/1.1;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param REMOTE_ADDR $remote_addr;
        }}
    }}
}}
"""


def program(name):
    """Its path, sbin included; None if it is not installed."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    return shutil.which(name, path=path)


class Fcgiwrap(servers.Server):
    """fcgiwrap at a Unix socket: as many processes as connections."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "fcgiwrap.sock")
        super().__init__("fcgiwrap", [
            program("fcgiwrap"), "-c", str(CONNECTIONS), "-s",
            "unix:" + self.path], folder, ready=0)

    def stop(self):
        # Its processes do not end with the first of them, and it replaces
        # those that end before it.
        others = [pid for pid in self.pids() if pid != self.process.pid]
        self.process.terminate()
        self.process.wait(servers.STOP_LIMIT)
        for pid in others:
            os.kill(pid, signal.SIGTERM)
        super().stop()

    def _answers(self):
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(self.path)
            return True
        except OSError:
            return False


def write(folder, name, text):
    """Writes a file, and gives its path."""
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def apache(folder):
    """Apache with mod_cgid, from Debian's package but with nothing of its
    configuration."""
    port = servers.free_port()
    conf = write(folder, "apache.conf", APACHE_CONF.format(
        folder=folder, port=port, modules=APACHE_MODULES) +
        ("User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""))
    return servers.Server("apache", [
        program("apache2"), "-d", folder, "-f", conf, "-DFOREGROUND"],
        folder, ready=port)


def nginx(folder):
    """nginx before fcgiwrap."""
    port = servers.free_port()
    conf = write(folder, "nginx-cgi.conf", NGINX_CONF.format(
        folder=folder, port=port,
        user="user root;" if os.geteuid() == 0 else ""))
    return servers.Server("nginx", [
        program("nginx"), "-e", "stderr", "-p", folder, "-c", conf],
        folder, ready=port)


def folder_make(folder):
    """The script, where every server's user may run it."""
    os.chmod(folder, 0o755)
    os.makedirs(os.path.join(folder, "cgi-bin"), exist_ok=True)
    os.chmod(write(folder, "cgi-bin/hello.sh", SCRIPT), 0o755)


def start_all(bench):
    """Starts what is there; {name: servers, the one that is asked last}."""
    folder = bench.folder
    tries = {
        "cardea": (os.path.exists(f"{bench.build}/cardea"), [
            lambda: servers.cardea_from(bench.build, folder, CARDEA_CONF)]),
        "apache mod_cgid": (program("apache2"), [lambda: apache(folder)]),
        "nginx, fcgiwrap": (program("fcgiwrap") and program("nginx"), [
            lambda: Fcgiwrap(folder), lambda: nginx(folder)]),
    }
    found = {}
    for name, (is_there, makes) in tries.items():
        if not is_there:
            bench.problem(f"{name}: not installed, so nothing is said of it")
            continue
        found[name] = []
        for make in makes:
            found[name].append(make())
    return found


def ask(bench, server, path=PATH, connections=CONNECTIONS):
    """One run: requests to path as fast as they are answered."""
    options = bench.options
    run = bench.program("load", "--port", server.port, "--connections",
                        connections, "--seconds", options.seconds,
                        "--warmup", options.warmup, "--body", servers.BODY,
                        "--path", path,
                        limit=options.seconds + options.warmup + 30)
    if run["status"] != 0 or run["errors"] or not run["complete"]:
        raise ValueError(f"{server.name}: {run['errors']} errors "
                         f"{run['stderr']}")
    return run


def cgi(bench):
    """Row cgi: a shell script's answers a second, beside its peers."""
    row = "cgi"
    folder_make(bench.folder)
    found = start_all(bench)
    rounds = []
    try:
        for i in range(bench.options.rounds):
            rounds.append({name: ask(bench, some[-1])
                           for name, some in found.items()})
            if "cardea" in found:
                rounds[-1]["one"] = ask(bench, found["cardea"][-1], "/hello", 1)
            bench.say(f"{row}: round {i + 1} of {bench.options.rounds}")
    finally:
        for some in found.values():
            for server in reversed(some):
                bench.stop_one(server)
    bench.details[row] = {"rounds": rounds}
    rates = {name: [one[name]["requests"] / one[name]["seconds"]
                    for one in rounds] for name in found}
    done = {name: sum(one[name]["requests"] for one in rounds)
            for name in found}
    for name, some in rates.items():
        bench.add(row, f"{name}: scripts a second", "", some, done[name])
    if "cardea" in rates:
        # The slowest of a hundred, not the median: a user meets that one.
        bench.add(row, "a C program, request to answer (p99)", "ms",
                  [one["one"]["p99_us"] / 1000 for one in rounds],
                  sum(one["one"]["requests"] for one in rounds), figure=20)
    for name in list(rates)[1:] if "cardea" in rates else []:
        # What is more is better, and a figure is a bound above.
        bench.add(row, f"{name} / cardea", "",
                  [a / b for a, b in zip(rates[name], rates["cardea"])],
                  done["cardea"], figure=1.0,
                  note=f"{CONNECTIONS} connections, a script of /bin/sh; "
                  f"latency of ours {latency(rounds):.1f} ms")


def latency(rounds):
    """The median of the median latencies of Cardea, in ms."""
    return statistics.median(one["cardea"]["p50_us"] / 1000 for one in rounds)
