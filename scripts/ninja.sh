#!/bin/sh
# ninja, without a word where there is nothing to say: --quiet still tells that
# there was no work to do. Warnings and errors come through, and its status is
# this one's.
set -eu

if [ -t 1 ]; then
    export CLICOLOR_FORCE=1 # it asks the pipe below, not the terminal
fi
exec 3>&1
status=$({
    { ninja --quiet "$@" && echo 0 >&4 || echo $? >&4; } |
        sed '/^ninja: no work to do\.$/d' >&3
} 4>&1)
exit "$status"
