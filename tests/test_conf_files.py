"""Configurations of more than one file, macros and what the command line adds,
with real files: cardea check and cardea run."""

import os
import re
import shutil
import socket
import subprocess

import pytest

GOOD = "forward http 127.0.0.1:0 to /run/hello.door\n"


def write(folder, **files):
    """Writes the texts (by path without .conf, '/' as '__') into FOLDER. The
    path of `main`."""
    for name, text in files.items():
        path = os.path.join(folder, name.replace("__", "/") + ".conf")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    return os.path.join(folder, "main.conf")


def said(done, folder):
    """Its messages, without the folder's name and ours."""
    return [line.replace(folder + "/", "").replace("cardea check: ", "")
            for line in done.stderr.splitlines() if ".conf" in line
            or line.startswith("cardea check: -D")]


def plain(text):
    """A printed configuration without what tells places."""
    return [re.sub(r"  # [^\"]*$", "", line) for line in text.splitlines()
            if not line.startswith("#")]


def test_conf_d_is_read_in_the_order_of_names(cli, folder):
    path = write(folder, main='include "conf.d"\n' + GOOD,
                 **{
                     "conf.d__20-use": "set grace $long\n",
                     "conf.d__10-define": "long = 1m30s\n"})
    with open(os.path.join(folder, "conf.d", "README"), "w",
              encoding="utf-8") as f:
        f.write("no configuration")
    shutil.copy(path, os.path.join(folder, "conf.d", ".hidden.conf"))
    done = cli("check", "-v", "-f", "main.conf", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:5] == [
        "# read: main.conf",
        "# read: conf.d/10-define.conf (included in main.conf:1)",
        "# read: conf.d/20-use.conf (included in main.conf:1)",
        "# left out: conf.d/.hidden.conf (only names *.conf are read)",
        "# left out: conf.d/README (only names *.conf are read)"]
    assert "set grace 90s  # conf.d/20-use.conf:1, $long\n" in done.stdout
    os.rename(os.path.join(folder, "conf.d/20-use.conf"),
              os.path.join(folder, "conf.d/05-use.conf"))
    done = cli("check", "-f", path)
    assert said(done, folder) == [
        "conf.d/05-use.conf:1:11: no macro 'long' is defined before this: "
        'write long = "VALUE" above it']
    assert done.returncode == 78


def test_an_included_pipe_or_device_is_not_waited_for(cli, folder):
    os.mkdir(os.path.join(folder, "conf.d"))
    os.mkfifo(os.path.join(folder, "conf.d", "a.conf"))
    os.mkfifo(os.path.join(folder, "pipe"))
    os.mkdir(os.path.join(folder, "conf.d", "b.conf"))
    path = write(folder, main=GOOD + "include conf.d\ninclude pipe\n"
                 "include /dev/zero\n")
    done = cli("check", "-f", path)
    assert said(done, folder) == [
        "main.conf:3:9: cannot include 'pipe': it is no plain file",
        "main.conf:4:9: cannot include '/dev/zero': it is no plain file",
        "conf.d/a.conf: cannot be included: it is no plain file (by the "
        "folder's include in main.conf:2)",
        "conf.d/b.conf: cannot be included: it is no plain file (by the "
        "folder's include in main.conf:2)"]
    assert done.returncode == 78


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"),
                    reason="needs root and setpriv to be somebody else")
def test_what_may_not_be_read_is_said(build, folder):
    path = write(folder, main=GOOD + "include closed.conf\ninclude shut\n",
                 closed="", shut__a="")
    os.chmod(os.path.join(folder, "closed.conf"), 0)
    os.chmod(os.path.join(folder, "shut"), 0)
    os.chmod(folder, 0o755)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         os.path.join(build, "cardea"), "check", "-f", path],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True, check=False)
    if done.returncode == 126 or "cannot open" in done.stderr:
        pytest.skip("nobody may not come here")
    assert said(done, folder) == [
        "main.conf:2:9: cannot include 'closed.conf': Permission denied",
        "main.conf:3:9: cannot include 'shut': Permission denied"]
    assert done.returncode == 78


def test_a_thousand_files_are_read(cli, folder):
    files = {f"conf.d__{i:04}": f"set grace {i}s\n" if i == 7 else "# nothing\n"
             for i in range(1000)}
    path = write(folder, main="include conf.d\n" + GOOD, **files)
    done = cli("check", "-v", "-f", path)
    assert done.returncode == 0
    assert done.stdout.count("# read: ") == 1001
    assert f"set grace 7s  # {folder}/conf.d/0007.conf:1\n" in done.stdout
    write(folder, **{f"conf.d__{i:04}": "" for i in range(1000, 1100)})
    done = cli("check", "-f", path)
    assert said(done, folder) == ["main.conf:1:9: more than 1024 files"]
    assert done.returncode == 78


