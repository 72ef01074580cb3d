#!/bin/sh
# Runs the fuzzers, one on each CPU, on copies of their corpora.
#
#   scripts/fuzz.sh [SECONDS] [NAME ...]   each for SECONDS (60); NAME: conf
#                                          for fuzz-conf
#   scripts/fuzz.sh --ci                   a minute for each family of parsers
#
# The seeds of fuzz-NAME are tests/corpus/NAME. What is learned stays in
# build-fuzz/corpus/NAME, what fails in build-fuzz/findings. Prints TAP: a
# fuzzer passes if it found nothing, and executed something. A finding is
# printed with the input that made it, as base64. Ends with 1 if anything
# failed, or if there was no fuzzer to run.
set -eu
cd "$(dirname "$0")/.."

# Families share their minute: program, its seconds, further options. What has
# no line here gets 10 s. Small inputs reach all that doors read.
table() {
    cat <<'END'
http-request  20 -max_len=4096
http-response 10 -max_len=4096
http-chunk    10 -max_len=1024
http-fields   10 -max_len=1024
http-path     10 -max_len=1024
http-trace    10 -max_len=128
conf          60 -max_len=4096
http-cgi      30 -max_len=4096
cgi           30 -max_len=1024
fcgi          10 -max_len=1024
hop           10 -max_len=4096
door-hello    30 -max_len=192 -detect_leaks=0
door-welcome  30 -max_len=768
door-ring     30 -max_len=768
door-reply    30 -max_len=768
lines         10 -max_len=8192
control       10 -max_len=256
fields        10 -max_len=4200
loop-heap     30 -max_len=768 -len_control=0
END
}

# The line of $1 in the table without its name.
entry() {
    table | awk -v name="$1" '$1 == name {
        sub(/^[^ ]+ +/, ""); print; found = 1 }
        END { if (!found) print "10" }'
}

# One fuzzer: name, seconds (0: the table's). Prints one line of TAP, which is
# complete when it appears: several run at once.
if [ "${1:-}" = --one ]; then
    name=$2
    program=$(find build-fuzz -type f -name "fuzz-$name" -perm -u+x | head -n 1)
    # shellcheck disable=SC2046
    set -- "$3" $(entry "$name")
    seconds=$1
    [ "$seconds" != 0 ] || seconds=$2
    shift 2
    corpus=build-fuzz/corpus/$name
    mkdir -p "$corpus"
    [ ! -d "tests/corpus/$name" ] || cp -R "tests/corpus/$name"/. "$corpus"/
    log=build-fuzz/fuzz-$name.log
    status=0
    # The quarantine holds what was freed; a small one keeps the caches warm.
    ASAN_OPTIONS=quarantine_size_mb=16 \
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="build-fuzz/findings/$name-" \
        "$@" "$corpus" </dev/null >"$log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    what="fuzz-$name: ${runs:-0} executions in $seconds s"
    if [ "$status" -eq 0 ] && [ "${runs:-0}" -gt 0 ]; then
        echo "ok - $what"
        exit 0
    fi
    {
        echo "not ok - $what (status $status)"
        # The stack, and the input as base64, without the rest.
        grep -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|pulse)|NEW_FUNC|# Uses' \
            "$log" | tail -n 80 | sed 's/^/# /'
    } | cat
    exit 1
fi

seconds=${1:-60}
[ $# -eq 0 ] || shift
[ "$seconds" != --ci ] || seconds=0
CC=${FUZZ_CC:-clang}
export CC
scripts/configure.sh build-fuzz -Dfuzz=true -Dtests=disabled \
    -Db_sanitize=address,undefined -Db_lundef=false
targets=$(ninja -C build-fuzz -t targets all |
    sed -n 's|^\([^:]*/fuzz-[a-z0-9-]*\): .*|\1|p')
# shellcheck disable=SC2086
[ -z "$targets" ] || ninja -C build-fuzz --quiet $targets
mkdir -p build-fuzz/findings
names=
for target in $targets; do
    name=${target##*/fuzz-}
    case " $* " in
    "  " | *" $name "*) names="$names $name" ;;
    esac
done
# shellcheck disable=SC2086
set -- $names
if [ $# -eq 0 ]; then
    echo 'no fuzzer was built, or none has that name' >&2
    exit 1
fi
echo "1..$#"
# The longest first, so that no CPU is idle at the end.
for name; do
    # shellcheck disable=SC2046
    set -- $(entry "$name")
    echo "$1 $name"
done | sort -rn | cut -d' ' -f2 |
    xargs -P "$(nproc)" -I NAME scripts/fuzz.sh --one NAME "$seconds" ||
    exit 1
