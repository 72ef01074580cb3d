#!/bin/sh
# Prints the C files of the repository, one a line: what git tracks or would
# track; without git, what lies in the source folders.
set -eu
cd "$(dirname "$0")/.."
if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files -co --exclude-standard -- '*.c' '*.h' | sort -u |
        while read -r f; do
            [ ! -f "$f" ] || printf '%s\n' "$f"
        done
else
    find include src shims examples bench tests -name '*.[ch]' | sort
fi
