/* The memory endpoint as a whole: store, journal, embedder and endpoint joined,
 * and their work done in the turns of the loop. */
#ifndef SERVICE_H
#define SERVICE_H

#include "servers/endpoint.h"
#include "servers/inference/service.h"
#include "servers/memory/journal.h"
#include "servers/memory/store.h"
#include "servers/options.h"

struct memory_service {
    struct endpoint       ep;            /* first; ep.app is this */
    struct store         *store;
    struct journal       *journal;
    struct watch          disk;          /* answers of the disk helper */
    struct hook           flush;         /* hands the turn's batch to the disk */
    struct timer          due;           /* when the journal or the sweep wants a turn */
    struct job            compaction;
    int64_t               next_sweep;    /* forgetting, monotonic ms */
    uint64_t              again;         /* deletes up to here were appended a second time, or 0 */
    struct request       *compacting;    /* `compact` commands that wait for its end, kept by
                                            their next in user[0], */
    bool                  compacted;     /* which has come, */
    char                  compact_why[128]; /* because of this; "": it is done */
    struct standing      *standing;      /* standing queries (standing.c) */
    struct resend        *resend;        /* answers that may be asked for again */
    struct task          *scans;         /* those that wait, oldest first (task.h) */
    struct job            scanning;      /* works on the first */
    int64_t               scanned_at;    /* the turn in which, without waiting, */
    size_t                scanned;       /* so many bytes were scanned */
    struct task          *parked;        /* changes that wait for room in the log */
    struct job            going;         /* lets the first go on */
    size_t                admitted;      /* that have the room and have yet to use it */
    struct task          *removing;      /* `clear` (confirmed) and `cleanup` commands, oldest
                                            first, that one perhaps under way */
    uint32_t              sweep_row;     /* where a sweep goes on, ROW_NONE: none is under way */
    struct job            bulk;          /* works on them, part by part */
};

/* Open the data and replay it; options, loop-independent. 0, or -1 with f. */
int  memory_open(struct memory_service *ms, const struct options *o, struct embedder *e,
                 struct fault *f);

/* Join the loop (after memory_open() and endpoint_init()). */
void memory_attach(struct memory_service *ms, struct loop *loop);

/* Sync, mark the log as closed. 0, or -1 with f. */
int  memory_close(struct memory_service *ms, struct fault *f);

bool memory_busy(const struct memory_service *ms);   /* commands under way, their clients or not */
int64_t memory_wall(struct endpoint *ep);            /* the clock of SPEC 5.5 */
/* Has --sync always, so that success means on disk? */
bool    memory_durable(const struct memory_service *ms);

/* Begin a compaction; 0, or -1: one is under way or storage has stopped. */
int  memory_compact(struct memory_service *ms);

/* predict.c: for struct inference_service. */
void memory_predict(void *memory, const float *vector, size_t top_k, struct json_out *out);

/* commands.c: the table, `stats` members, what waits for the log. */
extern const struct command memory_commands[];
void memory_stats(struct endpoint *ep, struct json_out *out);
void memory_tell_compacted(struct memory_service *ms);  /* outside of any change */

/* task.c: what removes many memories, in parts: `clear`, `cleanup` and the sweep of --forget. */
void memory_clear(struct request *rq);
void memory_cleanup(struct request *rq);
void memory_sweep(struct memory_service *ms);
bool memory_bulk_wants(const struct memory_service *ms);  /* a turn of ms->bulk, now */
bool memory_bulk_step(struct job *job);
void memory_bulk_failed(struct memory_service *ms, const char *why); /* what a part has lost */

/* standing.c: standing queries. */
void memory_watch(struct request *rq, uint32_t query_id);
void memory_unwatch(struct endpoint *ep, struct conn_ref conn);
void memory_match(struct memory_service *ms, const struct memory *m); /* after one was added */

/* wire.c: a memory on the wire: its members, between { and }. Export lines have no
 * strength, and the vector in base64. */
enum memory_form { MEMORY_PLAIN, MEMORY_EMBEDDING, MEMORY_EXPORT };
void memory_put(const struct memory_service *ms, const struct memory *m, double strength,
                enum memory_form form, struct json_out *out);
void memory_member(struct memory_service *ms, const struct memory *m, enum memory_form form,
                   struct json_out *out);      /* "memory":{…}, with its strength now */
void memory_put_id(const uint8_t id[MEMORY_ID], struct json_out *out);
bool memory_id_parse(struct slice text, uint8_t id[MEMORY_ID]);   /* false: not of that form */
bool memory_id_new(uint8_t id[MEMORY_ID]);                        /* random, RFC 9562 version 4;
                                                                     false: the system has none */

#endif
