#!/usr/bin/env python3
"""Records a terminal in which a download goes on while its worker is killed.

    python3 bench/recording.py --build build-release docs/heirs.cast

The commands are run, one after another, by sh(1), and shown with what they
print and when (the format is asciicast 2: `asciinema play docs/heirs.cast`).
The exit status is 1, and nothing is written, if the sum of what was downloaded
is not that of the file, or the worker was not replaced three times.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time

import servers

MB = 1 << 20
SIZE = 96 * MB
RATE = "16M"

CONF = """\
set workers 1
forward http 127.0.0.1:{port} to {{ map any / to files "{folder}/www" }}
"""


class Terminal:
    def __init__(self, folder, build):
        self.folder = folder
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

    def save(self, path):
        head = {"version": 2, "width": 80, "height": 40,
                "title": "kill -9 a worker, and the download goes on"}
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


def play(terminal, conf):
    folder = terminal.folder
    with open(os.path.join(folder, "www", "big.bin"), "wb") as file:
        file.write(random.Random(1).randbytes(SIZE))
    with open(os.path.join(folder, "cardea.conf"), "w",
              encoding="ascii") as file:
        file.write(conf)
    terminal.began = time.monotonic()
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build-release")
    parser.add_argument("file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cardea-recording-") as folder:
        os.chmod(folder, 0o755)
        os.mkdir(os.path.join(folder, "www"), 0o755)
        terminal = Terminal(folder, os.path.abspath(options.build))
        conf = CONF.format(port=servers.free_port(), folder=folder)
        good = play(terminal, conf)
    if good:
        terminal.save(options.file)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
