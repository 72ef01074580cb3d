"""python3 -m cardea [--start-timeout S] [--copies N] FILE:CALLABLE

Also what runs when this folder itself is given to an interpreter: then its
own package is used, unless the interpreter has one installed.
"""

import importlib.util
import os
import sys


def use_folder(folder):
    """Makes the package in FOLDER the one of that name. The folder above, which
    a confined program may not read, is not looked into."""
    for name in [n for n in sys.modules if n.split(".")[0] == "cardea"]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        "cardea", os.path.join(folder, "__init__.py"),
        submodule_search_locations=[folder])
    module = importlib.util.module_from_spec(spec)
    sys.modules["cardea"] = module
    spec.loader.exec_module(module)


if not __package__:
    # The folder of the package is no place to look for modules in: its files
    # would pass for others of the same name.
    _folder = sys.path.pop(0)
    try:
        import cardea._door  # noqa: F401
    except ImportError:
        use_folder(os.path.abspath(_folder))

# pylint: disable-next=wrong-import-position
from cardea.start import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
