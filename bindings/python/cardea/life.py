"""The life of a copy: what runs before it is made, in it before its first call,
and after its last one; and a look at what it must not share."""

import os
import sys
import traceback

import cardea


def sockets():
    """{what /proc calls it: descriptor} of the sockets that are open here."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own
            continue
        if what.startswith("socket:") and int(name) > 2:
            found[what] = int(name)
    return found


class Life:
    """The copies of one parent."""

    def __init__(self):
        self.copies = 0
        # Before there is a door: all of these are the application's.
        self.sockets = sockets()

    def before(self):
        """In the parent, before each copy. What a hook raises is logged."""
        self.copies += 1
        for hook in cardea._before_fork:
            try:
                hook()
            except Exception:
                traceback.print_exc()
        # Else a copy would write once more what waits here.
        sys.stdout.flush()
        sys.stderr.flush()

    def start(self):
        """In a copy, before its first call. What a hook raises ends it."""
        for hook in cardea._after_fork:
            hook()
        if self.sockets and self.copies == 1:
            self.tell_shared()

    def tell_shared(self):
        """Says which sockets copies share: two that talk on one connection get
        each other's answers. The first copy speaks for all."""
        for what, fd in sockets().items():
            if what in self.sockets:
                os.write(2, b"cardea: copies of the application share the "
                            b"socket on descriptor %d, which was opened when "
                            b"it was loaded: open it in a function that "
                            b"@cardea.after_fork marks\n" % fd)

    def end(self):
        """In a copy, after its last call. What a hook raises is logged."""
        for hook in cardea._retire:
            try:
                hook()
            except Exception:
                traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
