"""Applications in Python, as the scenarios write them."""

import os

import pytest

from lib.server import until


def write_apps(folder, apps):
    for name, text in apps.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def need_extension(build):
    """Skips the test where the build found no headers of Python."""
    if not os.path.exists(os.path.join(build, "bindings/python/cardea",
                                       "_door.abi3.so")):
        pytest.skip("built without the headers of Python")


def loaded(server, *targets):
    """SERVER, when what answers TARGETS has been imported: cardea is ready
    earlier on a slow machine."""
    for target in targets:
        until(lambda t=target: server.request(t).status != 503, 60,
              f"the import of what answers {target}")
    return server
