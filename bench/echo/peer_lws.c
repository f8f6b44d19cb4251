/* Echo on libwebsockets, without extensions.
 *
 *     lws PORT */
#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>

struct message { struct message *next; size_t len; int binary; unsigned char bytes[]; };
struct session { struct message *first, *last, *partial; };

/* Keep one whole message to send back; pieces are joined. */
static void keep(struct lws *wsi, struct session *s, const void *p, size_t n)
{
    size_t have = s->partial ? s->partial->len : 0;
    struct message *m = realloc(s->partial, sizeof *m + LWS_PRE + have + n);
    if (!m) abort();
    m->len = have + n;
    memcpy(m->bytes + LWS_PRE + have, p, n);
    s->partial = m;
    if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi)) return;
    m->next = NULL;
    m->binary = lws_frame_is_binary(wsi);
    if (s->last) s->last->next = m;
    else s->first = m;
    s->last = m;
    s->partial = NULL;
    lws_callback_on_writable(wsi);
}

static int callback(struct lws *wsi, enum lws_callback_reasons why, void *user, void *p, size_t n)
{
    struct session *s = user;
    if (why == LWS_CALLBACK_RECEIVE) {
        keep(wsi, s, p, n);
    } else if (why == LWS_CALLBACK_SERVER_WRITEABLE) {
        while (s->first && !lws_send_pipe_choked(wsi)) {
            struct message *m = s->first;
            if (lws_write(wsi, m->bytes + LWS_PRE, m->len, m->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT) < 0)
                return -1;
            s->first = m->next;
            if (!s->first) s->last = NULL;
            free(m);
        }
        if (s->first) lws_callback_on_writable(wsi);
    } else if (why == LWS_CALLBACK_CLOSED) {
        while (s->first) {
            struct message *m = s->first;
            s->first = m->next;
            free(m);
        }
        free(s->partial);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct lws_protocols protocols[] = {
        { "", callback, sizeof(struct session), 1 << 20, 0, NULL, 0 }, { 0 }
    };
    struct lws_context_creation_info info = {
        .port = argc > 1 ? atoi(argv[1]) : 8080, .iface = "127.0.0.1", .protocols = protocols,
        .pt_serv_buf_size = 65536,
    };
    lws_set_log_level(0, NULL);
    struct lws_context *context = lws_create_context(&info);
    while (context && lws_service(context, 0) >= 0) { }
    return 1;
}
