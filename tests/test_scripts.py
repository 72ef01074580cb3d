"""A folder of CGI scripts: the first part of the path behind the route is the
program's name."""

import os
import shutil
import subprocess

import pytest

CONF = """
module bin { scripts "$DIR/cgi-bin" }
module all { scripts "$DIR/cgi-bin"; folder "$DIR" }
forward http 127.0.0.1:$PORT to {
    map any /cgi-bin to bin
    map any / to all
}
"""
PERL = r"""#!/usr/bin/perl
use strict;
use warnings;
my $body = '';
read(STDIN, $body, $ENV{CONTENT_LENGTH}) if $ENV{CONTENT_LENGTH};
my %field = map { split /=/, $_, 2 } split /&/, $body || $ENV{QUERY_STRING};
print "Content-Type: text/plain; charset=utf-8\r\n";
print "Set-Cookie: seen=1\r\n\r\n";
print "$ENV{REQUEST_METHOD} $ENV{SCRIPT_NAME} [$ENV{PATH_INFO}]\n";
print "$_ is $field{$_}\n" for sort keys %field;
"""
FILES = {
    "env.sh": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nenv\npwd\n",
    "form.pl": PERL,
    "plain": "#!/bin/sh\necho secret\n",
    "bad-interpreter": "#!/no/such/program\n",
    ".hidden": "#!/bin/sh\necho\necho hidden\n",
}


@pytest.fixture(scope="module")
def server(shared, shared_folder):
    folder = os.path.join(shared_folder, "cgi-bin")
    os.makedirs(os.path.join(folder, "sub"))
    for name, text in FILES.items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(f.name, 0o644 if name == "plain" else 0o755)
    with open(os.path.join(shared_folder, "outside"), "w",
              encoding="ascii") as f:
        f.write(FILES["env.sh"])
    os.chmod(f.name, 0o755)
    os.symlink("../outside", os.path.join(folder, "leads-out"))
    os.symlink("env.sh", os.path.join(folder, "leads-in"))
    return shared(CONF)


def variables(reply):
    assert reply.status == 200, reply
    return dict(line.split("=", 1) for line in reply.text.splitlines()
                if "=" in line)


@pytest.mark.parametrize("target,name,info", [
    ("/cgi-bin/env.sh", "/cgi-bin/env.sh", ""),
    ("/cgi-bin/env.sh/", "/cgi-bin/env.sh", "/"),
    ("/cgi-bin/env.sh/a/b%20c?q=1", "/cgi-bin/env.sh", "/a/b c"),
    ("/env.sh/x", "/env.sh", "/x"),
    ("/cgi-bin/leads-in/x", "/cgi-bin/leads-in", "/x"),
])
def test_a_path_names_a_script_and_what_follows(server, target, name, info):
    got = variables(server.request(target))
    assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == (name, info)
    assert got["SCRIPT_FILENAME"].endswith("/cgi-bin/" + name.split("/")[-1])
    assert got["REQUEST_URI"] == target


def test_a_script_runs_in_its_folder_unless_another_is_written(
        server, shared_folder):
    folder = os.path.realpath(shared_folder)
    assert server.request("/cgi-bin/env.sh").text.splitlines()[-1] == \
        folder + "/cgi-bin"
    assert server.request("/env.sh").text.splitlines()[-1] == folder


@pytest.mark.parametrize("target", [
    "/cgi-bin", "/cgi-bin/", "/cgi-bin/none", "/cgi-bin/.hidden",
    "/cgi-bin/sub", "/cgi-bin/leads-out", "/cgi-bin/%2e%2e%2foutside",
    "/cgi-bin/..%2foutside", "/cgi-bin/sub%2f..%2fenv.sh", "/outside",
    "/cgi-bin/env.sh%00", "/cgi-bin/env.sh%20",
])
def test_nothing_else_is_run(server, target):
    reply = server.request(target)
    # What cannot be a path at all is refused before anybody looks for it.
    assert reply.status in (400, 404), reply
    assert "GATEWAY_INTERFACE" not in reply.text


def test_a_script_that_is_not_executable_is_403_and_the_log_says_why(server):
    reply = server.request("/cgi-bin/plain")
    assert reply.status == 403
    assert "secret" not in reply.text
    server.wait_log(r"cgi-bin/plain is not executable")


def test_a_script_whose_interpreter_is_missing_is_502(server):
    assert server.request("/cgi-bin/bad-interpreter").status == 502
    server.wait_log(r"cannot run \S*bad-interpreter: No such file")


def test_a_script_of_perl_reads_a_form(server):
    assert shutil.which("perl"), "perl is part of every Debian"
    version = subprocess.run(["perl", "-e", "print $^V"], check=True,
                             stdin=subprocess.DEVNULL, capture_output=True)
    assert version.stdout.startswith(b"v5.")
    reply = server.request("/cgi-bin/form.pl/doc", "POST", body=b"a=1&b=two",
                           fields=["Content-Type: "
                                   "application/x-www-form-urlencoded"])
    assert reply.get("Set-Cookie") == "seen=1"
    assert reply.get("Content-Type") == "text/plain; charset=utf-8"
    assert reply.text == "POST /cgi-bin/form.pl [/doc]\na is 1\nb is two\n"
    assert server.request("/cgi-bin/form.pl?x=y").text == \
        "GET /cgi-bin/form.pl []\nx is y\n"


def test_a_new_script_is_there_at_once_and_a_removed_one_is_not(
        server, shared_folder):
    path = os.path.join(shared_folder, "cgi-bin", "new")
    assert server.request("/cgi-bin/new").status == 404
    with open(path, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\necho Content-Type: a/b\necho\necho new\n")
    os.chmod(path, 0o755)
    assert server.request("/cgi-bin/new").text == "new\n"
    os.unlink(path)
    assert server.request("/cgi-bin/new").status == 404
