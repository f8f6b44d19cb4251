#!/bin/sh
# Does a test fail when what it guards is broken? Plants one fault after another
# into a copy of ws.c, ws_handshake.c or http.c and expects the unit tests to notice each.
#
#   tests/mutants.sh            all of them; exit 1 when one lives
#   tests/mutants.sh NAME...    those whose description holds one of the words
set -u
cd "$(dirname "$0")/.." || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
CC=${CC:-gcc}
flags="-std=c11 -O1 -I. -D_GNU_SOURCE -DTEST_MINI -Wno-unused -w"
lib="utf8 sha1 base64"
tests="ws ws_conformance ws_time ws_loopback http handshake"

parts="ws ws_handshake http"
for name in $lib $parts; do $CC $flags -c -o "$dir/$name.o" "$name.c" || exit 1; done
for name in $tests; do $CC $flags -c -o "$dir/test_$name.o" "tests/test_$name.c" || exit 1; done

# Status 0: every test passes, with mutant.o in the place of the part named, if any.
passes()
{
    objects=
    for name in $lib $parts; do
        if [ "$name" = "${1:-}" ]; then objects="$objects $dir/mutant.o"; else objects="$objects $dir/$name.o"; fi
    done
    for name in $tests; do
        $CC -o "$dir/run" "$dir/test_$name.o" $objects -lm || return 2
        timeout 60 "$dir/run" >"$dir/log" 2>&1 || return 1
    done
}

passes || { cat "$dir/log"; echo "the tests fail before anything is broken"; exit 1; }

planted=0 lived=0
plant()     # description, file, sed script
{
    if [ -n "$wanted" ]; then
        hit=
        for word in $wanted; do case "$1" in *$word*) hit=1 ;; esac; done
        [ -n "$hit" ] || return
    fi
    sed "$3" "$2.c" >"$dir/mutant.c"
    if cmp -s "$dir/mutant.c" "$2.c"; then echo "NOT PLANTED  $1"; lived=$((lived + 1)); return; fi
    $CC $flags -c -o "$dir/mutant.o" "$dir/mutant.c" || { echo "NOT COMPILED $1"; lived=$((lived + 1)); return; }
    planted=$((planted + 1))
    if passes "$2"; then echo "LIVES        $1"; lived=$((lived + 1)); else echo "found        $1"; fi
}
wanted=$*

