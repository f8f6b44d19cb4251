/* What recalld does to --data and then exits: --check --repair --compact
 * --reembed --export --import (SPEC 1, 7). */
#ifndef MAINTENANCE_H
#define MAINTENANCE_H

#include "servers/inference/embedder.h"
#include "servers/options.h"

/* --repair: needs no model. 0, or -1 with f. Prints what it found to stdout. */
int maintenance_repair(const struct options *o, struct fault *f);

/* The others, by o->mode. */
int maintenance_run(const struct options *o, struct embedder *e, struct fault *f);

#endif
