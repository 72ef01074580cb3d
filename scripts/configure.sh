#!/bin/sh
# Makes a Meson build folder, once.
#
#   scripts/configure.sh FOLDER [option ...]
#
# The options and the compiler from the environment (CC, CFLAGS, LDFLAGS) are
# remembered in the folder, and which optional libraries there are; when they
# differ from last time, it is made anew.
set -eu
folder=$1
shift
# A library that was installed since is found only when Meson looks again.
found=
for library in cmocka sqlite3 libcrypto openssl jansson python3 libseccomp; do
    if pkg-config --exists "$library" 2>/dev/null; then
        found="$found $library"
    fi
done
want="found:$found CC=${CC:-} CFLAGS=${CFLAGS:-} LDFLAGS=${LDFLAGS:-} $*"
stamp=$folder/cardea-options
if [ -f "$folder/build.ninja" ] && [ -f "$stamp" ] &&
    [ "$(cat "$stamp")" = "$want" ]; then
    exit 0
fi
wipe=
if [ -f "$folder/build.ninja" ]; then
    wipe=--wipe
fi
mkdir -p "$folder"
log=$(mktemp)
# shellcheck disable=SC2086
if ! meson setup $wipe "$folder" "$@" </dev/null >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
printf '%s\n' "$want" >"$stamp"
