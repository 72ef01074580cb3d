"""What the calls need that is not worth C: files, tracebacks, and what environ
always has."""

import io
import os
import stat
import traceback

from cardea import __version__, _door, life


class FileWrapper:
    """wsgi.file_wrapper: the server sends plain files itself, and reads
    others block by block."""

    def __init__(self, filelike, blksize=65536):
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self):
        return self

    def __next__(self):
        block = self.filelike.read(self.blksize)
        if block:
            return block
        raise StopIteration


def is_plain(file):
    """Are a read of FILE's bytes and one of its descriptor's the same? Not in
    something that only has a file below, such as gzip's."""
    if type(file) in (io.BufferedReader, io.BufferedRandom):
        file = file.raw
    return type(file) is io.FileIO


def place(wrapper):
    """(descriptor, offset, length) of the plain file in WRAPPER, or None."""
    file = wrapper.filelike
    if not is_plain(file):
        return None
    if file.writable():
        file.flush()
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        return None
    at = file.tell()
    return file.fileno(), at, max(found.st_size - at, 0)


def report(errors, exception):
    """Writes what EXCEPTION was to ERRORS, the wsgi.errors of the call."""
    if isinstance(exception, SystemExit):
        errors.write("the application left in a call, with "
                     f"{exception.code!r}\n")
        return
    traceback.print_exception(type(exception), exception,
                              exception.__traceback__, file=errors)


def template(copies):
    """What every environ begins with. COPIES: calls run in processes of their
    own, not in threads of one."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": not copies,
        "wsgi.multiprocess": copies,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "SERVER_SOFTWARE": f"Cardea/{__version__}",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }


def serve(application, copies):
    """Serves until the process is ended; a status on failure. COPIES: each
    call in a forked copy of this process, which has one thread; else each in
    a thread of it."""
    made = life.Life()
    return _door.serve(application, template(copies), FileWrapper, place,
                       report, made.before, made.start, made.end, copies)
