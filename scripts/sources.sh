#!/bin/sh
# Prints the C files of the repository, one a line: what git tracks, and what is
# new in the source folders (a user's own program elsewhere is not ours).
set -eu
cd "$(dirname "$0")/.."
if git rev-parse --git-dir >/dev/null 2>&1; then
    {
        git ls-files -- '*.c' '*.h'
        git ls-files -o --exclude-standard -- include src shims examples \
            bench tests bindings | grep '\.[ch]$' || :
    } | sort -u |
        while read -r f; do
            [ ! -f "$f" ] || printf '%s\n' "$f"
        done
else
    find include src shims examples bench tests bindings -name '*.[ch]' | sort
fi
