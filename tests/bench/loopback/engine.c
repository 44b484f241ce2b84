/* A mock inference engine for benches: N ports of one process, chat completions in OpenAI's shape, whole or streamed.
 *
 *   engine --ports 8 --chunks 64 --every-us 10000
 *
 * Prints {"ports": [...]} once it listens, and serves until it is killed. What a request gets can be asked for in its
 * prompt, since gateways pass prompts on untouched: `hold-MS` waits before the answer, `chunks-N` and `every-US` shape
 * a stream, `pad-BYTES` fattens its events. `every-0` streams as fast as the reader reads.
 * GET /requests says how many are being served on all ports, how many connections were closed under a request that was
 * being served, and when the last one was, in nanoseconds of the monotonic clock.
 */
#define _GNU_SOURCE
#include "wire.h"

#define MODEL "bench"
#define LABELS "{model_name=\"" MODEL "\",engine=\"0\"} "
#define USAGE "\"usage\":{\"prompt_tokens\":16,\"completion_tokens\":%ld,\"total_tokens\":%ld}"
#define CHUNK \
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"" MODEL "\","
enum { MAX_PORTS = 64, BODY_LIMIT = 4 << 20 };
enum stage { IDLE, ANSWER, STREAM, TAIL };

struct conn {
    int fd, port, is_timed, is_post;   /* `is_post`: a POST is being served */
    enum stage stage;
    char *in, *own, *event;          /* request bytes; an answer of this request's own; one event of this stream */
    size_t in_len, in_cap, event_len, off, piece_len;
    const char *piece;               /* what is being written now, `off` bytes of it gone */
    long left, total;
    int wants_usage;
    uint64_t due_ns, every_ns, hold_ns;   /* when the next event is due; nothing is written before `hold_ns` */
    struct conn *next_dead;
};

static int poll_fd, listeners[MAX_PORTS], ports, n_timed;
static long running[MAX_PORTS], served[MAX_PORTS], all_running, n_aborts, default_chunks, default_every_us;
static uint64_t last_abort_ns;
static struct conn **timed, *dead;
static char answer[1024];

static void watch_time(struct conn *c, int on) {
    if (on == c->is_timed) return;
    c->is_timed = on;
    if (on) {
        timed = realloc(timed, sizeof *timed * (size_t)(n_timed + 1));
        timed[n_timed++] = c;
        return;
    }
    for (int i = 0; i < n_timed; i++)
        if (timed[i] == c) timed[i--] = timed[--n_timed];
}

static void finish(struct conn *c) {
    if (c->is_post) {
        running[c->port]--;
        all_running--;
    }
    c->stage = IDLE;
    c->is_post = 0;
    c->hold_ns = 0;
    watch_time(c, 0);
}

static void leave(struct conn *c) {
    if (c->fd < 0) return;
    if (c->is_post) {
        n_aborts++;
        last_abort_ns = now_ns();
    }
    finish(c);
    close(c->fd);
    c->fd = -1;
    c->next_dead = dead;
    dead = c;
}

static void say(struct conn *c, const char *piece, size_t len) {
    c->piece = piece;
    c->piece_len = len;
    c->off = 0;
}

static void say_json(struct conn *c, const char *status, const char *type, const char *body) {
    free(c->own);
    int n = asprintf(&c->own, "HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s", status, type,
                     strlen(body), body);
    if (n < 0) die("memory");
    say(c, c->own, (size_t)n);
    c->stage = ANSWER;
}

static void frame(struct conn *c, const char *payload, int last) {
    free(c->own);
    int n = asprintf(&c->own, "%zx\r\n%s\r\n%s", strlen(payload), payload, last ? "0\r\n\r\n" : "");
    if (n < 0) die("memory");
    say(c, c->own, (size_t)n);
}

