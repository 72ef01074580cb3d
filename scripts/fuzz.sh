#!/bin/sh
# Runs each fuzzer for SECONDS (60) on a copy of its corpus.
#
#   scripts/fuzz.sh [SECONDS] [NAME ...]          NAME: http for fuzz-http
#
# The seeds of fuzz-NAME are tests/corpus/NAME. What is learned stays in
# build-fuzz/corpus/NAME, what fails in build-fuzz/findings. Ends with 1 if
# anything failed, or if there was no fuzzer to run.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
CC=${CC:-clang}
export CC
scripts/configure.sh build-fuzz -Dfuzz=true -Dtests=disabled \
    -Db_sanitize=address,undefined -Db_lundef=false
targets=$(ninja -C build-fuzz -t targets all |
    sed -n 's|^\([^:]*/fuzz-[a-z0-9-]*\): .*|\1|p')
# shellcheck disable=SC2086
[ -z "$targets" ] || ninja -C build-fuzz --quiet $targets
mkdir -p build-fuzz/findings
n=0
failed=0
for program in $(find build-fuzz -type f -name 'fuzz-*' -perm -u+x | sort); do
    name=$(basename "$program")
    name=${name#fuzz-}
    case " $* " in
    "  " | *" $name "*) ;;
    *) continue ;;
    esac
    corpus=build-fuzz/corpus/$name
    mkdir -p "$corpus"
    seeds=tests/corpus/$name
    [ ! -d "$seeds" ] || cp -R "$seeds"/. "$corpus"/
    echo "fuzz-$name: $seconds s from $(find "$corpus" -type f | wc -l) inputs"
    n=$((n + 1))
    log=build-fuzz/fuzz-$name.log
    if UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="build-fuzz/findings/$name-" \
        "$corpus" </dev/null >"$log" 2>&1; then
        grep -E 'number_of_executed_units|new_units_added' "$log" || true
    else
        failed=$((failed + 1))
        cat "$log"
    fi
done
if [ "$n" -eq 0 ]; then
    echo 'no fuzzer was built' >&2
    exit 1
fi
echo "$((n - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
