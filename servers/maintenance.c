#include "servers/offsets.h"
#include "servers/maintenance.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "servers/loop.h"
#include "servers/memory/journal_tools.h"
#include "servers/memory/lines.h"
#include "servers/memory/service.h"
#include "servers/values.h"

/* Log. */

static void on_damage(void *user, uint64_t offset, uint64_t bytes, uint64_t from, uint64_t to)
{
    (void)user;
    printf("damage: %" PRIu64 " bytes at offset %" PRIu64, bytes, offset);
    if (from <= to)
        printf(", sequence numbers %" PRIu64 " to %" PRIu64 " are lost", from, to);
    putchar('\n');
}

static void print_report(const struct journal_report *r)
{
    char print[65];
    uint64_t kept = JOURNAL_HEAD_BYTES + r->live_bytes;
    printf("log: %" PRIu64 " bytes, %" PRIu64 " records, %s\n", r->bytes, r->records,
           r->closed ? "closed cleanly" : "not closed");
    printf("memories: %" PRIu64 ", %" PRIu64 " bytes; garbage: %" PRIu64 " bytes\n", r->live,
           r->live_bytes, r->bytes > kept ? r->bytes - kept : 0);
    printf("sequence number: %" PRIu64 "\nembedder: %s, dimension %u\n", r->seq,
           hex_text(print, r->head.fingerprint, 32), r->head.dimension);
    if (r->head_damaged) puts("damage: the file header, its second copy was read");
    if (r->orphans)
        printf("skipped: %" PRIu64 " changes whose memory is lost\n", r->orphans);
    if (r->torn_bytes)
        printf("torn: %" PRIu64 " bytes at the end that nobody was told of\n", r->torn_bytes);
}

int maintenance_repair(const struct options *o, struct fault *f)
{
    struct journal_report r = { .damage = on_damage };
    char kept[64];
    if (journal_repair(o->data, &r, kept, f) < 0) return -1;
    print_report(&r);
    if (*kept)
        printf("repaired: every whole record is in a new log, the old one is kept as %s\n", kept);
    else puts("nothing to repair");
    return 0;
}

static int check(const struct options *o, struct embedder *e, struct fault *f)
{
    struct journal_report r = { .damage = on_damage };
    struct journal_head head;
    char print[65];
    printf("model: %s, dimension %u, fingerprint %s\n", embedder_name(e), embedder_dimension(e),
           hex_text(print, embedder_fingerprint(e), 32));
    struct embedder_adapter a;
    for (int i = -1; embedder_adapter_next(e, &i, &a);)
        printf("adapter: %s, rank %u, alpha %g, fingerprint %s\n", a.name, a.rank, a.alpha,
               hex_text(print, a.fingerprint, 32));
    int found = journal_peek(o->data, &head, f);
    if (found) {
        if (found > 0) printf("data: no log in %s yet\n", o->data);
        return found < 0 ? -1 : 0;
    }
    int damaged = journal_check(o->data, &r, f);
    if (damaged < 0) return -1;
    print_report(&r);
    if (damaged)
        return fault_set(f, 65, "%.200s/memory.log is damaged: --repair keeps every whole record",
                         o->data);
    if (memcmp(r.head.fingerprint, embedder_fingerprint(e), 32))
        return fault_set(f, 65, "the memories were made with another embedder than this: "
                         "--reembed embeds them again");
    puts("all is well");
    return 0;
}

/* Memories. */

static int compact(struct memory_service *ms, struct fault *f)
{
    struct journal_living living = { store_living(ms->store), store_living_next, ms->store };
    uint64_t before = journal_state(ms->journal).bytes;
    if (journal_compact_all(ms->journal, &living, loop_clock(), f)) return -1;
    printf("compacted: %" PRIu64 " bytes, were %" PRIu64 "\n", journal_state(ms->journal).bytes,
           before);
    return 0;
}

