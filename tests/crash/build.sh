#!/bin/sh
# Build a program of tests/crash or tests/faults on the seam.
# build.sh OUT SOURCE-TREE MAIN.c [compiler flags]
set -eu
out=$1 tree=$2 main=$3
shift 3
here=$(dirname "$0")
wrap=
for f in $(cat "$here/seam.txt"); do wrap="$wrap -Wl,--wrap=$f"; done
m=$tree/servers/memory
# shellcheck disable=SC2086
${CC:-cc} -std=c11 -D_GNU_SOURCE ${CFLAGS:--O2 -g} -Wall -Wextra "$@" -I"$tree" $wrap -o "$out" "$main" \
    "$here/life.c" "$here/modelfs.c" "$m/journal.c" "$m/journal_open.c" "$m/journal_compact.c" \
    "$m/journal_tools.c" "$m/walk.c" "$m/record.c" "$m/disk.c" "$m/disk_work.c" "$tree/servers/crc32c.c" \
    "$tree/json.c" "$tree/number.c" "$tree/utf8.c" "$tree/base64.c"
