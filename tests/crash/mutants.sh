#!/bin/sh
# Plant bugs that stores are known for, one by one, in a copy of the sources: the
# crash test must find every one of them. mutants.sh [STATES [HOW-MANY]]
set -eu
cd "$(dirname "$0")/../.."
states=${1:-40000} most=${2:-99}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0 planted=0

# plant NAME FILE SED-EXPRESSION [FILE SED-EXPRESSION]: with the second, where one
# defence stands behind another and both must fall
plant() {
    [ "$planted" -lt "$most" ] || return 0
    rm -rf "$work/tree"
    mkdir -p "$work/tree/servers"
    cp ./*.[ch] "$work/tree/"
    cp -r servers/*.h servers/crc32c.c servers/memory "$work/tree/servers/"
    sed -e "$3" "$2" > "$work/tree/$2"
    if cmp -s "$2" "$work/tree/$2"; then
        echo "mutants: cannot plant: $1 (has $2 changed?)"
        exit 1
    fi
    if [ $# = 5 ]; then
        sed -e "$5" "$4" > "$work/tree/$4"
        ! cmp -s "$4" "$work/tree/$4"
    fi
    planted=$((planted + 1))
    tests/crash/build.sh "$work/crash" "$work/tree" tests/crash/crash.c -w
    if found=$(timeout 120 "$work/crash" "$states"); then
        echo "mutants: NOT FOUND: $1"
        missed=$((missed + 1))
    elif [ $? = 124 ]; then
        echo "mutants: found: $1: it waits for ever"
    else
        echo "mutants: found: $1: $(echo "$found" | sed -n 's/^crash: VIOLATED in //p' | cut -c1-110)"
    fi
}

tests/crash/build.sh "$work/crash" . tests/crash/crash.c -w
"$work/crash" "$states" || exit 1

m=servers/memory
plant "answer before sync" $m/disk_work.c 's/if (fdatasync(w->log) < 0) {/if (0) {/'
plant "no payload checksum" $m/record.c 's/return r->payload_crc == .*/return (void)payload, r != 0;/'
plant "no directory sync after the rename" $m/disk_work.c 's/if (fsync(w->dir) < 0)/if (0)/'
plant "failed sync tried again" $m/disk_work.c 's/if (fdatasync(w->log) < 0) {/if (fdatasync(w->log) < 0 \&\& fdatasync(w->log) < 0) {/'
plant "rename before sync" $m/disk_work.c 's/if (fsync(w->tmp) < 0)/if (0)/'
plant "no watermark" $m/record.c 's/put_le(p + 32, s->watermark, 8)/put_le(p + 32, 0, 8)/'
plant "no directory sync at the start" $m/journal_open.c 's/r == 0 \&\& fsync(dir) < 0/0/'
plant "no last watermark on an idle log" $m/journal.c 's/append(j, RECORD_MARK, NULL) == 0/0/'
plant "no salt" $m/record.c 's/crc32c(crc32c(0, file_id, 16), p + 4/crc32c(((void)file_id, 0), p + 4/'
plant "no sync at the start" $m/journal_open.c 's/if (fdatasync(files->log) < 0)/if (0)/'
plant "tail not written again" $m/journal_open.c 's/if (rewrite(j, w) < 0)/if (0)/'
plant "tail not cut, and no chain" $m/journal_open.c 's/if (ftruncate(w->fd, (off_t)w->at) < 0)/if (0)/' $m/walk.c 's/ \&\& w->r.chain == w->chain//'
plant "half a batch not cut" $m/disk_work.c 's/if (ftruncate(w->log, (off_t)at) < 0)/if (0)/'
plant "cut of half a batch not synced" $m/disk_work.c 's/else if (fdatasync(w->log) < 0)/else if (0)/'
plant "compaction survives a failed batch" $m/journal.c 's/^    compact_end(j, why);$//'
plant "new log before what it shows is written" $m/journal_compact.c 's/if (j->seal.seq < c->last) return;//'
plant "numbers begin anew after compaction" $m/journal_compact.c 's/h.base = j->seq - living->n;/h.base = 0;/'
plant "other numbers for deletes of a refused batch" $m/journal.c 's/while (j->seq + 1 < seq \&\&/while (j->seq + 2 < seq \&\&/'
echo "planted bugs: $((planted - missed)) passed, $missed failed"
[ "$missed" = 0 ]
