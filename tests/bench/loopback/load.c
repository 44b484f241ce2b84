/* A closed-loop load for benches: C connections to one port of this machine, each sending its next request as soon as
 * the last has been answered whole.
 *
 *   load --port 8080 --connections 64 --seconds 3 [--stream 1] [--requests N] [--warmup 0.3] [--model bench]
 *        [--ramp-s 0] [--prompt TEXT] [--prompt-bytes 200] [--prompts 64] [--bearer KEY] [--output-tokens 16]
 *
 * Prints one line of JSON: what was answered after the warm-up, requests and event-stream events a second, latency and
 * time to the first body byte in microseconds, errors (a status other than 200, an early end, a stream without [DONE]).
 * --ramp-s opens the connections evenly over that time: streams of equal length then do not start at one instant.
 * Ends after --seconds, or when --requests have been answered, whichever comes first.
 */
#define _GNU_SOURCE
#include "wire.h"

enum { TAIL = 32, MAX_PROMPTS = 65536 };
enum chunk_part { SIZE_LINE, DATA, AFTER_DATA, TRAILER };

struct conn {
    int fd, status, is_chunked, in_body, events_end, tail_len;
    uint64_t sent_ns, first_ns;
    long left;                       /* body or chunk bytes still to come; -1: until the connection closes */
    enum chunk_part part;
    char head[16384], tail[TAIL], line[32];
    size_t head_len, line_len;
};

static int poll_fd, is_stream, prompts, port;
static char *requests[MAX_PROMPTS];
static long next_prompt, answered, errors, events, all_events, n_latency, n_ttft, wanted;
static uint32_t *latency_us, *ttft_us;
static size_t latency_cap, ttft_cap;

static void note(uint32_t **values, long *n, size_t *cap, uint64_t ns) {
    if ((size_t)*n == *cap) *values = realloc(*values, sizeof **values * (*cap = *cap ? *cap * 2 : 65536));
    (*values)[(*n)++] = (uint32_t)(ns / 100);   /* tenths of microseconds */
}

static void send_next(struct conn *c) {
    const char *request = requests[next_prompt++ % prompts];
    size_t len = strlen(request), off = 0;
    c->status = c->is_chunked = c->in_body = c->events_end = c->tail_len = 0;
    c->head_len = c->line_len = 0;
    c->first_ns = 0;
    c->sent_ns = now_ns();
    while (off < len) {
        ssize_t n = send(c->fd, request + off, len - off, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return;   /* the read side sees the end of the connection */
        if (n > 0) off += (size_t)n;
    }
}

static void open_connection(struct conn *c) {
    struct sockaddr_in address = loopback_address(port);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    make_ready(c->fd);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &e);
    send_next(c);
}

static void reopen(struct conn *c) {
    close(c->fd);
    open_connection(c);
}

static void finish(struct conn *c, int is_whole) {
    int is_done = !is_stream || memmem(c->tail, (size_t)c->tail_len, "[DONE]", 6) != NULL;
    if (is_whole && is_done && c->status == 200) {
        answered++;
        note(&latency_us, &n_latency, &latency_cap, now_ns() - c->sent_ns);
    } else {
        errors++;
    }
}

/* Body bytes: the first one's time, how many events ended, the last bytes for [DONE]. */
static void take_body(struct conn *c, const char *p, size_t n) {
    if (!n) return;
    if (!c->first_ns) {
        c->first_ns = now_ns();
        note(&ttft_us, &n_ttft, &ttft_cap, c->first_ns - c->sent_ns);
    }
    if (!is_stream) return;
    for (const char *at = p, *end = p + n; at < end;) {
        if (c->events_end && *at == '\n') { events++; all_events++; c->events_end = 0; at++; continue; }
        const char *line = memchr(at, '\n', (size_t)(end - at));
        c->events_end = line != NULL;
        if (!line) break;
        at = line + 1;
    }
    size_t keep = n < TAIL ? n : TAIL, room = TAIL - keep, old = (size_t)c->tail_len;
    if (old > room) old = room;
    memmove(c->tail, c->tail + c->tail_len - old, old);
    memcpy(c->tail + old, p + n - keep, keep);
    c->tail_len = (int)(old + keep);
}

/* Chunked framing. Returns 1 when the body is whole, and sets `*p` behind it. */
static int take_chunks(struct conn *c, const char **p, const char *end) {
    while (*p < end) {
        if (c->part == DATA) {
            size_t n = (size_t)(end - *p) < (size_t)c->left ? (size_t)(end - *p) : (size_t)c->left;
            take_body(c, *p, n);
            *p += n;
            c->left -= (long)n;
            if (!c->left) c->part = AFTER_DATA;
            continue;
        }
        char byte = *(*p)++;
        if (byte != '\n') {
            if (c->line_len < sizeof c->line - 1) c->line[c->line_len++] = byte;
            continue;
        }
        c->line[c->line_len] = 0;
        int is_empty = c->line_len == 0 || c->line[0] == '\r';
        c->line_len = 0;
        if (c->part == TRAILER && is_empty) return 1;
        if (c->part == AFTER_DATA) c->part = SIZE_LINE;
        else if (c->part == SIZE_LINE) c->part = (c->left = strtol(c->line, NULL, 16)) ? DATA : TRAILER;
    }
    return 0;
}

