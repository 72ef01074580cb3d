"""What an application prints: each line that it writes to sys.stdout and
sys.stderr within a call begins with what tells the log the call's id, as lines
of wsgi.errors do. Whose copy it is, the log knows by the pipe."""

import io
import os

from cardea import _door


class Lines(io.RawIOBase):
    """The file of descriptor FD, with a tag before each line of a call."""

    def __init__(self, fd, name):
        super().__init__()
        self.fd = fd
        self.name = name
        self.mode = "wb"
        self.begins = True  # what comes next is the beginning of a line

    def writable(self):
        return True

    def fileno(self):
        return self.fd

    def write(self, data):
        data = bytes(data)
        tag = _door.tag()
        text = data
        if tag and data:
            whole = data.endswith(b"\n")
            lines = (data[:-1] if whole else data).split(b"\n")
            text = (b"" if not self.begins else tag) + \
                (b"\n" + tag).join(lines) + (b"\n" if whole else b"")
        self.begins = data.endswith(b"\n") if data else self.begins
        while text:
            text = text[os.write(self.fd, text):]
        return len(data)


def stream(old):
    """What takes the place of OLD, sys.stdout or sys.stderr: by lines, and with
    tags where Cardea reads them."""
    if not hasattr(old, "reconfigure"):
        return old  # somebody's own, or none
    old.reconfigure(line_buffering=True, errors="backslashreplace")
    if not os.environ.get("CARDEA_MODULE"):
        return old
    old.flush()
    raw = Lines(old.fileno(), old.name)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=old.encoding,
                            errors="backslashreplace", line_buffering=True)
