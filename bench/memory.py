"""What processes and the kernel hold: reading, no judging.

User memory is the proportional share (PSS): a page that three processes map
counts a third in each, so the sum over a server's processes is what it holds.
The kernel's memory cannot be told apart by process; it is the whole machine's,
and only a difference between two moments means something.
"""

import contextlib
import os
import re
import time

import servers

PARTS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")
KERNEL = ("Slab", "PageTables", "KernelStack", "VmallocUsed", "Percpu")


class Unreadable(Exception):
    """A process's memory map is not ours to read."""


def pss(pid):
    """PSS of a process in kB: all, and anonymous, file and shared memory."""
    text = servers.read_text(f"/proc/{pid}/smaps_rollup")
    if not text:
        raise Unreadable(f"the memory map of process {pid} cannot be read: "
                         "this needs root")
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
    return {part: int(found.get(part, 0)) for part in PARTS}


def add(parts):
    """The sum of several such results."""
    parts = list(parts)
    return {name: sum(one[name] for one in parts) for name in PARTS}


def by_file(pids):
    """PSS in kB of the pages of files, by the file's name, largest first."""
    found = {}
    for pid in pids:
        name = None
        for line in servers.read_text(f"/proc/{pid}/smaps").splitlines():
            head = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)", line)
            if head:
                path = head.group(1)
                name = os.path.basename(path) if path.startswith("/") and \
                    not path.startswith("/memfd:") else None
            elif name and line.startswith("Pss:"):
                found[name] = found.get(name, 0) + int(line.split()[1])
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def private(pids):
    """Bytes that these processes hold beside the pages of files."""
    whole = add(pss(pid) for pid in pids)
    return 1024 * (whole["Pss_Anon"] + whole["Pss_Shmem"])


def settled(read, limit=8.0, pause=0.5):
    """Reads until three readings in a row are the same, or time is over."""
    end = time.monotonic() + limit
    last = [read()]
    while time.monotonic() < end:
        time.sleep(pause)
        last.append(read())
        if len(last) > 2 and last[-1] == last[-2] == last[-3]:
            break
    return last[-1]


def kernel():
    """Bytes of kernel memory of the whole machine."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB",
                            servers.read_text("/proc/meminfo"), re.MULTILINE))
    return 1024 * sum(int(found.get(name, 0)) for name in KERNEL)


def slabs():
    """Bytes of active objects by slab cache; {} if we may not look."""
    found = {}
    for line in servers.read_text("/proc/slabinfo").splitlines()[2:]:
        words = line.split()
        found[words[0]] = int(words[1]) * int(words[3])
    return found


def descriptors(pids):
    """How many descriptors these processes hold.  Linux 6.2 and newer say so
    in the folder's size; listing the folder, as for an older one, makes an
    inode of each, two kilobytes of kernel memory that would be measured."""
    count = 0
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            count += os.stat(folder).st_size or len(os.listdir(folder))
        except OSError:
            raise Unreadable(f"the descriptors of process {pid} cannot be "
                             "read: this needs root") from None
    return count


def sockets(pids):
    """How many sockets these processes hold."""
    count = 0
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            names = os.listdir(folder)
        except OSError:
            raise Unreadable(f"the descriptors of process {pid} cannot be "
                             "read: this needs root") from None
        for name in names:
            with contextlib.suppress(OSError):
                count += os.readlink(f"{folder}/{name}").startswith("socket:")
    return count
