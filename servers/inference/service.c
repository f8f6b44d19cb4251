#include "servers/inference/service.h"

#include "servers/values.h"

static int64_t wall(struct endpoint *ep)
{
    (void)ep;
    return time_now();
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
