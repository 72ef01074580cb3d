"""python3 -m cardea [--start-timeout S] [--copies N] FILE:CALLABLE

Also what runs when this folder itself is given to an interpreter: then its
own package is used, unless the interpreter has one installed.
"""

import os
import sys

if not __package__:
    # The folder of the package is no place to look for modules in: its files
    # would pass for others of the same name.
    _folder = sys.path.pop(0)
    try:
        import cardea._door  # noqa: F401
    except ImportError:
        for _name in [n for n in sys.modules if n.split(".")[0] == "cardea"]:
            del sys.modules[_name]
        sys.path.append(os.path.dirname(os.path.abspath(_folder)))

# pylint: disable-next=wrong-import-position
from cardea.start import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