static void start_stream(struct conn *c, const char *body) {
    c->left = c->total = number_after(body, "chunks-", default_chunks);
    c->every_ns = (uint64_t)number_after(body, "every-", default_every_us) * 1000;
    c->wants_usage = strstr(body, "include_usage") != NULL;
    long pad = number_after(body, "pad-", 5);
    char *text = malloc((size_t)pad + 1), *payload;
    memset(text, 'w', (size_t)pad);
    text[pad] = 0;
    const char *shape = CHUNK "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"finish_reason\":null}]}\n\n";
    if (asprintf(&payload, shape, text) < 0) die("memory");
    free(c->event);
    int n = asprintf(&c->event, "%zx\r\n%s\r\n", strlen(payload), payload);
    c->event_len = (size_t)n;
    free(payload);
    free(text);
    free(c->own);
    const char *role = CHUNK "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                             "\"finish_reason\":null}]}\n\n";
    n = asprintf(&c->own, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                          "%zx\r\n%s\r\n", strlen(role), role);
    say(c, c->own, (size_t)n);
    c->stage = STREAM;
    c->due_ns = now_ns() + c->every_ns;
}

static void end_stream(struct conn *c) {
    char payload[1024], usage[256] = "";
    if (c->wants_usage)
        snprintf(usage, sizeof usage, CHUNK "\"choices\":[]," USAGE "}\n\n", c->total, c->total + 16);
    const char *shape = CHUNK "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
                        "%sdata: [DONE]\n\n";
    snprintf(payload, sizeof payload, shape, usage);
    frame(c, payload, 1);
    c->stage = TAIL;
}

static void answer_get(struct conn *c, const char *path) {
    char body[1024];
    if (!strncmp(path, "/v1/models", 10)) {
        say_json(c, "200 OK", "application/json", "{\"object\":\"list\",\"data\":[{\"id\":\"" MODEL "\","
                 "\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"bench\"}]}");
    } else if (!strncmp(path, "/metrics", 8)) {
        snprintf(body, sizeof body, "vllm:num_requests_running" LABELS "%ld\nvllm:num_requests_waiting" LABELS "0\n"
                 "vllm:kv_cache_usage_perc" LABELS "%.4f\nvllm:generation_tokens_total" LABELS "%ld\n",
                 running[c->port], (double)running[c->port] / 1024, served[c->port] * 16);
        say_json(c, "200 OK", "text/plain; version=0.0.4", body);
    } else if (!strncmp(path, "/requests", 9)) {
        sprintf(body, "{\"running\": %ld, \"aborts\": %ld, \"last_abort_ns\": %llu}", all_running, n_aborts,
                (unsigned long long)last_abort_ns);
        say_json(c, "200 OK", "application/json", body);
    } else if (!strncmp(path, "/health", 7)) {
        say_json(c, "200 OK", "application/json", "{}");
    } else {
        say_json(c, "404 Not Found", "application/json",
                 "{\"error\":{\"message\":\"no such path\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}}");
    }
}

static void answer_post(struct conn *c, const char *body) {
    c->is_post = 1;
    running[c->port]++;
    all_running++;
    served[c->port]++;
    long hold_ms = number_after(body, "hold-", 0);
    if (strstr(body, "\"stream\":true") || strstr(body, "\"stream\": true")) {
        start_stream(c, body);
    } else {
        say(c, answer, strlen(answer));
        c->stage = ANSWER;
    }
    if (!hold_ms) return;
    c->hold_ns = c->due_ns = now_ns() + (uint64_t)hold_ms * 1000000u;
    watch_time(c, 1);
}

/* Writes what can be written; a paced stream waits for its time, a full socket for the reader. */
static void push(struct conn *c) {
    while (c->stage != IDLE && c->fd >= 0) {
        if (c->off < c->piece_len) {
            if (c->hold_ns && now_ns() < c->hold_ns) return;
            c->hold_ns = 0;
            ssize_t n = send(c->fd, c->piece + c->off, c->piece_len - c->off, MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) return;
            if (n < 0) { leave(c); return; }
            c->off += (size_t)n;
        } else if (c->stage == STREAM) {
            if (c->every_ns) {
                watch_time(c, 1);
                if (now_ns() < c->due_ns) return;
                c->due_ns += c->every_ns;
            }
            if (c->left-- > 0) say(c, c->event, c->event_len);
            else end_stream(c);
        } else {
            finish(c);
        }
    }
}

