#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "servers/conn_impl.h"

#define BURST     64    /* connections accepted in a turn */
#define EXTRA     64    /* over the limit that are told so at a time; more are just closed */
#define PAUSE_MS  50    /* without accepting where descriptors are used up */

/* Places. */

static bool add_slab(struct server *s)
{
    struct conn **slab = realloc(s->slab, (s->slabs + 1) * sizeof *slab);
    if (!slab) return false;
    s->slab = slab;
    struct conn *c = calloc(CONN_SLAB, sizeof *c);
    if (!c) return false;
    s->slab[s->slabs++] = c;
    for (uint32_t i = CONN_SLAB; i-- > 0; ) {
        c[i].timer.tag = (s->slabs - 1) * CONN_SLAB + i;
        c[i].state = CONN_DEAD;
        c[i].next = s->vacant;
        s->vacant = &c[i];
    }
    return true;
}

/* A place, all zero but for its slot and a generation that no other had. */
static struct conn *occupy(struct server *s)
{
    if (!s->vacant && !add_slab(s)) return NULL;
    struct conn *c = s->vacant;
    s->vacant = c->next;
    *c = (struct conn){ .server = s, .timer.tag = c->timer.tag, .generation = ++s->serial };
    return c;
}

void server_vacate(struct conn *c)
{
    struct server *s = c->server;
    c->server = NULL;
    c->next = s->vacant;
    s->vacant = c;
}

static void pause_accepting(struct server *s, const char *why)
{
    struct loop *loop = s->loop;
    /* No pause without an end. */
    if (loop_at(loop, &s->resume, loop_now(loop) + PAUSE_MS)) return;
    for (int i = 0; i < 2; i++)
        if (s->listener[i].watch.on) loop_watch(loop, &s->listener[i].watch, 0);
    if (s->starved) return;              /* said already: the same wait in the backlog */
    s->starved = true;
    s->n.rejected++;
    if (s->ops->refused) s->ops->refused(NULL, 0, why);
}

static void resume_accepting(struct server *s)
{
    loop_at(s->loop, &s->resume, LOOP_NEVER);
    for (int i = 0; i < 2; i++)
        if (s->accepting && s->listener[i].watch.on)
            loop_watch(s->loop, &s->listener[i].watch, LOOP_READ);
}

static void on_resume(struct timer *t, int64_t now)
{
    (void)now;
    resume_accepting(CONTAINER(struct server, resume, t));
}

void server_closed(struct conn *c)
{
    struct server *s = c->server;
    s->n.active--;
    if (c->extra) s->extra--;
    if (s->resume.slot) resume_accepting(s);
}

/* Accepting. */

static void open_conn(struct server *s, int fd, const struct sockaddr_storage *from)
{
    bool over = s->n.active - s->extra >= s->max_connections;
    struct conn *c = over && s->extra >= EXTRA ? NULL : occupy(s);
    s->n.attempts++;
    if (!c) {
        close(fd);
        s->n.rejected++;
        if (s->ops->refused) s->ops->refused(NULL, 503, "too many connections");
        return;
    }
    net_from_sockaddr(&c->peer, from);
    c->watch = (struct watch){ .fd = fd, .ready = conn_ready };
    c->timer.fire = conn_fire;
    c->since = (uint32_t)(loop_now(s->loop) >> 4);
    c->u.http.deadline = loop_now(s->loop) + s->handshake_timeout_ms;
    c->extra = over;
    s->n.active++;
    s->extra += over;
    if (loop_watch(s->loop, &c->watch, LOOP_READ)) {
        conn_lost(c);
        return;
    }
    conn_arm(c);
    if (s->ops->accepted && !over) s->ops->accepted(c);
    if (!over) return;
    conn_refuse(c, 503, "Retry-After: 1\r\n", "too many connections");
    conn_drain(c, true);
}

static void on_accept(struct watch *w, unsigned events)
{
    struct server *s = CONTAINER(struct listener, watch, w)->server;
    (void)events;
    for (int i = 0; i < BURST; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        int fd = accept4(w->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            s->starved = false;
            open_conn(s, fd, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(s, "descriptors are used up");
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno == EINVAL) {     /* shut down by who handed it over: readable for ever */
            loop_unwatch(s->loop, w);
            loop_close(s->loop, w);
            if (s->ops->refused) s->ops->refused(NULL, 0, "the listening socket was shut down");
            return;
        }
    }
}

int server_listen(struct server *s, const struct net_listeners *l)
{
    s->resume.fire = on_resume;
    pool_join(s->pool, s);
    s->accepting = true;
    for (int i = 0; i < l->n; i++) {
        struct listener *at = &s->listener[i];
        *at = (struct listener){ { .fd = l->fd[i], .ready = on_accept }, s };
        if (loop_watch(s->loop, &at->watch, LOOP_READ)) return -1;
    }
    return 0;
}

void server_stop_accepting(struct server *s)
{
    if (!s->accepting) return;
    s->accepting = false;
    loop_at(s->loop, &s->resume, LOOP_NEVER);
    for (int i = 0; i < 2; i++)
        if (s->listener[i].watch.on) {    /* who handed it over may have it open still */
            loop_unwatch(s->loop, &s->listener[i].watch);
            loop_close(s->loop, &s->listener[i].watch);
        }
}

/* The end of all. */

static struct conn *place(const struct server *s, uint32_t i)
{
    return &s->slab[i / CONN_SLAB][i % CONN_SLAB];
}

void server_shutdown(struct server *s, uint16_t code, const char *reason)
{
    s->ending = true;
    for (uint32_t i = 0; i < s->slabs * CONN_SLAB; i++) {
        struct conn *c = place(s, i);
        if (c->state == CONN_OPEN) conn_close(c, code, reason);
        else if (c->state == CONN_HEAD || c->state == CONN_DRAIN) conn_drain(c, c->linger);
    }
}

void server_free(struct server *s)
{
    struct conn_pool *pool = s->pool;
    server_stop_accepting(s);
    for (uint32_t i = 0; i < s->slabs * CONN_SLAB; i++)
        conn_lost(place(s, i));
    pool_leave(pool, s);
    for (uint32_t i = 0; i < s->slabs; i++) free(s->slab[i]);
    free(s->slab);
    s->slab = NULL;
    s->slabs = 0;
    s->vacant = NULL;
}
