"""The row of PHP: CPU time a request of one page, by Cardea and by nginx, each
before a php-fpm of its own with the same settings. The processes of php-fpm
count on both sides."""

import os
import pwd
import shutil

import servers
import stats

CHILDREN = 4
PAGE = f"""<?php
header('Content-Type: text/plain');
header('Content-Length: {len(servers.BODY)}');
echo "{servers.BODY.strip()}\\n";
"""
FPM_CONF = """\
[global]
daemonize = no
error_log = {folder}/{name}.log
log_level = error
[www]
user = {user}
listen = {folder}/{name}.sock
pm = static
pm.max_children = {children}
"""
CONF = """\
set access-log off
module php {{
    fastcgi "{fpm} -F -R -n -y {folder}/ours.conf"
    address "unix:{folder}/ours.sock"
    root "{folder}/www"
}}
forward http 127.0.0.1:0 to {{ map any /hello to php }}
"""
NGINX_CONF = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx-php.pid;
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
    upstream php {{ server unix:{folder}/{name}.sock; {kept} }}
    server {{
        listen 127.0.0.1:{port};
        location /hello {{
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME {folder}/www/index.php;
            fastcgi_pass php;
            {keep}
        }}
    }}
}}
"""
# One process to start and to end, with both below it.
BOTH = """\
"$1" -F -R -n -y "$2" & a=$!
while [ ! -S "$3" ]; do sleep 0.01; done
"$4" -e stderr -p "$5" -c "$6" & b=$!
trap 'kill $b $a' TERM
wait $b; wait $b; wait $a; wait $a
exit 0
"""


def write(bench, name, text):
    """Writes a file into the bench's folder, and gives its path."""
    path = os.path.join(bench.folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def fpm_program():
    """php-fpm, whose name has its version; None: not installed."""
    names = [n for n in sorted(os.listdir("/usr/sbin"))
             if n.startswith("php-fpm")]
    return os.path.join("/usr/sbin", names[-1]) if names else None


def fpm_conf(bench, name):
    return write(bench, name + ".conf", FPM_CONF.format(
        folder=bench.folder, name=name, children=CHILDREN,
        user=pwd.getpwuid(os.geteuid()).pw_name))


def cardea(bench):
    fpm_conf(bench, "ours")
    return servers.cardea_from(bench.build, bench.folder, CONF,
                               {bench.server_cpu}, fpm=fpm_program())


def nginx(bench, name, is_kept):
    """nginx before php-fpm; IS_KEPT: it keeps connections, which is not its
    default."""
    port = servers.free_port()
    conf = write(bench, f"{name}-nginx.conf", NGINX_CONF.format(
        folder=bench.folder, name=name, port=port,
        kept=f"keepalive {CHILDREN};" if is_kept else "",
        keep="fastcgi_keep_conn on;" if is_kept else "",
        user="user root;" if os.geteuid() == 0 else ""))
    return servers.Server(name, [
        "sh", "-c", BOTH, "sh", fpm_program(), fpm_conf(bench, name),
        f"{bench.folder}/{name}.sock", servers.nginx_program(), bench.folder,
        conf], bench.folder, {bench.server_cpu}, port)


def php_cpu(bench, row):
    """Row php-4: CPU time a request with 4 connections."""
    options = bench.options
    if not fpm_program() or not servers.nginx_program():
        raise ValueError("php-fpm or nginx is not installed")
    os.makedirs(os.path.join(bench.folder, "www"), exist_ok=True)
    write(bench, "www/index.php", PAGE)
    found = {}
    try:
        found["cardea"] = cardea(bench)
        found["nginx"] = nginx(bench, "nginx", False)
        found["nginx-kept"] = nginx(bench, "nginx-kept", True)
        found["floor-epoll"] = servers.floor_epoll(
            bench.build, bench.folder, {bench.server_cpu})

        def one(name):
            return bench.load(found[name], CHILDREN, options.seconds,
                              options.warmup)

        def play():
            result = {"floor-epoll": [one("floor-epoll")]}
            for name in ("cardea", "nginx", "nginx-kept"):
                result[name] = [one(name)]
            result["floor-epoll"].append(one("floor-epoll"))
            return result

        good, bad = stats.collect(
            play, options.rounds, options.max_skew / 100, "floor-epoll",
            "cpu_us", lambda text: bench.say(f"{row}: {text}"))
    finally:
        bench.stop_all(found)
        shutil.rmtree(os.path.join(bench.folder, "www"))
    bench.details[row] = {"rounds": good, "discarded": bad, "answer_bytes": 0}
    for name in ("cardea", "nginx", "nginx-kept"):
        bench.add_server(row, good, name, "cpu_us", "CPU a request", "us")
        bench.add_server(row, good, name, "rate", "requests a second", "")
    done = sum(run["requests"] for once in good for run in once["cardea"])
    bench.add(row, "CPU a request, cardea / nginx", "",
              stats.ratios(good, "cardea", "nginx", "cpu_us"), done,
              figure=1.0, note=bench.note(row))
    bench.add(row, "CPU a request, cardea / nginx that keeps connections", "",
              stats.ratios(good, "cardea", "nginx-kept", "cpu_us"), done)
