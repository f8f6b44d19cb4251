/* The journal while it is open: batches, answers, watermark, close. */
#include "servers/memory/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers/memory/disk_work.h"
#include "servers/memory/journal_parts.h"

#define IDLE_MS 1000 /* without a batch, then the last watermark is written */

void journal_say_why(char why[120], const struct disk_answer *a)
{
    bool no_room = a->state == DISK_FAILED && disk_no_room(a->error); /* for the new log */
    if (a->state == DISK_FULL || no_room) snprintf(why, 120, "disk full");
    else snprintf(why, 120, "%s: %s", a->call, strerror(a->error));
}

/* All that is not written has failed. The numbers go back before anybody is told,
 * so that who is told may append. */
static void fail(struct journal *j, bool full, const char *why)
{
    const struct journal_events *to = &j->c.events;
    j->busy = false;
    j->fill = j->sent_len = 0;
    j->reserve = false;
    j->lost += j->seq > j->seal.seq;
    j->seq = j->seal.seq;
    if (j->data > j->seq) j->data = j->seq;
    if (j->sync_to > j->seq) j->sync_to = j->seq;
    compact_end(j, why);
    if (to->failed) to->failed(to->user, j->seq + 1, full, why);
}

void journal_stop(struct journal *j, const char *why)
{
    if (j->why[0]) return;
    snprintf(j->why, sizeof j->why, "%s", why);
    fail(j, false, j->why);
}

void journal_order(struct journal *j, const struct disk_order *o)
{
    if (disk_order(j->disk, o) < 0) journal_stop(j, "the disk helper has ended");
}

void journal_is_durable(struct journal *j)
{
    const struct journal_events *to = &j->c.events;
    j->seal.watermark = j->seal.seq;
    j->sync_at = INT64_MAX;
    if (to->durable) to->durable(to->user, j->seal.seq);
}

static void written(struct journal *j)
{
    const struct journal_events *to = &j->c.events;
    j->marked = j->sent.watermark;
    j->seal = j->sent;
    j->end += j->sent_len;
    j->sent_len = 0;
    j->full = false;
    if (j->c.sync_ms > 0 && j->sync_at == INT64_MAX) j->sync_at = j->now + j->c.sync_ms * 3 / 4;
    if (to->written) to->written(to->user, j->seal.seq);
}

static void log_answer(struct journal *j, const struct disk_answer *a)
{
    j->busy = false;
    if (a->sync_ms >= 0) j->last_sync_ms = a->sync_ms;
    if (a->state == DISK_DONE) {
        if (a->kind == DISK_WRITE) written(j);
        if (a->sync_ms >= 0) journal_is_durable(j);
        return;
    }
    char why[120];
    journal_say_why(why, a);
    j->full = a->state == DISK_FULL;
    if (j->full) fail(j, true, why);
    else journal_stop(j, why);
}

bool journal_take(struct journal *j, bool wait)
{
    struct disk_answer a;
    int r = 0;
    bool any = false;
    while (!j->why[0] && (r = disk_answer(j->disk, wait && !any, &a)) == 1) {
        any = true;
        if (a.kind == DISK_WRITE || a.kind == DISK_SYNC) log_answer(j, &a);
        else compact_answer(j, &a);
    }
    if (r < 0) journal_stop(j, "the disk helper has ended");
    return any;
}

void journal_ready(struct journal *j, int64_t now)
{
    j->now = now;
    journal_take(j, false);
}

static bool fits(const struct memory *m)
{
    return m->text.len <= RECORD_MAX_PAYLOAD / 2 && m->metadata.len <= UINT16_MAX &&
           m->tags.len <= UINT16_MAX;
}

static int append(struct journal *j, enum record_type type, const struct memory *m)
{
    if (j->why[0]) return JOURNAL_STOPPED;
    if (type == RECORD_PUT && (!m || !fits(m))) return JOURNAL_MISUSE;
    size_t n = record_bytes(type, j->c.dimension, m);
    if (j->fill + n > DISK_AREA_BYTES) return JOURNAL_BUSY;
    record_put(disk_area(j->disk, j->area) + j->fill, type, j->c.dimension, m);
    j->fill += n;
    j->seq++;
    j->closed = type == RECORD_CLOSE;
    j->mark_at = INT64_MAX;
    return 0;
}

int journal_append(struct journal *j, enum memory_change kind, const struct memory *m,
                   uint64_t *seq)
{
    int r = append(j, (enum record_type)kind, m);
    if (r < 0) return r;
    if (kind != MEMORY_DELETE) j->reserve = true;
    j->data = *seq = j->seq;
    return 0;
}

