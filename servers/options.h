/* The flags of recalld: one table gives parsing, environment (RECALLD_NAME),
 * configuration file, --help and the `config` command. A flag wins over the
 * environment, that over the file. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"
#include "servers/log.h"

#define RECALLD_VERSION "1.0.0"
#define OPTIONS_TEXT 4000 /* bytes of a path: those that are made of it stay below PATH_MAX */
#define OPTIONS_LIST 32   /* --adapter, --allow-origin, --allow-host: at most so many each */

/* bad: the exit status that a bad value costs, 64 from the command line, else 78; source: which
 * of the three it came from. */
struct options_list { const char *v[OPTIONS_LIST]; int64_t n; int bad, source; };

enum only { ONLY_BOTH, ONLY_MEMORY, ONLY_INFERENCE };
enum maintenance { RUN, CHECK, REPAIR, COMPACT, REEMBED, EXPORT, IMPORT, HELP, VERSION, SELFTEST };

struct options {
    const char *host, *data, *model, *token_file, *config, *adapter_dir, *port_file;
    int         bad_host;                    /* as options_list.bad */
    int64_t     memory_port, inference_port, inference_last;
    int64_t     only;                        /* enum only */
    struct options_list adapters, origins, hosts;
    bool        insecure, no_sandbox, require_sandbox, inline_sync;
    int64_t     evict, int8, log_json;       /* 0 or 1, by the words of their flags */
    int64_t     buffer_memory, max_connections, max_message, max_memories, max_reply, max_queue;
    double      forget, rate;
    double      ping_interval, ping_timeout, close_timeout, handshake_timeout, message_timeout;
    double      sync;                        /* seconds; 0 always, -1 never */
    int64_t     log_level;                   /* enum log_level */
    enum maintenance mode;
    const char *file;                        /* of EXPORT and IMPORT */
    int         source, mode_source;         /* what is being read: file, environment,
                                                command line; where mode is from */
    struct owned *owned;                     /* what strings point into that stand elsewhere */
};

/* Fill o from argv, environment and file. Strings point into those or into what o
 * owns. 0, or -1 with f: exit 64 for the command line, 78 for environment and file. */
int options_read(struct options *o, int argc, char **argv, struct fault *f);
void options_free(struct options *o);                     /* also after -1 */

void options_help(void);                                  /* to stdout */
void options_put(const struct options *o, struct json_out *out); /* members of `config` */
void options_put_sync(const struct options *o, struct json_out *out);        /* one value */

#endif