def test_files_that_include_each_other_are_found_through_links(cli, folder):
    path = write(folder, main=GOOD + "include a.conf\n",
                 a="include sub/b.conf\n", sub__x="")
    os.symlink("../a.conf", os.path.join(folder, "sub", "b.conf"))
    done = cli("check", "-f", path)
    # the link is the file with its include itself
    assert said(done, folder) == [
        "a.conf:1:9: files include each other: a.conf -> a.conf"]
    os.unlink(os.path.join(folder, "sub", "b.conf"))
    os.symlink(path, os.path.join(folder, "sub", "b.conf"))
    done = cli("check", "-f", "main.conf", cwd=folder)
    assert said(done, folder) == [
        "a.conf:1:9: files include each other: main.conf -> a.conf -> "
        "main.conf"]


def test_given_macros_win(cli, folder):
    path = write(folder, main="port = 0\nforward http 127.0.0.1:$port to "
                 "/run/$name.door\n")
    done = cli("check", "-v", "-D", "name=x y", "-Dport=81", "-f", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f'port = "81"  # -D, instead of {path}:1\n' in done.stdout
    assert 'forward http 127.0.0.1:81 to "/run/x y.door"' in done.stdout


@pytest.mark.parametrize("given, says", [
    ("port", "-D port: write NAME=VALUE"),
    ("=81", "-D =81: a macro's name is missing before the '='"),
    ("pört=81", "-D pört=81: a macro's name is made of letters, digits and "
     "'_', no digit first"),
    ("prot=81", "-D prot: no file defines or uses this macro: did you mean "
     "'port'?"),
    ("port=81\nset user root", "-D : what is given is no text of one line"),
    ("port=\udcff", "-D : what is given is no text of one line"),
    ("port=8 { map", "main.conf:2:14: address '127.0.0.1:8 { map': the port "
     "must be a number from 0 to 65535 (from macro 'port' of -D)"),
], ids=["no value", "no name", "umlaut", "unknown", "two lines", "bytes",
        "syntax"])
def test_given_macros_are_judged(cli, folder, given, says):
    path = write(folder, main="port = 0\nforward http 127.0.0.1:$port to /x/y"
                 "\n")
    done = cli("check", "-D", given, "-f", path)
    assert said(done, folder) == [says]
    assert done.returncode == 78


def test_run_judges_given_macros_as_check_does(cli, folder):
    path = write(folder, main="forward http 127.0.0.1:$port to /x/y\n")
    for words in (("run", "-D", "port=x"), ("run", "-n", "-Dport=x"),
                  ("check", "-v", "-D", "port=x")):
        done = cli(*words, "-f", path)
        assert said(done, folder) == [
            "main.conf:1:14: address '127.0.0.1:x': the port must be a number "
            "from 0 to 65535 (from macro 'port' of -D)"]
        assert (done.returncode, done.stdout) == (78, "")


def test_run_takes_macros_and_includes(cardea, folder):
    """The server itself reads conf.d; what fails later names the file too."""
    os.mkdir(os.path.join(folder, "conf.d"))
    os.mkdir(os.path.join(folder, "conf.d", "site"))
    with open(os.path.join(folder, "conf.d", "site", "a.txt"), "w",
              encoding="utf-8") as f:
        f.write("from conf.d")
    with open(os.path.join(folder, "conf.d", "site.conf"), "w",
              encoding="utf-8") as f:
        f.write("forward http $address to files site\n")
    server = cardea('address = "127.0.0.1:$PORT"\ninclude conf.d\n')
    assert server.request("/a.txt").body == b"from conf.d"


def test_what_check_prints_is_a_configuration(cli, folder):
    """Of every good sample: read again, the same is printed again."""
    samples = os.path.join(os.path.dirname(os.path.abspath(__file__)), "conf")
    names = [n for n in sorted(os.listdir(samples)) if n.startswith("good-")]
    assert names
    for name in names:
        first = cli("check", "-v", "-f", os.path.join(samples, name))
        assert first.returncode == 0
        path = os.path.join(folder, "again.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(first.stdout)
        again = cli("check", "-v", "-f", path)
        assert (again.returncode, again.stderr) == (0, "")
        assert plain(again.stdout) == plain(first.stdout)


def test_an_address_in_use_names_the_included_file(cli, folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = write(folder, main="include conf.d\n", **{
            "conf.d__a": f"\nforward http 127.0.0.1:{port} to files /\n"})
        done = cli("run", "-f", path)
    assert done.returncode == 1
    assert f"conf.d/a.conf:2:14: cannot listen on 127.0.0.1:{port}" in \
        done.stdout + done.stderr


def test_the_domain_is_the_host_of_who_names_none(cardea):
    server = cardea("""
        set domain WWW.example.org
        module reply { run "$PROGRAMS/reply" }
        forward http 127.0.0.1:$PORT to reply
    """)
    for head, host in ((b"GET / HTTP/1.0\r\n\r\n", b"host www.example.org\n"),
                       (b"GET / HTTP/1.0\r\nHost: a.b\r\n\r\n", b"host a.b\n"),
                       (b"GET / HTTP/1.1\r\nHost: c.d\r\n\r\n", b"host c.d\n"),
                       (b"GET http://e.f/ HTTP/1.1\r\nHost: e.f\r\n\r\n",
                        b"host e.f\n")):
        wire = server.wire()
        wire.send(head)
        assert host in wire.reply().body
        wire.close()