# Frames, RFC 6455 5.2 to 5.5
plant "no check of reserved bits"                 ws '/return BAD_RSV/d'
plant "reserved bit 1 alone is let through"       ws 's/p\[0\] >> 4 & 7/p[0] >> 4 \& 3/'
plant "no check of opcodes"                       ws '/return BAD_OPCODE/d'
plant "opcode 3 is let through"                   ws 's/(f->op & 7) > 2/(f->op \& 7) > 3/'
plant "unmasked frames are accepted"              ws '/return BAD_MASK/d'
plant "no check of control frames"                ws 's/f->ext || !f->fin ? BAD_CONTROL : NO_FAULT/NO_FAULT/'
plant "long control frames are accepted"          ws 's/f->ext || !f->fin ? BAD_CONTROL/!f->fin ? BAD_CONTROL/'
plant "fragmented control frames are accepted"    ws 's/f->ext || !f->fin ? BAD_CONTROL/f->ext ? BAD_CONTROL/'
plant "no state of fragmentation"                 ws '/return BAD_SEQUENCE/d'
plant "lone continuation is accepted"             ws 's/(f->op == WS_CONT) == !ws->op/f->op != WS_CONT \&\& ws->op/'
plant "new message within a message is accepted"  ws 's/(f->op == WS_CONT) == !ws->op/f->op == WS_CONT \&\& !ws->op/'
plant "length in 2 bytes need not be shortest"    ws '/f->ext == 2 && f->len < 126/d'
plant "length in 8 bytes need not be shortest"    ws '/f->ext == 8 && f->len <= UINT16_MAX/d'
plant "shortest form is off by one at 126"        ws 's/f->ext == 2 && f->len < 126/f->ext == 2 \&\& f->len < 125/'
plant "shortest form is off by one at 65536"      ws 's/f->ext == 8 && f->len <= UINT16_MAX/f->ext == 8 \&\& f->len < UINT16_MAX/'
plant "top bit of a length is not looked at"      ws '/f->len >> 63/d'
plant "binary is accepted where text is"          ws '/return NOT_TEXT/d'
plant "no limit of a message"                     ws '/return TOO_LARGE/d'
plant "fragments are not summed"                  ws 's/f->len + ws->have > ws->config/f->len > ws->config/'
plant "limit is off by one"                       ws 's/f->len + ws->have > ws->config/f->len + ws->have >= ws->config/'
plant "limit counts after our close"              ws '/return NO_FAULT;     .. thrown away/d'
plant "length is read little-endian"              ws 's/v = v << 8 | \*p++/v = v << 8 | p[n]/'
# Payload, 5.3 and 8.1
plant "no check of UTF-8"                         ws 's/if (utf8_check(&ws->utf8, to, m) != m) return false;//'
plant "unfinished character at the end"           ws 's/return ws->left || !ws->fin || !ws->utf8.need;/return true;/'
plant "character must end with its fragment"      ws 's/return ws->left || !ws->fin || !ws->utf8.need;/return !ws->utf8.need;/'
plant "key is not turned between pieces"          ws 's/if (ws->left) turn_key/if (0) turn_key/'
plant "key turns the wrong way"                   ws 's/twice + (n & 3)/twice + (-n \& 3)/'
plant "last bytes are not unmasked"               ws '/memcpy(to + n - 16, &last, 16)/d'
plant "last bytes are unmasked with the first key" ws '/turn_key(last_key, n)/d'
plant "bytes of the first blocks are taken for ASCII" ws '/all |= v;/d'
plant "the last bytes are taken for ASCII"        ws '/all |= last;/d'
plant "a short payload is taken for ASCII"        ws 's/return bits < 0x80;/return true;/'
plant "ASCII within a character is not seen"      ws 's/ && !ws->utf8.need) continue;/) continue;/'
plant "short payloads keep their last byte"       ws 's/for (size_t i = 0; i < n; i++) bits |= to\[i\]/for (size_t i = 0; i + 1 < n; i++) bits |= to[i]/'
plant "client forgets to move payload"            ws 's/if (to != from) memmove/if (0) memmove/'
plant "empty fragment ends a message"             ws 's/return !ws->left && ws->fin;/return !ws->left \&\& (ws->fin || !n);/'
plant "binary is reported as text"                ws 's/ws->op == WS_TEXT ? WS_EV_TEXT : WS_EV_BINARY/WS_EV_TEXT/'
# Control frames, 5.5
plant "ping is not answered"                      ws 's/if (f->op == WS_PING \&\& !ws->closed) put_frame/if (0) put_frame/'
plant "pong is answered"                          ws 's/if (f->op == WS_PING \&\& !ws->closed) put_frame/if (!ws->closed) put_frame/'
plant "ping is answered after our close"          ws 's/if (f->op == WS_PING \&\& !ws->closed) put_frame/if (f->op == WS_PING) put_frame/'
plant "ping without room is lost"                 ws 's/return WS_EV_FULL;$/;/'
plant "close code is not checked"                 ws '/!ws_code_valid(code))   /d'
plant "close of one byte is accepted"             ws 's/if (len && !ws_code_valid(code))/if (len > 1 \&\& !ws_code_valid(code))/'
plant "reason is not checked"                     ws '/return WS_EV_NONE; }$/{/BAD_REASON/d}'
plant "close is not answered"                     ws 's/if (!ws->closed) put_close/if (0) put_close/'
plant "close is answered with 1000"               ws 's/put_close(ws, code, "", 0)/put_close(ws, 1000, "", 0)/'
plant "close is answered with its reason"         ws 's/put_close(ws, code, "", 0)/put_close(ws, code, (char *)p + 2, len > 2 ? len - 2 : 0)/'
plant "frames behind a close are looked at"       ws 's/forget_input(ws, DONE)/ws->state = OPEN/'
plant "by_peer is always told"                    ws 's/ev->by_peer = !ws->closed/ev->by_peer = true/'
plant "code 1005 may be sent"                     ws 's/code < 1004 || code > 1006/code < 1004 || code > 1004/'
plant "code 1004 may be sent"                     ws 's/code < 1004 || code > 1006/code < 1005 || code > 1006/'
plant "code 1015 may be sent"                     ws 's/code <= 1014/code <= 1015/'
plant "code 1012 may not be sent"                 ws 's/code <= 1014/code <= 1011/'
plant "code 2999 may be sent"                     ws 's/code >= 3000/code >= 2999/'
plant "code 5000 may be sent"                     ws 's/code <= 4999/code <= 5000/'
plant "fault is told without a close frame"       ws 's/if (code != 1006 \&\& !put_close(ws, code, why, len)) return WS_EV_FULL;//'
plant "CLOSED comes twice"                        ws 's/    ws->state = DONE;/    ;/'
plant "reason is cut within a character"          ws 's/for (len = 123; .*) len--;/len = 123;/'
plant "reason is not cut"                         ws 's/if (len > 123) {/if (len > 130) {/'
# Buffers
plant "gap is not closed"                         ws 's/if (gap \&\& rest <= have)/if (0)/; s/} else if (gap) {/} else if (0) {/'
plant "rest is lost when the gap is closed"       ws 's/memmove(ws->buf + ws->at - gap/memmove(ws->buf + ws->at/'
plant "message is lost when the gap is closed"    ws 's/memmove(ws->buf + ws->base + gap/memmove(ws->buf + ws->base/'
plant "buffer is looked at after ws_keep()"       ws 's/^    ws->lent = false;//'
plant "want is too small"                         ws 's/ws->left ? ws->left : WS_MAX_CTRL/WS_MAX_CTRL/'
plant "message is kept after our close"           ws 's/if (ws->state == CLOSING) ws->have = 0;//'
plant "message in hand is kept after our close"   ws 's/if (ws->lent) ws->have = 0;//'
plant "frame may be sent without room"            ws 's/room - WS_MAX_HEAD >= len/room - WS_MAX_HEAD + 1 >= len/'
plant "long ping may be sent"                     ws 's/op != WS_PONG) || len > 125/op != WS_PONG)/'
plant "messages may be sent after a close"        ws '/^int ws_send/,/^}/s/if (ws->state != OPEN) return WS_CLOSING;//'
plant "invalid code may be sent"                  ws 's/if (code \&\& !ws_code_valid(code)) return WS_MISUSE;//'
plant "client does not mask"                      ws 's/to\[1\] |= 0x80;//'
plant "client uses one key for ever"              ws 's/m->counter++;//; s/m->left -= 4;/m->left = 16;/'
plant "keys repeat after five"                    ws 's/m->counter++;//'
plant "length is sent little-endian"              ws 's/8 \* (ext - 1 - i)/8 * i/'
plant "length 65536 is sent in 2 bytes"           ws 's/len <= UINT16_MAX ? 2 : 8;/len <= UINT16_MAX + 1u ? 2 : 8;/'
# Time
plant "no ping to a quiet peer"                   ws 's/if (!ws->pinged) return ws->since + c->ping_interval_ms;/if (!ws->pinged) return WS_NEVER;/'
plant "missing pong is forgiven"                  ws 's/else if (ws->pinged \&\& ws->config->ping_timeout_ms)/else if (0)/'
plant "bytes are no sign of life"                 ws '/^void ws_received/,/^}/s/ws->since = now;//'
plant "pong does not end the wait"                ws '/^void ws_received/,/^}/s/ws->pinged = false;//'
plant "kept bytes are a sign of life"             ws 's/if (len > kept \&\& ws->state == OPEN) {/if (ws->state == OPEN) {/'
plant "unfinished message waits for ever"         ws 's/ms \&\& ws->began != WS_NEVER ? ws->began + ms : WS_NEVER/WS_NEVER/'
plant "trickling renews the time of a message"    ws 's/else if (ws->lent \&\& ws->began == WS_NEVER)/else if (ws->lent)/'
plant "time runs for what is held back"           ws 's/else if (ws->lent \&\& ws->began == WS_NEVER)/else if (ws->began == WS_NEVER)/'
plant "time of a message runs on after it"        ws '/^static enum ws_ev message/,/^}/s/ws->began = WS_NEVER;//'
plant "time of a ping runs on after it"           ws 's/if (!ws->op) ws->began = WS_NEVER;//; s/if (ws->lent \&\& !begun) /if (0) /'
plant "ping ends the time of a message"           ws 's/if (!ws->op) ws->began = WS_NEVER;/ws->began = WS_NEVER;/'
plant "paused peer is timed out"                  ws 's/ || ws->paused) return WS_NEVER/) return WS_NEVER/'
plant "pause stops the time of a message"         ws 's/int32_t ms = ws->config->message_timeout_ms;/int32_t ms = ws->paused ? 0 : ws->config->message_timeout_ms;/'
plant "pause is remembered as silence"            ws '/^void ws_pause/,/^}/s/ws->since = now;//'
plant "close is awaited for ever"                 ws 's/if (ws->state == CLOSING) return ws->since + ws->config->close_timeout_ms;/if (ws->state == CLOSING) return WS_NEVER;/'
plant "bytes renew the wait for a close"           ws 's/if (len > kept \&\& ws->state == OPEN) {/if (len > kept) {/'
plant "pause renews the wait for a close"          ws 's/\&\& !paused \&\& ws->state == OPEN/\&\& !paused/'
plant "tick acts early"                           ws 's/if (now < ws_deadline(ws)) return;/if (now + 1 < ws_deadline(ws)) return;/'
# Handshake, 4.1 to 4.4
plant "any method upgrades"                       ws_handshake '/return 405;/d'
plant "HTTP/1.0 upgrades"                         ws_handshake '/^int ws_check_request/,/^}/s/if (h->minor != 1) return 400;//'
plant "Host may be missing"                       ws_handshake '/!http_find(h, "Host")/d'
plant "upgrade with a body"                       ws_handshake '/if (http_has_body(h)) return 400;/d'
plant "Upgrade is not looked at"                  ws_handshake '/if (!ws_is_upgrade(h)) return 426;/d'
plant "Connection is not looked at"               ws_handshake '/^int ws_check_request/,/^}/{/"Connection"/d}'
plant "any version"                               ws_handshake '/slice_is(version->value, "13")/d'
plant "key is not decoded"                        ws_handshake 's/ && base64_decode(nonce, f->value.p, 24) == 16//'
plant "key of 17 or 18 bytes"                     ws_handshake 's/base64_decode(nonce, f->value.p, 24) == 16/base64_decode(nonce, f->value.p, 24) != SIZE_MAX/'
plant "accept is not compared"                    ws_handshake '/given.len != 28/d'
plant "response without Upgrade"                  ws_handshake '/^int ws_check_response/,/^}/{/only(h, "Upgrade")/d}'
plant "response with an extension"                ws_handshake '/Sec-WebSocket-Extensions/d'
plant "response of HTTP/1.0"                      ws_handshake '/^int ws_check_response/,/^}/s/if (h->minor != 1) return 400;//'
# Heads, RFC 9110 and 9112
plant "bare LF and CR"                            http "/if (cr != (c == '.n')) return 400/d"
plant "control octets"                            http '/if (control) return 400/d'
plant "head of 8193 bytes"                        http 's/scan->at == HTTP_MAX_HEAD/scan->at == HTTP_MAX_HEAD + 1/'
plant "65 headers"                                http 's/h->n == HTTP_MAX_HEADERS/h->n == HTTP_MAX_HEADERS - 1/'
plant "names are not checked"                     http 's/if (!is_token(f->name)) return 400;//'
plant "repeated headers"                          http '/if (seen >> k & 1) return 400/d'
plant "Origin may be repeated"                    http 's/"Host", "Origin",/"Host",/'
plant "Host may be repeated"                      http 's/"Host", "Origin",/"Origin",/'
plant "Authorization may be repeated"             http 's/"Authorization", //'
plant "Content-Length may be repeated"            http 's/, "Content-Length",/,/'
plant "key may be repeated"                       http 's/"Sec-WebSocket-Key", //'
plant "version may be repeated"                   http 's/"Sec-WebSocket-Version" };/};/'
plant "Content-Length is not checked"             http '/!all_of(length->value, DIGITS)/d'
plant "Content-Length beside Transfer-Encoding"   http '/if (length && http_find(h, "Transfer-Encoding"))/d'
plant "body of Transfer-Encoding is not seen"     http '/if (http_find(h, "Transfer-Encoding")) return true/d'
plant "fragment in a target"                      http "s/ || c == '#') return false/) return false/"
plant "8-bit octets in a target"                  http 's/c <= 0x20 || c >= 0x7f/c <= 0x20 || c == 0x7f/'
plant "asterisk with every method"                http 's/return slice_is(h->method, "OPTIONS");/return true;/'
plant "HTTP/1.2"                                  http "s/s.p\[7\] > '1') return 505/s.p[7] > '2') return 505/"
plant "HTTP/2.1"                                  http "s/s.p\[5\] != '1' || //"
plant "port above 65535"                          http 's/return n <= 65535;/return true;/'
plant "empty port"                                http 's/s.len < 2 || //'
plant "letters in a port"                         http '/^static bool read_port/,/^}/{/is_digit/d}'
plant "empty labels"                              http 's/if (!label) return false;//'
plant "userinfo in a host"                        http "s/c != '-' && c != '_'/c != '-' \&\& c != '@'/"
plant "any address in brackets"                   http 's/if (v6) return n > 3 .*/if (v6) return true;/'
plant "final dot is kept"                         http 's/o->host.len--;//'
plant "port 0 of an Origin"                       http 's/return o->port || behind < 2;/return true;/'
plant "empty items end a list"                    http 's/if (item.len) return item; /return item; /'
plant "only the first line of a list"             http 's/off > f->value.len || !slice_is_nocase(f->name, name)/!slice_is_nocase(f->name, name)/'
plant "tokens with case"                          http 's/if (slice_is_nocase(item, token)) return true;/if (slice_is(item, token)) return true;/'
plant "tokens by prefix"                          http 's/return i == s.len && !text\[i\];/return !text[i];/'

echo "planted faults: $((planted - lived)) passed, $lived failed"
[ "$lived" -eq 0 ]
