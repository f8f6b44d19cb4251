#include "life.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void violated(struct life *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!l->bad[0]) vsnprintf(l->bad, sizeof l->bad, fmt, ap);
    va_end(ap);
}

static int ops_up_to(const struct life *l, uint64_t seq)
{
    int n = 0;
    while (n < l->sent && l->seq[n + 1] <= seq) n++;
    return n;
}

static void on_written(void *user, uint64_t seq)
{
    struct life *l = user;
    l->unmarked = false;
    l->witnessed = l->durable_seq; /* the batch was sealed when this was durable */
    l->written = ops_up_to(l, seq);
}

static void on_durable(void *user, uint64_t seq)
{
    struct life *l = user;
    if (seq < l->durable_seq) violated(l, "durable went back to %llu", (unsigned long long)seq);
    l->durable_seq = seq;
    l->durable = ops_up_to(l, seq);
}

/* The state after n operations. */
static void rebuild(struct life *l, int n)
{
    for (int i = 0; i < l->now.n; i++) l->now.items[i].flagged = false;
    l->now = l->base;
    for (int i = 0; i < l->now.n; i++) {
        struct item *t = &l->now.items[i];
        t->m.vector = t->vector;
        t->m.text.p = t->text;
        t->m.metadata.p = t->metadata;
        t->m.tags.p = t->tags;
        t->flagged = false;
    }
    for (int i = 0; i < n; i++) model_apply(&l->now, l->op[i].kind, &l->op[i].item);
    l->sent = n;
}

/* As the server does: deletes of the batch that found no room are appended once more, under
 * the numbers that they had. */
static void delete_again(struct life *l, int sent)
{
    uint64_t tried = l->again, seq;
    l->again = 0;
    for (int i = l->sent; i < sent; i++) {
        struct item gone = l->op[i].item;
        uint64_t had = l->seq[i + 1];
        model_refit(&gone);
        if (l->op[i].kind != MEMORY_DELETE || had <= tried || !model_find(&l->now, gone.m.id)) continue;
        if (journal_pad(l->j, had) < 0 || journal_append(l->j, MEMORY_DELETE, &gone.m, &seq) < 0) return;
        if (seq != had) violated(l, "number %llu became %llu", (unsigned long long)had, (unsigned long long)seq);
        l->op[l->sent].kind = MEMORY_DELETE;
        l->op[l->sent].item = gone;
        model_refit(&l->op[l->sent++].item);
        l->seq[l->sent] = l->again = seq;
        model_apply(&l->now, MEMORY_DELETE, &gone);
        l->digest[l->sent] = model_digest(&l->now);
    }
}

static void on_failed(void *user, uint64_t from, bool full, const char *why)
{
    struct life *l = user;
    (void)why;
    l->failures++;
    int n = ops_up_to(l, from - 1);
    if (n < l->written) violated(l, "failed from %llu, which was written", (unsigned long long)from);
    int sent = l->sent;
    if (full) rebuild(l, n), delete_again(l, sent); /* undone: must never be seen again */
    else l->stopped = true;                         /* in doubt: may or may not be there */
}

static void on_compacted(void *user, const char *why)
{
    struct life *l = user;
    if (!why) l->witnessed = 0, l->unmarked = true; /* until the next record */
}

void life_reset(struct life *l, uint32_t seed)
{
    memset(l, 0, sizeof *l);
    l->seed = seed;
    l->digest[0] = model_digest(&l->now);
}

static struct model found;

int life_start(struct life *l, int64_t sync_ms, int least, struct fault *f)
{
    memset(&found, 0, offsetof(struct model, items));
    found.n = found.unknown = found.next = 0;
    struct journal_config c = model_config(&found, "/d");
    c.sync_ms = l->sync_ms = sync_ms;
    c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, l };
    l->j = journal_open(&c, f);
    if (!l->j) return 1;
    uint64_t got = model_digest(&found);
    int k = l->sent;
    while (k >= 0 && l->digest[k] != got) k--;
    struct journal_state st = journal_state(l->j);
    if (k < 0) violated(l, "recovered what never was: %d memories", found.n);
    else if (k < least) violated(l, "recovered %d of %d operations, %d were acknowledged", k,
                                 l->sent, least);
    if (found.unknown) violated(l, "%d changes of what is not there", found.unknown);
    if (st.seq < l->durable_seq) violated(l, "numbers go on at %llu, %llu was acknowledged",
                                          (unsigned long long)st.seq,
                                          (unsigned long long)l->durable_seq);
    if (l->bad[0]) return 0;
    l->base = found;
    for (int i = 0; i < l->base.n; i++) l->base.items[i].flagged = false;
    l->base.next = 0;
    rebuild(l, 0);
    l->digest[0] = got;
    l->seq[0] = st.seq;
    l->written = l->durable = 0;
    l->durable_seq = st.durable;
    l->witnessed = l->again = 0;
    l->stopped = l->over = false;
    return 0;
}

static void operate(struct life *l)
{
    if (l->sent == MAX_OPS) return;
    struct item *t = &l->op[l->sent].item;
    enum memory_change kind = model_op(&l->now, l->seed, l->k, t);
    struct item *row = kind == MEMORY_DELETE ? model_find(&l->now, t->m.id) : NULL;
    if (row && row->flagged && journal_compacting(l->j)) {
        row->flagged = false;
        journal_compact_keep(l->j, &row->m);
    }
    uint64_t seq;
    if (journal_append(l->j, kind, &t->m, &seq) < 0) {
        if (!l->stopped) violated(l, "an append was refused");
        return;
    }
    l->k++;
    l->op[l->sent++].kind = kind;
    l->seq[l->sent] = seq;
    model_apply(&l->now, kind, t);
    l->digest[l->sent] = model_digest(&l->now);
}

void life_turn(struct life *l)
{
    l->clock += 7;
    journal_ready(l->j, l->clock);
    journal_compact_step(l->j, l->clock);
    journal_flush(l->j, l->clock);
}

static void compact(struct life *l)
{
    if (journal_compacting(l->j)) return;
    struct journal_living living = model_flag(&l->now);
    journal_compact_begin(l->j, &living);
}

/* Five seconds without anything; then all that is on disk has a later record to say so. */
static void idle(struct life *l)
{
    for (int i = 0; i < 5; i++, l->clock += 1100) journal_flush(l->j, l->clock);
    if (mfs_faults.capacity || mfs_faults.hits || journal_compacting(l->j) || l->unmarked) return;
    if (l->sync_ms >= 0 && l->durable && l->durable == l->sent && l->witnessed < l->seq[l->sent])
        violated(l, "an idle log has no last watermark");
}

void life_step(struct life *l)
{
    uint32_t r = mfs_random(41);
    if (r < 26) operate(l);
    if (r < 13 || r > 24) life_turn(l);
    if (r == 36) {
        idle(l);
    } else if (r == 37) {
        journal_sync(l->j);
    } else if (r == 38) {
        compact(l);
    } else if (r == 40) {
        compact(l); /* to its end, while what is stored meanwhile has yet to be written */
        for (int i = 0; i < 4; i++) operate(l);
        for (int i = 0; i < 8; i++) journal_compact_step(l->j, l->clock);
        l->over = mfs_random(3) == 0;
    } else if (r == 39) {
        for (int i = 0; i < 6; i++) life_turn(l);
    }
}

int life_close(struct life *l, struct fault *f)
{
    int r = journal_close(l->j, l->clock, f);
    l->j = NULL;
    return r;
}
