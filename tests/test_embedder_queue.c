// uses: servers/inference/embedder.c servers/inference/embedder_queue.c servers/inference/embedder_adapters.c servers/inference/builtin.c servers/inference/tokenizer.c servers/inference/wordpiece.c servers/inference/vocab.c servers/inference/unicode.c servers/inference/encoder.c servers/inference/weights.c servers/inference/kernels.c servers/inference/processor.c servers/inference/lora.c servers/inference/lora_config.c servers/inference/model.c servers/inference/config_file.c servers/inference/safetensors.c servers/inference/fingerprint.c servers/crc32c.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
#include "servers/inference/embedder.h"

#include "test.h"
#include "asks.h"

static size_t queued(const struct embedder *e)
{
    struct embedder_stats s;
    embedder_stats(e, &s);
    return s.queue;
}

Test(embedder_queue, more_texts_than_may_wait_are_busy_unless_none_waits)
{
    struct embedder *e = open_with(TINY, 10, 0);
    struct ask *big = ask(1, 20, letters), *one = ask(2, 1, letters);
    cr_assert_eq(embedder_submit(e, &big->rq, 0), EMBED_QUEUED, "nothing waits");
    cr_assert_eq(queued(e), 20);
    cr_assert_eq(embedder_submit(e, &one->rq, 0), EMBED_BUSY);
    cr_assert(embedder_retry_ms(e) >= 1);
    run_all(e);
    cr_assert(big->done == 1 && one->done == 0);
    struct ask *a = ask(1, 6, letters), *b = ask(1, 4, letters), *c = ask(3, 1, letters);
    cr_assert_eq(embedder_submit(e, &a->rq, 0), EMBED_QUEUED);
    cr_assert_eq(embedder_submit(e, &b->rq, 0), EMBED_QUEUED, "ten may wait");
    cr_assert_eq(embedder_submit(e, &c->rq, 0), EMBED_BUSY);
    run_all(e);
    cr_assert_eq(queued(e), 0);
    cr_assert_eq(embedder_submit(e, &c->rq, 0), EMBED_QUEUED);
    run_all(e);
    free(big), free(one), free(a), free(b), free(c);
    embedder_close(e);
}

Test(embedder_queue, clients_take_turns_text_by_text)
{
    struct embedder *e = open_with(TINY, 1000, 60);
    struct ask *flood = ask(1, 60, letters), *more = ask(1, 1, letters), *late = ask(2, 2, letters),
               *later = ask(3, 1, letters);
    cr_assert_eq(embedder_submit(e, &flood->rq, 0), EMBED_QUEUED);
    cr_assert_eq(embedder_submit(e, &more->rq, 0), EMBED_QUEUED);
    cr_assert_eq(embedder_submit(e, &late->rq, 0), EMBED_QUEUED);
    cr_assert_eq(embedder_submit(e, &later->rq, 0), EMBED_QUEUED);
    answered = 0;
    run_all(e);
    cr_assert(later->order == 1 || later->order == 2, "the third client was %d", later->order);
    cr_assert(late->order <= 2, "the second client was %d", late->order);
    cr_assert_eq(flood->order, 3);
    cr_assert_eq(more->order, 4, "requests of one client are answered in their order");
    free(flood), free(more), free(late), free(later);
    embedder_close(e);
}

Test(embedder_queue, what_nobody_waits_for_is_dropped)
{
    struct embedder *e = open_with(TINY, 1000, 60);
    struct ask *a = ask(1, 60, letters), *b = ask(2, 2, letters), *c = ask(1, 2, letters);
    embedder_submit(e, &a->rq, 0);
    embedder_submit(e, &b->rq, 0);
    embedder_submit(e, &c->rq, 0);
    b->dead = true;
    embedder_step(e, 0);                    /* the first batch is taken */
    cr_assert(b->done == 1 && b->rq.status == EMBED_DROPPED);
    cr_assert_eq(a->done, 0);
    a->dead = true;
    run_all(e);
    cr_assert(a->done == 1 && a->rq.status == EMBED_DROPPED);
    cr_assert(c->done == 1 && c->rq.status == EMBED_DONE);
    cr_assert_eq(queued(e), 0);
    struct embedder_stats s;
    embedder_stats(e, &s);
    cr_assert(s.texts < 40, "%d texts were computed for the dead", (int)s.texts);
    embedder_close(e);
    free(a), free(b), free(c);
}

static int woken;
static void on_wake(void *user)
{
    ++*(int *)user;
}

static struct embedder *resubmits;
static void submit_again(struct embed_request *rq)
{
    struct ask *a = (struct ask *)rq;
    if (++a->done < 4) cr_assert_eq(embedder_submit(resubmits, rq, 0), EMBED_QUEUED);
}

Test(embedder_queue, wakes_when_it_was_idle_and_takes_more_from_done)
{
    struct fault f;
    struct embedder_options o = {
        .model = TINY, .max_queue = 10, .wake = on_wake, .wake_user = &woken};
    struct embedder *e = resubmits = embedder_open(&o, &f);
    struct ask *a = ask_one(1, "a"), *b = ask_one(1, "b");
    woken = 0;
    a->rq.done = submit_again;
    embedder_submit(e, &a->rq, 0);
    cr_assert_eq(woken, 1);
    embedder_submit(e, &b->rq, 0);
    cr_assert_eq(woken, 1, "it is awake");
    run_all(e);
    cr_assert(a->done == 4 && b->done == 1);
    cr_assert_eq(woken, 1, "embedder_step() said that there is more");
    embedder_submit(e, &b->rq, 0);
    cr_assert_eq(woken, 2);
    cr_assert_eq(embedder_run(e, &a->rq), EMBED_DONE);
    run_all(e);
    embedder_close(e);
    free(a), free(b);
}

Test(embedder_queue, closing_forgets_what_waits_and_what_runs)
{
    for (int steps = 0; steps < 4; steps++) {
        struct embedder *e = open_with(TINY, 1000, 60);
        struct ask *a = ask(1, 60, letters), *b = ask(1, 2, letters), *c = ask(2, 2, letters);
        embedder_submit(e, &a->rq, 0);
        embedder_submit(e, &b->rq, 0);
        embedder_submit(e, &c->rq, 0);
        for (int i = 0; i < steps; i++) embedder_step(e, 0);
        int done = a->done + b->done + c->done;
        embedder_close(e);
        cr_assert_eq(done, a->done + b->done + c->done);
        free(a), free(b), free(c);
    }
}

Test(embedder_queue, the_estimate_follows_what_batches_took)
{
    struct embedder *e = open_with(TINY, 1000, 0);
    struct ask *a = ask(1, 60, letters);
    int64_t now = 0;
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(embedder_submit(e, &a->rq, now), EMBED_QUEUED);
        while (embedder_step(e, now)) now += 100000;
    }
    struct embedder_stats s;
    embedder_stats(e, &s);
    embedder_submit(e, &a->rq, now);
    double slow = (double)embedder_retry_ms(e);
    /* How many granules a batch has, and so its time here, is the kernels' to say. */
    cr_assert(slow > 0.8 * s.avg_ms && slow < 1.2 * s.avg_ms, "%g ms for 60 texts at %g ms a request", slow, s.avg_ms);
    cr_assert(s.avg_ms >= 100 && s.texts == 1200 && s.tokens == 3600);
    embedder_close(e);
    free(a);
}
