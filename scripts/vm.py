#!/usr/bin/env python3
"""Runs tests in a virtual machine with the oldest kernel that Cardea knows.

    scripts/vm.py                          what `make vm` runs: see PLAN
    scripts/vm.py tests/test_life.py -x    files and words for pytest
    scripts/vm.py --plain tests/...        as a plain user, in a control group
                                           that was delegated to it
    scripts/vm.py --systemd tests/...      systemd is process 1
    scripts/vm.py --run 'COMMAND'          any command of the shell instead

Debian's kernel 6.1 boots under QEMU with the files of this machine as its own:
read only, by virtiofs; what is written stays in the memory of the virtual
machine and is gone with it. Control groups are version 2 with all controllers.
Where KVM does not carry the kernel QEMU interprets it, which takes longer, so
tests run against the build without sanitizers (--build names another).

Kernel and busybox are fetched by apt into build-vm, and only unpacked there:
nothing is installed. Results (JUnit) stay there too. Needs root: only root may
lend all files.

The last line is `N passed, N failed`, with `, N skipped` when some were.
"""

import argparse
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERE = os.path.join(ROOT, "build-vm")
KERNEL = "linux-image-cloud-amd64"
# In the order in which they need each other.
MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev",
           "virtio_pci_modern_dev", "virtio_pci", "fuse", "virtiofs", "overlay",
           "autofs4")
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
GUEST = 65533  # the plain user: has no name, nothing else runs as it
MEMORY_MB = 4096

SERVICE = """[Unit]
After=basic.target dbus.service systemd-logind.service systemd-user-sessions.service
[Service]
Type=oneshot
ExecStart=/bin/sh /run/vm/main
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
Delegate=yes
TimeoutStartSec=infinity
"""
TARGET = """[Unit]
Requires=sysinit.target
Wants=dbus.service systemd-logind.service systemd-user-sessions.service vm.service
After=sysinit.target
AllowIsolate=yes
"""
# What a boot for tests does without.
MASKED = ("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
          "systemd-update-utmp.service", "systemd-journal-flush.service",
          "systemd-sysusers.service", "systemd-udevd.service",
          "systemd-udev-trigger.service", "systemd-remount-fs.service",
          "systemd-modules-load.service", "modprobe@drm.service",
          "dev-hugepages.mount", "sys-kernel-debug.mount",
          "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount")

# What `make vm` runs, each in a boot of its own: name, options, files.
PLAN = (
    ("root", [], ["cgroup", "isolation", "life", "copies", "serve", "faults",
                  "doorlib", "doors"]),
    ("plain", ["--plain"], ["cgroup", "isolation", "life", "copies"]),
    ("systemd", ["--systemd"], ["systemd"]),
)


def die(text):
    print(f"vm: {text}", file=sys.stderr)
    raise SystemExit(2)


def fetch():
    """The kernel's folder (boot, lib), and busybox; unpacked once."""
    done = os.path.join(HERE, "done")
    if os.path.exists(done):
        return
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    said = subprocess.run(["apt-cache", "depends", KERNEL], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          check=True).stdout
    found = re.search(r"Depends: (linux-image-\S+)", said)
    if not found:
        die(f"apt knows no {KERNEL}")
    for package in (found.group(1), "busybox-static"):
        print(f"vm: fetching {package}", flush=True)
        got = subprocess.run(["apt-get", "download", "-q", package], cwd=HERE,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, check=False)
        files = glob.glob(os.path.join(HERE, package + "_*.deb"))
        if got.returncode != 0 or not files:
            die(f"{package}: " + got.stdout.decode("utf-8", "replace"))
        subprocess.run(["dpkg-deb", "-x", files[0], HERE], check=True)
        os.unlink(files[0])
    with open(done, "w", encoding="ascii") as f:
        f.write(found.group(1) + "\n")


def read(path):
    with open(path, "rb") as f:
        return f.read()


