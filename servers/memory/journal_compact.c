/* Compaction: a new log beside the old one, in slices. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "servers/memory/journal_parts.h"

#define SLICE_BYTES   ((size_t)256 << 10)
#define TAIL_BYTES    ((uint64_t)1 << 20) /* less than this is copied while batches wait */
#define TAIL_COPIES   64                  /* then it is, however much it is */
#define GARBAGE_BYTES ((uint64_t)1 << 20)
#define AGAIN_MS      60000

static void order(struct journal *j, const struct disk_order *o)
{
    j->compact.waiting = true;
    journal_order(j, o);
}

static void ended(struct journal *j, const char *why)
{
    struct compact *c = &j->compact;
    const struct journal_events *to = &j->c.events;
    c->failed = why != NULL;
    c->ended = j->now;
    if (why && why != c->why) snprintf(c->why, sizeof c->why, "%s", why);
    if (to->compacted) to->compacted(to->user, why ? c->why : NULL);
}

/* The rows that were handed over may hold what has just failed, so the new log is
 * of no use then, either. */
void compact_end(struct journal *j, const char *why)
{
    struct compact *c = &j->compact;
    if (!journal_compacting(j)) return;
    c->stage = j->why[0] ? COMPACT_OFF : COMPACT_DROP;
    if (!j->why[0]) order(j, &(struct disk_order){ .kind = DISK_DROP });
    ended(j, why);
}

int journal_compact_begin(struct journal *j, const struct journal_living *living)
{
    struct compact *c = &j->compact;
    struct journal_head h = { .major = 1, .dimension = j->c.dimension };
    if (j->why[0] || c->stage != COMPACT_OFF || living->n > j->seq) return -1;
    if (getrandom(h.file_id, sizeof h.file_id, 0) != (ssize_t)sizeof h.file_id) return -1;
    memcpy(h.fingerprint, j->head.fingerprint, sizeof h.fingerprint);
    h.base = j->seq - living->n;
    *c = (struct compact){ .stage = COMPACT_STREAM, .living = *living,
                           .from = j->end + j->sent_len + j->fill };
    c->seal = (struct record_seal){ .seq = h.base, .watermark = j->seal.watermark };
    memcpy(c->seal.file_id, h.file_id, sizeof h.file_id);
    head_put(disk_area(j->disk, DISK_COMPACT), &h);
    c->fill = c->sent = JOURNAL_HEAD_BYTES;
    order(j, &(struct disk_order){ .kind = DISK_NEW, .area = DISK_COMPACT, .len = c->sent });
    return 0;
}

bool journal_compacting(const struct journal *j)
{
    return j->compact.stage != COMPACT_OFF && j->compact.stage != COMPACT_DROP;
}

static bool put(struct journal *j, const struct memory *m)
{
    struct compact *c = &j->compact;
    size_t n = record_bytes(RECORD_PUT, j->c.dimension, m);
    if (!c->living.n || c->fill + n > DISK_AREA_BYTES) return false;
    uint8_t *p = disk_area(j->disk, DISK_COMPACT) + c->fill;
    record_put(p, RECORD_PUT, j->c.dimension, m);
    record_seal(p, &c->seal);
    c->fill += n;
    c->living.n--;
    return true;
}

void journal_compact_keep(struct journal *j, const struct memory *m)
{
    struct compact *c = &j->compact;
    /* It does not end in here, amid the change of a store that would have to undo it. */
    if (c->stage == COMPACT_STREAM && !c->overrun) c->overrun = !put(j, m);
}

/* Fill a slice and send it; with nothing left, on to the tail. */
static void stream(struct journal *j)
{
    struct compact *c = &j->compact;
    struct memory m;
    while (c->fill < SLICE_BYTES && c->living.next(c->living.user, &m))
        if (!put(j, &m)) {
            compact_end(j, "more memories than there were");
            return;
        }
    if (c->fill) {
        c->sent = c->fill;
        order(j, &(struct disk_order){ .kind = DISK_ADD, .area = DISK_COMPACT, .len = c->sent });
    } else if (c->living.n) {
        compact_end(j, "fewer memories than there were");
    } else {
        c->stage = COMPACT_TAIL;
        c->last = j->seq;
    }
}