/* Takes one whole request from the bytes read, if it is there. */
static int take_request(struct conn *c) {
    if (!c->in_len) return 0;
    c->in[c->in_len] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return 0;
    char *body = end + 4, *length = strcasestr(c->in, "\r\ncontent-length:");
    char *chunked = strcasestr(c->in, "\r\ntransfer-encoding: chunked");
    size_t size = 0;
    if (chunked && chunked < end) {
        char *last = strstr(body, "0\r\n\r\n");
        if (!last) return 0;
        size = (size_t)(last + 5 - body);
    } else if (length && length < end) {
        size = (size_t)strtoul(length + 17, NULL, 10);
    }
    size_t whole = (size_t)(body - c->in) + size;
    if (c->in_len < whole) return 0;
    char saved = c->in[whole], *path = strchr(c->in, ' ') + 1;
    c->in[whole] = 0;
    if (!strncmp(c->in, "GET ", 4) || !strncmp(c->in, "HEAD", 4)) answer_get(c, path);
    else answer_post(c, body);
    c->in[whole] = saved;
    memmove(c->in, c->in + whole, c->in_len - whole);
    c->in_len -= whole;
    return 1;
}

static void serve(struct conn *c) {
    push(c);
    while (c->fd >= 0 && c->stage == IDLE && take_request(c)) push(c);
}

static void pull(struct conn *c) {
    for (;;) {
        if (c->in_cap < c->in_len + 16384) c->in = realloc(c->in, (c->in_cap = c->in_len + 65536) + 1);
        ssize_t n = c->in_cap > BODY_LIMIT ? 0 : recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) { leave(c); return; }
        c->in_len += (size_t)n;
        if (c->in_len < c->in_cap) break;
    }
    serve(c);
}

static void welcome(int port) {
    int fd;
    while ((fd = accept(listeners[port], NULL, NULL)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->port = port;
        make_ready(fd);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
        pull(c);
    }
}

static void listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback_address(0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) die("listen");
    make_ready(fd);
    listeners[port] = fd;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listeners[port]};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
    socklen_t size = sizeof address;
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("%s%d", port ? ", " : "{\"ports\": [", ntohs(address.sin_port));
}

int main(int argc, char **argv) {
    ports = atoi(option(argc, argv, "--ports", "1"));
    default_chunks = atol(option(argc, argv, "--chunks", "64"));
    default_every_us = atol(option(argc, argv, "--every-us", "10000"));
    if (ports < 1 || ports > MAX_PORTS) die("--ports");
    raise_file_limit();
    const char *body =
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"" MODEL "\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
        "\"content\":\"one two three four five six seven eight\"},"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":16,\"completion_tokens\":16,\"total_tokens\":32}}";
    const char *head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    snprintf(answer, sizeof answer, "%s%zu\r\n\r\n%s", head, strlen(body), body);
    poll_fd = epoll_create1(0);
    for (int i = 0; i < ports; i++) listen_on(i);
    printf("]}\n");
    fflush(stdout);
    struct epoll_event events[512];
    uint64_t tick = 0;
    for (;;) {
        int n = epoll_wait(poll_fd, events, 512, n_timed ? 1 : -1);
        for (int i = 0; i < n; i++) {
            int *listener = events[i].data.ptr;
            struct conn *c = events[i].data.ptr;
            if (listener >= listeners && listener < listeners + MAX_PORTS) {
                welcome((int)(listener - listeners));
                continue;
            }
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) pull(c);
            if (c->fd >= 0 && c->stage != IDLE) serve(c);
        }
        uint64_t now = n_timed ? now_ns() : 0;
        if (n_timed && now - tick > 250000) {
            tick = now;
            for (int i = n_timed - 1; i >= 0; i--)
                if (i < n_timed && timed[i]->due_ns <= now) serve(timed[i]);
        }
        while (dead) {
            struct conn *c = dead;
            dead = c->next_dead;
            free(c->in); free(c->own); free(c->event); free(c);
        }
    }
}
