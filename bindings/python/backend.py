"""Builds the package for pip (PEP 517), with a C compiler and Python's headers
and nothing else: so it works where there is no network and no setuptools.

Within the repository libdoor is compiled in; elsewhere pkg-config has to find
an installed one.
"""

import base64
import glob
import hashlib
import os
import shlex
import subprocess
import sysconfig
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
VERSION = "0.1.0"
INFO = f"cardea-{VERSION}.dist-info"
METADATA = f"""Metadata-Version: 2.1
Name: cardea
Version: {VERSION}
Summary: Serve WSGI applications with Cardea
License: ISC
Requires-Python: >=3.9
"""
FLAGS = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread",
         "-fvisibility=hidden", "-fno-common", "-D_GNU_SOURCE",
         "-DPy_LIMITED_API=0x03090000", "-Wl,-z,relro,-z,now"]


def machine():
    """The tag of this kind of machine: "linux_x86_64"."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def tag():
    return f"cp39-abi3-{machine()}"


def libdoor():
    """Arguments for the compiler that bring libdoor and cardea.h."""
    door = os.path.join(ROOT, "src", "door")
    if os.path.isdir(door):
        sources = [p for p in glob.glob(os.path.join(door, "*.c"))
                   if not os.path.basename(p).startswith(
                       ("test-", "fuzz-", "interpose"))]
        return ["-I" + os.path.join(ROOT, "include"),
                "-I" + os.path.join(ROOT, "src"),
                os.path.join(ROOT, "src", "app", "cardea.c"),
                *sorted(sources)]
    done = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "door"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
    return shlex.split(done.stdout.decode())


def compile_extension(path):
    """Makes cardea/_door.abi3.so as PATH."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run(
        [*compiler, *FLAGS, *shlex.split(os.environ.get("CFLAGS", "")),
         "-I" + sysconfig.get_path("include"), "-I" + HERE,
         "-Wl,--version-script=" + os.path.join(HERE, "door.map"),
         *sorted(glob.glob(os.path.join(HERE, "*.c"))), *libdoor(),
         "-o", path],
        stdin=subprocess.DEVNULL, check=True)


class Wheel:
    """A wheel that is written: each file, and the list of them."""

    def __init__(self, path):
        self.zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self.records = []

    def add(self, name, content, mode=0o644):
        info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
        info.external_attr = (0o100000 | mode) << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        self.zip.writestr(info, content)
        digest = base64.urlsafe_b64encode(
            hashlib.sha256(content).digest()).rstrip(b"=").decode()
        self.records.append(f"{name},sha256={digest},{len(content)}")

    def close(self):
        record = f"{INFO}/RECORD"
        self.records.append(f"{record},,")
        self.zip.writestr(record, "\n".join(self.records) + "\n")
        self.zip.close()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def build_wheel(wheel_directory, config_settings=None,
                metadata_directory=None):
    """PEP 517. The name of the wheel."""
    name = f"cardea-{VERSION}-{tag()}.whl"
    with tempfile.TemporaryDirectory() as folder:
        extension = os.path.join(folder, "_door.abi3.so")
        compile_extension(extension)
        wheel = Wheel(os.path.join(wheel_directory, name))
        wheel.add("cardea/_door.abi3.so", read(extension), 0o755)
    for path in sorted(glob.glob(os.path.join(HERE, "cardea", "*.py"))):
        wheel.add("cardea/" + os.path.basename(path), read(path))
    wheel.add(f"{INFO}/METADATA", METADATA.encode())
    wheel.add(f"{INFO}/WHEEL", ("Wheel-Version: 1.0\nGenerator: cardea\n"
                                "Root-Is-Purelib: false\n"
                                f"Tag: {tag()}\n").encode())
    wheel.close()
    return name


def build_sdist(sdist_directory, config_settings=None):
    """PEP 517. There is none: the package is built from the repository."""
    raise NotImplementedError("build from the repository of Cardea")