def initial_files(files):
    """A cpio archive ("newc") of FILES: (name, mode, bytes, device)."""
    out = bytearray()
    for number, (name, mode, data, device) in enumerate(
            [*files, ("TRAILER!!!", 0, b"", (0, 0))], 1):
        path = name.encode() + b"\0"
        head = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device,
                len(path), 0)
        out += b"070701" + b"".join(b"%08X" % n for n in head) + path
        out += b"\0" * (-len(out) % 4)
        out += data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def make_initial(path, command):
    folder, none = 0o40755, (0, 0)
    files = [(n, folder, b"", none) for n in
             ("bin", "dev", "proc", "sys", "modules", "vm")]
    files += [("dev/console", 0o20600, b"", (5, 1)),
              ("bin/busybox", 0o100755, read(f"{HERE}/bin/busybox"), none),
              ("init", 0o100755, read(f"{ROOT}/scripts/vm-init.sh"), none),
              ("vm/main", 0o100755, command.encode(), none),
              ("vm/vm.service", 0o100644, SERVICE.encode(), none),
              ("vm/vm.target", 0o100644, TARGET.encode(), none)]
    order = ""
    for name in MODULES:
        found = glob.glob(f"{HERE}/lib/modules/*/kernel/**/{name}.ko",
                          recursive=True)
        if found:
            files.append((f"modules/{name}.ko", 0o100644, read(found[0]), none))
            order += name + ".ko\n"
    files.append(("modules/order", 0o100644, order.encode(), none))
    with open(path, "wb") as f:
        f.write(initial_files(files))


def accelerator():
    """KVM where it carries an ordinary kernel: the processor must have what
    it needs, /dev/kvm alone does not say so."""
    with open("/proc/cpuinfo", encoding="ascii") as f:
        flags = re.search(r"^flags\s*:(.*)$", f.read(), re.M)
    has = flags and {"vmx", "svm"} & set(flags.group(1).split())
    if has and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"]


