#!/bin/sh
# Leaves in an installed libdoor.a only the names that programs may use: one
# object, in which what is hidden is local. Else a program with a ring_open() of
# its own could not be linked. Run by `meson install`.
#
#   scripts/hide-names.sh ARCHIVE
set -eu
archive=${DESTDIR:-}$1
object=$(mktemp)
trap 'rm -f "$object" "$archive.new"' EXIT
ld -r -o "$object" --whole-archive "$archive"
objcopy --localize-hidden "$object"
rm -f "$archive.new"
mkdir "$object.d"
mv "$object" "$object.d/door.o"
ar rcsD "$archive.new" "$object.d/door.o"
rm -r "$object.d"
chmod 644 "$archive.new"
mv "$archive.new" "$archive"
