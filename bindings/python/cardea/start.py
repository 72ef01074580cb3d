"""The start: loads the application once, in a process of one thread, looks
whether copies of it can be made, and serves."""

import argparse
import faulthandler
import gc
import importlib
import importlib.util
import os
import signal
import sys
import time
import traceback

from cardea import printed, wsgi

USAGE = 64
FAILED = 1


def say(text):
    """One line on standard error, in one write."""
    os.write(2, f"cardea: {text}\n".encode("utf-8", "backslashreplace"))


class Unusable(Exception):
    """There is no application; the text says why."""


def split(target):
    """("/folder/app.py" or "package.module", "callable")"""
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise Unusable(f"{target}: wants FILE:CALLABLE, as in "
                       "app.py:application")
    return where, name


def module_name(path):
    """(folder to import from, dotted name) of the file at PATH: within a
    package the name has the package's too."""
    folder, file = os.path.split(os.path.abspath(path))
    names = [os.path.splitext(file)[0]]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        names.insert(0, package)
    return folder, ".".join(names)


def import_file(path):
    """The module in the file at PATH."""
    if not os.path.isfile(path):
        raise Unusable(f"{path}: no such file")
    folder, name = module_name(path)
    sys.path.insert(0, folder)
    if all(part.isidentifier() for part in name.split(".")):
        found = importlib.util.find_spec(name)
        # The origin may be no path: "frozen", "built-in".
        if found and found.has_location and \
                os.path.samefile(found.origin, path):
            return importlib.import_module(name)
        if name in sys.modules:  # as one of the standard library
            name = f"cardea_app_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise Unusable(f"{path}: no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load(target):
    """The application that FILE:CALLABLE names."""
    where, name = split(target)
    if os.sep in where or where.endswith(".py"):
        module = import_file(where)
    else:
        sys.path.insert(0, os.getcwd())
        module = importlib.import_module(where)
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise Unusable(f"{where}: has no {name}")
        found = getattr(found, part)
    if not callable(found):
        raise Unusable(f"{where}: {name} cannot be called")
    return found


def prepare():
    """What an application may expect of its process."""
    # A compiled file is told from a newer source by the second and the size:
    # one that is written twice in a second would be served as it was before.
    sys.dont_write_bytecode = True
    while True:
        null = os.open(os.devnull, os.O_RDWR)
        if null > 2:
            os.close(null)
            break
        os.set_inheritable(null, True)
    # What it prints is in the log at once, and never twice after a fork.
    sys.stdout = printed.stream(sys.stdout)
    sys.stderr = printed.stream(sys.stderr)


def threads():
    """How many threads this process has. One that has just been waited for may
    still be on its way out, as the watchdog's: it gets a second."""
    end = time.monotonic() + 1
    while True:
        there = len(os.listdir("/proc/self/task"))
        if there == 1 or time.monotonic() > end:
            return there
        time.sleep(0.001)


def age():
    """Seconds since this process was made."""
    with open("/proc/self/stat", encoding="latin-1") as f:
        ticks = int(f.read().rpartition(")")[2].split()[19])
    return (time.clock_gettime(time.CLOCK_BOOTTIME)
            - ticks / os.sysconf("SC_CLK_TCK"))


def load_in_time(target, limit):
    """The application, loaded within LIMIT seconds: else the process ends, and
    the log says where it hung. A keeper ends it itself, and counts from an
    earlier moment: then the log has to have it before."""
    if limit and os.environ.get("CARDEA_MODULE"):
        faulthandler.dump_traceback_later(max(limit * 0.8 - age(), 0.001))
    elif limit:
        faulthandler.dump_traceback_later(limit, exit=True)
    try:
        return load(target)
    finally:
        if limit:
            faulthandler.cancel_dump_traceback_later()


def arguments(words):
    parser = argparse.ArgumentParser(
        prog="python3 -m cardea",
        description="Serves a WSGI application behind a door of Cardea.")
    parser.add_argument("--start-timeout", type=float, metavar="SECONDS")
    parser.add_argument("--copies", type=int, metavar="N")
    parser.add_argument("target", metavar="FILE:CALLABLE")
    return parser.parse_args(words)


def main(words):
    """The exit status; else it serves until it is ended."""
    options = arguments(words)
    sys.argv = [options.target]
    prepare()
    try:
        application = load_in_time(options.target, options.start_timeout)
    except Unusable as e:
        say(e)
        return USAGE
    except SystemExit as e:
        say(f"{options.target}: left with {e.code!r} when it was loaded")
        return FAILED
    except BaseException:  # whatever it was, the log has it
        traceback.print_exc()
        say(f"{options.target}: cannot be loaded")
        return FAILED
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.collect()
    gc.freeze()  # so that collecting does not touch what copies share
    there = threads()
    if there > 1:
        say(f"{options.target}: started {there - 1} threads when it was loaded, "
            "so no copies of it can be made: it is served by threads, one call "
            "in each")
    for name, value in (("CARDEA_COPIES", options.copies),
                        ("CARDEA_START_TIMEOUT", options.start_timeout)):
        if value is not None:
            os.environ[name] = str(value)
    return wsgi.serve(application, there == 1)
