#!/usr/bin/env python3
"""Records a terminal in which something is shown.

    python3 bench/recording.py --build build-release heirs docs/heirs.cast
    python3 bench/recording.py --build build-release growth docs/growth.cast

heirs: a download goes on while its worker is killed. growth: a program that
nobody sized gets 40 requests at once, and falls back to one thread. The
commands are run, one after another, by sh(1), and shown with what they print
and when (the format is asciicast 2: `asciinema play docs/heirs.cast`). The exit
status is 1, and nothing is written, if the sum of what was downloaded is not
that of the file, or the worker was not replaced three times; if the program did
not grow to 30 threads, or not fall back.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import servers

MB = 1 << 20
SIZE = 96 * MB
RATE = "16M"

GROWTH = """\
forward http 127.0.0.1:{port} to {{ map any / to slow }}
module slow {{ run ./slow }}
"""

HEIRS = """\
set workers 1
forward http 127.0.0.1:{port} to {{ map any / to files "{folder}/www" }}
"""


class Terminal:
    def __init__(self, folder, build):
        self.folder, self.build = folder, build
        self.path = f"{build}:{os.environ['PATH']}"
        self.began = time.monotonic()
        self.events = []

    def show(self, text):
        if not text:
            return
        at = round(time.monotonic() - self.began, 3)
        self.events.append([at, "o", text.replace("\n", "\r\n")])
        sys.stderr.write(text)

    def start(self, command):
        self.show(f"$ {command.removeprefix('exec ')}\n")
        return subprocess.Popen(
            ["sh", "-c", command.removesuffix(" &")], cwd=self.folder,
            env={**os.environ, "PATH": self.path}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)

    def run(self, command):
        """What COMMAND prints."""
        process = self.start(command)
        text = process.communicate(timeout=60)[0]
        self.show(text)
        return text

    def save(self, path, title):
        head = {"version": 2, "width": 80, "height": 40, "title": title}
        with open(path, "w", encoding="ascii") as file:
            for line in (head, *self.events):
                print(json.dumps(line), file=file)


def await_size(path, size):
    end = time.monotonic() + 60
    while os.path.getsize(path) < size:
        if time.monotonic() > end:
            raise SystemExit(f"recording: {path} does not grow to {size}")
        time.sleep(0.02)


def kill_thrice(terminal, got):
    """Who they were."""
    killed = []
    for nth in (1, 2, 3):
        await_size(got, SIZE // 4 * nth)
        text = terminal.run("cardea status -f cardea.conf | grep -A1 WORKER")
        pid = re.search(r"^0 +(\d+) ", text, re.M).group(1)
        terminal.run(f"kill -9 {pid}")
        terminal.run("ls -l got.bin | cut -d ' ' -f 5-")
        killed.append(pid)
    return killed


def write_conf(terminal, conf):
    with open(os.path.join(terminal.folder, "cardea.conf"), "w",
              encoding="ascii") as file:
        file.write(conf)
    terminal.began = time.monotonic()


def play_heirs(terminal, conf):
    folder = terminal.folder
    with open(os.path.join(folder, "www", "big.bin"), "wb") as file:
        file.write(random.Random(1).randbytes(SIZE))
    write_conf(terminal, conf)
    port = re.search(r":(\d+)", conf).group(1)
    want = terminal.run("sha256sum www/big.bin").split()[0]
    server = terminal.start("exec cardea run -f cardea.conf 2>server.log &")
    try:
        server.stdout.readline()  # ready
        got = os.path.join(folder, "got.bin")
        with open(got, "wb"):
            pass
        load = terminal.start(f"curl -sS --limit-rate {RATE} -o got.bin "
                              f"http://127.0.0.1:{port}/big.bin; "
                              "echo \"curl: status $?\" &")
        killed = kill_thrice(terminal, got)
        terminal.show(load.communicate(timeout=120)[0])
        same = terminal.run("sha256sum got.bin").split()[0] == want
        log = terminal.run("grep -o 'event=[dt].* pid=[0-9]*' server.log")
    finally:
        server.terminate()
        server.wait()
    took_over = len(re.findall("event=took-over", log))
    return same and len(set(killed)) == took_over == 3


def threads_of(text):
    return int(re.search(r"^slow +(\d+)", text, re.M).group(1))


def play_growth(terminal, conf):
    look = "cardea top -f cardea.conf </dev/null | grep -E 'NAME|slow'"
    shutil.copy(os.path.join(terminal.build, "examples/site/slow"),
                terminal.folder)
    write_conf(terminal, conf)
    port = re.search(r":(\d+)", conf).group(1)
    terminal.run("cat cardea.conf")
    server = terminal.start("exec cardea run -f cardea.conf 2>server.log &")
    try:
        server.stdout.readline()  # ready
        seen = [threads_of(terminal.run(look))]
        load = terminal.start(
            "seq 80 | xargs -P 40 -I N "
            f"curl -so /dev/null 'http://127.0.0.1:{port}/slow?ms=1500' &")
        while load.poll() is None:
            seen.append(threads_of(terminal.run(f"sleep 0.5; {look}")))
        end = time.monotonic() + 90
        while seen[-1] != 1 and time.monotonic() < end:
            terminal.run("sleep 8")
            seen.append(threads_of(terminal.run(look)))
        terminal.run("cardea why slow -f cardea.conf")
    finally:
        server.terminate()
        server.wait()
    return seen[0] == seen[-1] == 1 and max(seen) >= 30


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build-release")
    parser.add_argument("what", choices=PLAYS)
    parser.add_argument("file")
    options = parser.parse_args()
    play, conf, title = PLAYS[options.what]
    build = os.path.abspath(options.build)
    with tempfile.TemporaryDirectory(prefix="cardea-recording-") as folder:
        os.chmod(folder, 0o755)
        os.mkdir(os.path.join(folder, "www"), 0o755)
        terminal = Terminal(folder, build)
        good = play(terminal, conf.format(port=servers.free_port(),
                                          folder=folder, build=build))
    if good:
        terminal.save(options.file, title)
    sys.exit(0 if good else 1)


PLAYS = {
    "heirs": (play_heirs, HEIRS, "kill -9 a worker, and the download goes on"),
    "growth": (play_growth, GROWTH, "load it: copies 1, 40, 1"),
}


if __name__ == "__main__":
    main()