/* What the rows showed when they were handed over must be in the old log before the
 * new one takes its place: else it would hold a change without one before it. */
static void tail(struct journal *j)
{
    struct compact *c = &j->compact;
    if (j->seal.seq < c->last) return;
    struct disk_order o = { .kind = DISK_COPY, .at = c->from, .end = j->end, .seal = c->seal };
    o.seal.watermark = j->seal.watermark;
    memcpy(o.old_id, j->seal.file_id, sizeof o.old_id);
    if (c->stage == COMPACT_TAIL && (j->end - c->from < TAIL_BYTES || c->copies == TAIL_COPIES))
        c->stage = COMPACT_SWAP;
    if (c->stage == COMPACT_TAIL) {
        c->copies++;
        order(j, &o);
    } else if (!j->busy) {
        o.kind = DISK_SWAP;
        order(j, &o);
    }
}

static void swapped(struct journal *j, const struct disk_answer *a)
{
    j->compact.stage = COMPACT_OFF;
    j->marked = j->compact.seal.watermark;
    j->seal = a->seal;
    j->end = a->bytes;
    j->closed = false;
    journal_is_durable(j);
    ended(j, NULL);
}

void compact_answer(struct journal *j, const struct disk_answer *a)
{
    struct compact *c = &j->compact;
    if (c->stage == COMPACT_DROP) {
        if (a->kind == DISK_DROP) c->stage = COMPACT_OFF;
        return;
    }
    c->waiting = false;
    if (a->state == DISK_DONE) {
        uint8_t *p = disk_area(j->disk, DISK_COMPACT);
        memmove(p, p + c->sent, c->fill - c->sent);
        c->fill -= c->sent;
        c->sent = 0;
        if (a->kind == DISK_COPY) {
            c->from = a->at;
            c->seal = a->seal;
        } else if (a->kind == DISK_SWAP) {
            swapped(j, a);
        }
        return;
    }
    char why[120];
    journal_say_why(why, a);
    if (a->state == DISK_BROKEN) {
        journal_stop(j, why);
    } else {
        c->stage = COMPACT_OFF;
        ended(j, why);
    }
}

bool journal_compact_ready(const struct journal *j)
{
    const struct compact *c = &j->compact;
    if (!journal_compacting(j)) return false;
    if (c->waiting || c->overrun) return c->overrun;
    return c->stage == COMPACT_STREAM ||
           (j->seal.seq >= c->last && (c->stage == COMPACT_TAIL || !j->busy));
}

bool journal_compact_step(struct journal *j, int64_t now)
{
    struct compact *c = &j->compact;
    j->now = now;
    if (c->overrun) compact_end(j, "too much was deleted meanwhile");
    if (journal_compacting(j) && !c->waiting) {
        if (c->stage == COMPACT_STREAM) stream(j);
        else tail(j);
    }
    if (disk_fd(j->disk) < 0) journal_take(j, false);
    return journal_compact_ready(j);
}

int journal_compact_all(struct journal *j, const struct journal_living *living, int64_t now,
                        struct fault *f)
{
    struct compact *c = &j->compact;
    if (journal_wait(j, now) < 0 || journal_compact_begin(j, living) < 0)
        return fault_set(f, 74, "Storage failed: %s",
                         j->why[0] ? j->why : "compaction cannot begin");
    while (c->stage != COMPACT_OFF && !j->why[0]) {
        bool more = journal_compact_step(j, now);
        journal_flush(j, now);
        if (!more) journal_take(j, true);
    }
    return c->failed ? fault_set(f, 74, "Compaction failed: %s", c->why) : 0;
}

void journal_adopt(struct journal *j, uint32_t dimension, const uint8_t *fingerprint)
{
    j->c.dimension = dimension;
    memcpy(j->head.fingerprint, fingerprint, sizeof j->head.fingerprint);
}

bool journal_compact_due(const struct journal *j, uint64_t live, int64_t now)
{
    const struct compact *c = &j->compact;
    if (j->why[0] || c->stage != COMPACT_OFF) return false;
    if (c->failed && now - c->ended < AGAIN_MS) return false;
    uint64_t used = JOURNAL_HEAD_BYTES + live;
    return j->end >= used + GARBAGE_BYTES && j->end - used > j->end / 2;
}
