#include "servers/inference/service.h"

#include <time.h>

static int64_t wall(struct endpoint *ep)
{
    struct timespec t;
    (void)ep;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void inference_open(struct inference_service *is, const struct options *o, struct embedder *e)
{
    is->options = o;
    is->embedder = e;
    is->ep.app = is;
    is->ep.wall = wall;
    is->ep.commands = inference_commands;
    is->ep.stats = inference_stats;
    is->ep.events = EVENT_STATS;
}