def lend(folder, socket, cache):
    """A process that lends FOLDER to who connects to SOCKET; its words lie in
    a file beside that."""
    program = next((p for p in VIRTIOFSD if os.path.exists(p)), None)
    if not program:
        die("there is no virtiofsd")
    log = open(socket + ".log", "wb")
    child = subprocess.Popen(
        [program, f"--socket-path={socket}", "-o",
         f"source={folder},cache={cache},sandbox=chroot", "-f"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    log.close()
    end = time.monotonic() + 10
    while not os.path.exists(socket):
        if child.poll() is not None or time.monotonic() > end:
            die("virtiofsd does not serve: "
                + read(log.name).decode("utf-8", "replace"))
        time.sleep(0.02)
    return child


def end_child(child):
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def systemd_words():
    return " vm.systemd systemd.show_status=0" + "".join(
        f" systemd.mask={unit}" for unit in MASKED)


def boot(command, systemd, limit, out):
    """Boots, runs COMMAND (shell), which finds the folder OUT as /run/vm/out,
    and copies the console to standard output. Its status; None: it said none
    within LIMIT seconds."""
    status = os.path.join(out, "status")
    children = []
    with tempfile.TemporaryDirectory(prefix="cardea-vm-") as folder:
        initial = os.path.join(folder, "initial")
        make_initial(initial, command)
        try:
            for name, path, cache in (("lent", "/", "always"),
                                      ("out", out, "none")):
                children.append(lend(path, os.path.join(folder, name), cache))
            words = ["qemu-system-x86_64", *accelerator(), "-smp", "2",
                     "-m", str(MEMORY_MB), "-object",
                     f"memory-backend-memfd,id=m,size={MEMORY_MB}M,share=on",
                     "-numa", "node,memdev=m", "-nodefaults", "-display",
                     "none", "-vga", "none", "-serial", "stdio", "-no-reboot",
                     "-kernel", glob.glob(f"{HERE}/boot/vmlinuz-*")[0],
                     "-initrd", initial, "-append",
                     "console=ttyS0 quiet panic=-1 net.ifnames=0"
                     + (systemd_words() if systemd else "")]
            for name in ("lent", "out"):
                words += ["-chardev", f"socket,id={name},path={folder}/{name}",
                          "-device",
                          f"vhost-user-fs-pci,chardev={name},tag={name}"]
            qemu = subprocess.Popen(words, stdin=subprocess.DEVNULL)
            children.insert(0, qemu)
            try:
                qemu.wait(limit)
            except subprocess.TimeoutExpired:
                print(f"vm: not done in {limit} s", flush=True)
        finally:
            for child in children:
                end_child(child)
    try:
        return int(read(status))
    except (OSError, ValueError):
        return None


def main_script(work, plain):
    """The shell script that is run in the machine around WORK."""
    begin = f"""
exec </dev/null
export PATH={shlex.quote(os.environ["PATH"])}:/usr/sbin:/sbin
export HOME=$(getent passwd 0 | cut -d: -f6) LANG=C.UTF-8
hostname vm 2>/dev/null
ip link set lo up 2>/dev/null || /run/vm/busybox ifconfig lo up
ulimit -n 524288
ulimit -c 0
mkdir -p /lib/modules
echo "vm: $(uname -r), process 1 is $(cat /proc/1/comm), up $(cut -d' ' -f1 /proc/uptime) s"
grep cgroup2 /proc/mounts
"""
    run = f"sh -c {shlex.quote(work)}"
    if plain:
        begin += f"""
cd /sys/fs/cgroup
echo '+memory +pids' >cgroup.subtree_control
mkdir plain && mkdir plain/tests
echo '+memory +pids' >plain/cgroup.subtree_control
for d in plain plain/tests; do
    chown {GUEST}:{GUEST} $d $d/cgroup.procs $d/cgroup.subtree_control $d/cgroup.threads
done
chown -R {GUEST}:{GUEST} {shlex.quote(ROOT)} 2>/dev/null
mkdir -m 777 /tmp/home
export HOME=/tmp/home
chmod a+x "$(getent passwd 0 | cut -d: -f6)"
echo 0 >plain/tests/cgroup.procs
"""
        run = (f"setpriv --reuid={GUEST} --regid={GUEST} --clear-groups "
               + run)
    return (begin + f"cd {shlex.quote(ROOT)}\n{run}\n"
            "echo $? >/run/vm/out/status\nsync\n"
            "echo o >/proc/sysrq-trigger\nsleep 60\n")


def find_pytest():
    """A Python that has pytest: the one in PATH may be another's."""
    for python in ("/usr/bin/python3", sys.executable):
        done = subprocess.run([python, "-c", "import pytest"], check=False,
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
        if done.returncode == 0:
            return os.path.realpath(python)
    return die("no Python here can import pytest")


def count(path):
    """(passed, failed, skipped) of a JUnit file, or None."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return None
    kinds = [{c.tag for c in case} for case in root.iter("testcase")]
    failed = sum(bool(k & {"failure", "error"}) for k in kinds)
    skipped = sum("skipped" in k for k in kinds)
    return len(kinds) - failed - skipped, failed, skipped


def run_tests(name, words, options):
    """One boot with pytest's WORDS. (passed, failed, skipped)"""
    settings = {"CARDEA_BUILD": os.path.abspath(options.build),
                "CARDEA_TEST_SLOW": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if options.systemd:
        settings["CARDEA_TEST_SYSTEMD"] = "1"
    work = shlex.join(
        ["env", *(f"{k}={v}" for k, v in settings.items()), find_pytest(),
         "-m", "pytest", "-q", "-ra", "--color=no", "-p", "no:cacheprovider",
         f"--junitxml=/run/vm/out/{name}.xml", *words])
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="out-", dir=HERE) as out:
        os.chmod(out, 0o1777)
        status = boot(main_script(work, options.plain), options.systemd,
                      options.limit, out)
        counts = count(f"{out}/{name}.xml")
        if counts:
            shutil.copy(f"{out}/{name}.xml", f"{HERE}/{name}.xml")
    if status is None or counts is None or sum(counts) == 0:
        print(f"FAILED {name}: no result (status {status})", flush=True)
        return 0, 1, 0
    print(f"{'FAILED' if counts[1] else 'ok'} {name}: {counts[0]} passed, "
          f"{counts[1]} failed, {counts[2]} skipped, "
          f"{time.monotonic() - started:.0f} s", flush=True)
    return counts


def arguments():
    parser = argparse.ArgumentParser(
        usage="vm.py [--plain | --systemd] [--build FOLDER] [--limit SECONDS]"
              " [--run COMMAND | WORD ...]")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--systemd", action="store_true")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--limit", type=int, default=3600)
    parser.add_argument("--run")
    return parser.parse_known_args()


def main():
    options, words = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if os.geteuid() != 0:
        die("only root may lend the files of this machine to another")
    if os.uname().machine != "x86_64" or not shutil.which("qemu-system-x86_64"):
        die("needs qemu-system-x86_64, and such a machine")
    fetch()
    if options.run:
        with tempfile.TemporaryDirectory(prefix="out-", dir=HERE) as out:
            status = boot(main_script(options.run, options.plain),
                          options.systemd, options.limit, out)
        return 1 if status is None else status
    if words:
        sums = [run_tests("tests", words, options)]
    else:
        sums = []
        for name, flags, files in PLAN:
            options.plain = "--plain" in flags
            options.systemd = "--systemd" in flags
            sums.append(run_tests(name, [f"tests/test_{f}.py" for f in files],
                                  options))
    passed, failed, skipped = (sum(s[i] for s in sums) for i in range(3))
    print(f"{passed} passed, {failed} failed"
          + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