/* Embedding anew is a compaction whose memories get other vectors on their way. */
struct anew { struct store *store; struct embedder *e; float *vector; size_t n; bool failed; };

static bool next_anew(void *user, struct memory *m)
{
    struct anew *a = user;
    size_t all = store_records(a->store)->live;
    if (a->failed || !store_living_next(a->store, m)) return false;
    a->failed = embedder_text(a->e, m->text, a->vector) != 0;
    m->vector = a->vector;
    if (++a->n % 1000 == 0 || a->n == all) fprintf(stderr, "\rembedded %zu of %zu", a->n, all);
    return !a->failed;
}

static int write_anew(struct anew *a, struct journal *j, struct fault *f)
{
    struct journal_living living = { store_living(a->store), next_anew, a };
    a->vector = malloc(embedder_dimension(a->e) * sizeof *a->vector);
    if (!a->vector) return fault_set(f, 71, "out of memory");
    journal_adopt(j, embedder_dimension(a->e), embedder_fingerprint(a->e));
    int bad = journal_compact_all(j, &living, loop_clock(), f);
    free(a->vector);
    if (a->n) fputc('\n', stderr);
    return a->failed ? fault_set(f, 65, "a text cannot be embedded") : bad;
}

/* A slip in the name of a directory must not look like a store without memories. */
static int need_log(const struct options *o, struct journal_head *head, struct fault *f)
{
    int found = journal_peek(o->data, head, f);
    return found > 0 ? fault_set(f, 65, "no log in %.200s", o->data) : found;
}

static int reembed(const struct options *o, struct embedder *e, struct fault *f)
{
    struct journal_head head;
    if (need_log(o, &head, f)) return -1;
    if (!memcmp(head.fingerprint, embedder_fingerprint(e), 32)) {
        puts("made with this embedder already");
        return 0;
    }
    struct store_config sc = { .dimension = head.dimension, .max_memories = SIZE_MAX };
    struct anew a = { .store = store_new(&sc), .e = e };
    if (!a.store) return fault_set(f, 71, "out of memory");
    struct journal_config jc = { .dir = o->data, .dimension = head.dimension,
                                 .fingerprint = head.fingerprint,
                                 .in_process = true, .replay = { store_load, a.store } };
    struct journal *j = journal_open(&jc, f);
    int bad = j ? write_anew(&a, j, f) : -1;
    struct fault later;                  /* the first fault is the one to tell */
    if (j && journal_close(j, loop_clock(), bad ? &later : f)) bad = -1;
    if (!bad) printf("embedded %zu memories with %s\n", a.n, embedder_name(e));
    store_free(a.store);
    return bad;
}

/* Is this the log itself? Lines written into it would be the end of it. */
static bool is_log(const char *data, const char *path)
{
    char log[4200];
    struct stat a, b;
    snprintf(log, sizeof log, "%s/memory.log", data);
    return !stat(log, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int with_memories(const struct options *o, struct embedder *e, struct fault *f)
{
    static struct memory_service ms;
    struct journal_head head;
    if (o->mode != IMPORT && need_log(o, &head, f)) return -1;
    if (memory_open(&ms, o, e, f)) return -1;
    int bad = o->mode == COMPACT ? compact(&ms, f)
            : o->mode == IMPORT  ? lines_import(&ms, o->file, f)
            : is_log(o->data, o->file)
            ? fault_set(f, 64, "--export %.200s: that is the log itself; name another file",
                        o->file)
            : lines_export(&ms, o->file, f);
    struct fault later;                  /* the first fault is the one to tell */
    if (memory_close(&ms, bad ? &later : f)) bad = -1;
    return bad;
}

int maintenance_run(const struct options *o, struct embedder *e, struct fault *f)
{
    if (o->mode == CHECK) return check(o, e, f);
    if (o->mode == REEMBED) return reembed(o, e, f);
    return with_memories(o, e, f);
}
