#!/bin/sh
# Every C file is as clang-format makes it (`make format` mends it).
cd "$(dirname "$0")/.." || exit 1
if ! command -v clang-format >/dev/null 2>&1; then
    printf '1..1\nok 1 - formatted # SKIP no clang-format here\n'
    exit 0
fi
# Other versions break lines elsewhere: only this one is the judge.
if ! clang-format --version | grep -q 'version 14\.'; then
    printf '1..1\nok 1 - formatted # SKIP wants clang-format 14\n'
    exit 0
fi
n=0
bad=0
for f in $(scripts/sources.sh); do
    n=$((n + 1))
    if out=$(clang-format --dry-run -Werror "$f" 2>&1); then
        echo "ok $n - $f"
    else
        bad=1
        echo "not ok $n - $f"
        printf '%s\n' "$out" | grep -E 'error:|warning:' | sed 's/^/# /' |
            head -n 5
    fi
done
echo "1..$n"
[ "$n" -gt 0 ] && [ "$bad" -eq 0 ]
