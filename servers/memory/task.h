/* A command of the memory endpoint under way: its parameters, then perhaps a
 * vector from the embedder, then perhaps a scan, each of which may take longer
 * than a turn of the loop. Scans, and with them the stores that they precede,
 * are worked off in the order in which they came; short ones at once. What changes
 * something waits, before its scan, until the log's batch has room for it. */
#ifndef TASK_H
#define TASK_H

#include "servers/memory/resend.h"
#include "servers/memory/service.h"
#include "servers/params.h"

/* Every parameter that any of the commands knows; text and the like trimmed and
 * checked, p NULL where absent. */
struct call {
    struct slice text, metadata, tags, type, adapter, id, after, pinned;
    struct param_vector embedding;
    double  significance;                       /* negative: absent */
    double  min_significance, min_strength, min_similarity;
    int64_t timestamp, since, until;            /* INT64_MIN, _MAX: absent */
    int64_t count, offset, sort, ascending;
    bool    include_embeddings, reinforce, confirm;
    struct slice tag[MEMORY_TAGS];              /* those of tags, as JSON strings */
    size_t  n_tags;
};

/* Tags as json_put_str() writes them, over their own text (which is never
 * shorter), and where each of them stands. */
void call_tags(struct call *c);

/* The memory that it describes, for store_add(); no id yet. */
struct memory call_memory(const struct call *c, const float *vector);

struct task {
    struct embed_request ask;                   /* first */
    struct request        *rq;
    struct memory_service *ms;
    struct call            c;
    struct meta            meta;                /* of c.metadata */
    struct resend_key      key;                 /* of a store with an id */
    int                    adapter;
    bool                   want_embedding;      /* `embed` */
    bool                   begun;               /* `clear`, `cleanup`: so many are removed, */
    int64_t                removed;
    uint64_t               seq;                 /* the last of them under this number */
    uint32_t               tokens;              /* `embed_only` */
    bool                   truncated;
    bool                   scanning;
    bool                   drop;                /* nobody else cares when its client is gone */
    void                 (*ready)(struct task *);  /* the vector is there, or asked for */
    struct scan_config     search;
    struct scan            scan;
    void                 (*found)(struct task *);  /* the scan is over */
    void                 (*go)(struct task *);     /* there is room in the log */
    bool                   admitted;            /* and it is kept for this one */
    struct task           *next;
    float                  vector[];            /* [dimension], of unit length once it is ready */
};

/* Read the parameters over the defaults of `call` (its text must be trimmed by
 * this). NULL: an error was replied. */
struct task *task_new(struct request *rq, const struct param *params, const struct call *defaults);
void task_free(struct task *t);

/* Is there a text that is no blank? Else `Missing required field: text` was replied, t is gone. */
bool task_has_text(struct task *t);

/* ready(t), with the embedding that was given or the text's, now or later. Where
 * nobody waits any more, `drop` spares the work. */
void task_embed(struct task *t, void (*ready)(struct task *), bool drop);

/* found(t) when t->search has been scanned for, now or later. */
void task_scan(struct task *t, void (*found)(struct task *));
bool task_step(struct job *job);                /* of memory_service.scanning */

/* go(t) when the log's batch has room for its change, now or later; the room is kept
 * until task_free(). Those that wait are served in the order in which they came. */
void task_room(struct task *t, void (*go)(struct task *));
bool task_may_go(const struct memory_service *ms);  /* the first of those that wait */
bool task_go(struct job *job);                      /* of memory_service.going */

/* End the task: with its reply, once seq is on disk (0: at once), or with an error. */
void task_done(struct task *t, uint64_t seq);
bool task_error(struct task *t, enum reply_code code, const char *text);   /* false */
bool task_over(struct task *t, int store_status);   /* false: it was STORE_OK, t goes on */
bool task_stopped(struct task *t);                  /* likewise if task_storage_failed() */

/* Does the log take nothing more? Then `Storage failed: …` was replied. */
bool task_storage_failed(struct request *rq);

/* The reply of what removes many. */
void reply_removed(struct request *rq, int64_t removed, uint64_t seq);

/* find.c: commands that look for memories. */
void find_search(struct request *rq);
void find_retrieve(struct request *rq);
void find_export(struct request *rq);
void find_get(struct request *rq);
/* The row of an id, or ROW_NONE: `Memory not found` was replied. */
uint32_t task_row(struct request *rq, struct slice id);

#endif
