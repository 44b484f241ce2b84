/* What the mock engine and the load share: the clock, small parsing, and how a socket is made ready. */
#ifndef WIRE_H
#define WIRE_H
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
    fprintf(stderr, "loopback: %s: %s\n", what, errno ? strerror(errno) : "bad argument");
    exit(1);
}

/* The whole number after `key` in the text, or `otherwise`: both `"max_tokens": 5` and `chunks-5` read this way. */
static inline long number_after(const char *text, const char *key, long otherwise) {
    const char *at = strstr(text, key);
    if (!at) return otherwise;
    for (at += strlen(key); *at == ' ' || *at == ':' || *at == '-'; at++) {}
    return *at >= '0' && *at <= '9' ? strtol(at, NULL, 10) : otherwise;
}

/* The value of a command-line option `--name value`, or `otherwise`. */
static inline const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

static inline void make_ready(int fd) {
    int yes = 1;
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) die("fcntl");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static inline struct sockaddr_in loopback_address(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* As many open files as the machine allows: thousands of connections each take one. */
static inline void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}
#endif