static int take_head(struct conn *c, const char **p, const char *end) {
    while (*p < end && c->head_len < sizeof c->head - 1) {
        c->head[c->head_len++] = *(*p)++;
        if (c->head_len < 4 || memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4)) continue;
        c->head[c->head_len] = 0;
        c->status = atoi(c->head + 9);
        c->is_chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
        const char *length = strcasestr(c->head, "\r\ncontent-length:");
        c->left = length ? strtol(length + 17, NULL, 10) : -1;
        c->part = SIZE_LINE;
        c->in_body = 1;
        return 1;
    }
    return 0;
}

static void pull(struct conn *c, char *buffer, size_t size) {
    ssize_t got = recv(c->fd, buffer, size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        finish(c, c->in_body && !c->is_chunked && c->left < 0);
        reopen(c);
        return;
    }
    const char *p = buffer, *end = buffer + got;
    while (p < end) {
        if (!c->in_body && !take_head(c, &p, end)) return;
        int is_whole = 0;
        if (c->is_chunked) {
            is_whole = take_chunks(c, &p, end);
        } else {
            size_t n = c->left < 0 || (end - p) < c->left ? (size_t)(end - p) : (size_t)c->left;
            take_body(c, p, n);
            p += n;
            if (c->left >= 0) is_whole = !(c->left -= (long)n);
        }
        if (!is_whole) continue;
        finish(c, 1);
        if (strcasestr(c->head, "\r\nconnection: close")) { reopen(c); return; }
        send_next(c);
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_percentiles(const char *name, uint32_t *values, long n) {
    if (n) qsort(values, (size_t)n, sizeof *values, ascending);
    printf(", \"%s_us\": {\"n\": %ld", name, n);
    long p99 = (long)((double)(n - 1) * 0.99);
    if (n) printf(", \"p50\": %.1f, \"p99\": %.1f", values[(n - 1) / 2] / 10.0, values[p99] / 10.0);
    printf("}");
}

static void write_requests(int argc, char **argv) {
    const char *model = option(argc, argv, "--model", "bench"), *text = option(argc, argv, "--prompt", "Say a number.");
    const char *bearer = option(argc, argv, "--bearer", NULL), *tokens = option(argc, argv, "--output-tokens", "16");
    long fill = atol(option(argc, argv, "--prompt-bytes", "200"));
    char *padding = calloc(1, (size_t)fill + 1), key[512] = "";
    if (bearer) snprintf(key, sizeof key, "authorization: Bearer %s\r\n", bearer);
    for (int i = 0; i < prompts; i++) {
        char *body;
        for (long k = 0; k < fill; k++) padding[k] = k % 6 == 5 ? ' ' : (char)('a' + (i * 31 + k * 7 + k / 6) % 26);
        const char *stream = is_stream ? ",\"stream\":true" : "";
        int n = asprintf(&body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"%s %d %s\"}],"
                         "\"max_tokens\":%s%s}", model, text, i, padding, tokens, stream);
        if (n >= 0)
            n = asprintf(&requests[i], "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n%s"
                         "content-type: application/json\r\naccept: */*\r\nuser-agent: load\r\n"
                         "content-length: %d\r\n\r\n%s", port, key, n, body);
        if (n < 0) die("memory");
        free(body);
    }
}

int main(int argc, char **argv) {
    port = atoi(option(argc, argv, "--port", "0"));
    int connections = atoi(option(argc, argv, "--connections", "64"));
    double seconds = atof(option(argc, argv, "--seconds", "3")), warmup = atof(option(argc, argv, "--warmup", "0.3"));
    double ramp_ns = atof(option(argc, argv, "--ramp-s", "0")) * 1e9;
    wanted = atol(option(argc, argv, "--requests", "0"));
    is_stream = atoi(option(argc, argv, "--stream", "0"));
    prompts = atoi(option(argc, argv, "--prompts", "64"));
    if (port < 1 || connections < 1 || prompts < 1 || prompts > MAX_PROMPTS) die("--port, --connections or --prompts");
    raise_file_limit();
    write_requests(argc, argv);
    poll_fd = epoll_create1(0);
    struct conn *all = calloc((size_t)connections, sizeof *all);
    struct epoll_event ready[512];
    static char buffer[262144];
    uint64_t start = now_ns(), counted = start, now = start;
    int is_warm = warmup <= 0, opened = 0;
    while (now - counted < (uint64_t)(seconds * 1e9) && (!wanted || answered < wanted)) {
        for (; opened < connections && (double)(now - start) >= ramp_ns * opened / connections; opened++)
            open_connection(&all[opened]);
        int n = epoll_wait(poll_fd, ready, 512, opened < connections ? 1 : 20);
        for (int i = 0; i < n; i++) pull(ready[i].data.ptr, buffer, sizeof buffer);
        now = now_ns();
        if (!is_warm && now - start > (uint64_t)(warmup * 1e9)) {
            is_warm = 1;
            counted = now;
            answered = errors = events = n_latency = n_ttft = 0;
        }
    }
    double elapsed = (double)(now - counted) / 1e9;
    printf("{\"requests\": %ld, \"errors\": %ld, \"seconds\": %.3f, ", answered, errors, elapsed);
    printf("\"requests_per_s\": %.1f, \"events_per_s\": %.1f", (double)answered / elapsed, (double)events / elapsed);
    printf(", \"events_with_warmup\": %ld", all_events);
    print_percentiles("latency", latency_us, n_latency);
    print_percentiles("ttft", ttft_us, n_ttft);
    printf("}\n");
    return 0;
}