int journal_pad(struct journal *j, uint64_t seq)
{
    int r = 0;
    while (j->seq + 1 < seq && r == 0) r = append(j, RECORD_MARK, NULL);
    return r;
}

bool journal_room(const struct journal *j, size_t bytes)
{
    return bytes <= DISK_AREA_BYTES - j->fill;
}

void journal_sync(struct journal *j)
{
    j->sync_to = j->seq;
}

/* The headers are finished only now, so that the watermark is the newest one. What
 * comes after a failed batch would hang on a chain that is not there. */
static void send_batch(struct journal *j, bool sync)
{
    uint8_t *p = disk_area(j->disk, j->area);
    j->sent = j->seal;
    for (size_t at = 0; at < j->fill;) at += record_seal(p + at, &j->sent);
    j->sent_len = j->fill;
    j->busy = true;
    struct disk_order o = { .kind = DISK_WRITE, .area = j->area, .len = j->fill, .at = j->end,
                            .sync = sync, .reserve = j->reserve };
    j->area = j->area == DISK_BATCH_A ? DISK_BATCH_B : DISK_BATCH_A;
    j->fill = 0;
    j->reserve = false;
    journal_order(j, &o);
}

/* The last batch that was acknowledged has no later record to say so: damage to it
 * would pass for a torn tail. */
static void mark_when_idle(struct journal *j)
{
    bool due = j->c.sync_ms >= 0 && !j->fill && j->data > j->marked &&
               j->data <= j->seal.watermark;
    if (!due) j->mark_at = INT64_MAX;
    else if (j->mark_at == INT64_MAX) j->mark_at = j->now + IDLE_MS;
    if (j->now >= j->mark_at && append(j, RECORD_MARK, NULL) == 0) journal_sync(j);
}

static bool wants_sync(const struct journal *j)
{
    return j->sync_to > j->seal.watermark;
}

void journal_flush(struct journal *j, int64_t now)
{
    j->now = now;
    if (j->why[0] || j->busy || j->compact.stage == COMPACT_SWAP) return;
    mark_when_idle(j);
    bool sync = wants_sync(j) || now >= j->sync_at;
    if (j->fill) {
        send_batch(j, sync || j->c.sync_ms == JOURNAL_SYNC_ALWAYS);
    } else if (sync) {
        j->busy = true;
        journal_order(j, &(struct disk_order){ .kind = DISK_SYNC });
    }
    if (disk_fd(j->disk) < 0) journal_take(j, false);
}

int64_t journal_due(const struct journal *j)
{
    if (j->why[0] || j->busy || j->compact.stage == COMPACT_SWAP) return INT64_MAX;
    if (j->fill || wants_sync(j)) return 0;
    return j->sync_at < j->mark_at ? j->sync_at : j->mark_at;
}

int journal_fd(const struct journal *j)
{
    return disk_fd(j->disk);
}

int journal_wait(struct journal *j, int64_t now)
{
    uint64_t lost = j->lost;
    j->now = now;
    for (;;) {
        journal_compact_step(j, now);
        journal_flush(j, now);
        if (j->why[0]) return JOURNAL_STOPPED;
        if (!j->busy && !j->fill && !wants_sync(j) && j->compact.stage != COMPACT_SWAP)
            return j->lost == lost ? 0 : JOURNAL_FULL;
        journal_take(j, true);
    }
}

const char *journal_why(const struct journal *j) { return j->why[0] ? j->why : "disk full"; }

int journal_close(struct journal *j, int64_t now, struct fault *f)
{
    if (j->compact.stage != COMPACT_SWAP) compact_end(j, "stopped");
    journal_sync(j);
    journal_wait(j, now);
    if (!j->closed && append(j, RECORD_CLOSE, NULL) == 0) {
        journal_sync(j);
        journal_wait(j, now);
    }
    int r = j->why[0] ? fault_set(f, 74, "Storage failed: %s", j->why) : 0;
    if (disk_stop(j->disk) < 0 && r == 0) r = fault_set(f, 74, "The disk helper ended badly");
    free(j);
    return r;
}

struct journal_state journal_state(const struct journal *j)
{
    return (struct journal_state){ .bytes = j->end, .seq = j->seq, .written = j->seal.seq,
                                   .durable = j->seal.watermark, .last_sync_ms = j->last_sync_ms,
                                   .full = j->full, .why = j->why[0] ? j->why : NULL,
                                   .orphans = j->orphans };
}
