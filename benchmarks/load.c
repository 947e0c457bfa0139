/* A client for what wrk cannot do: an open loop, and many keys by Zipf's law.
 *
 * Open loop: request i is due at i / RATE, whatever became of the ones before it, and its latency counts from then. A
 * server that stalls is charged for every request that was due meanwhile, not only for those that a closed loop had in
 * flight ("coordinated omission"). Connection j has the requests j, j + C, j + 2C ..., one at a time.
 *
 * usage: load PORT CONNECTIONS SECONDS RATE KEYS PATH [FIELD-LINE ...]
 *   RATE 0        closed loop: the next request as soon as the answer is there
 *   SECONDS 0     each of the KEYS once, in order: to fill a cache
 *   KEYS 0        PATH as it is; else PATH has two %u, for the size and the number of a key, or one for the number. Of
 *                 N keys, key i is asked for in proportion to 1 / (i + 1); its size is one of SIZES, and always the same.
 * prints: requests errors seconds p50 p99 p999      (latencies in µs)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT 262144
#define BUCKETS 4096

/* Skewed as the web is: most are small, the mean is 3.4 KiB. */
static const unsigned SIZES[] = {200, 300, 400, 500, 700, 900, 1000, 1200, 1500, 2000, 2500, 3000, 4000, 6000, 10000, 20000};

typedef struct {
    int fd, busy;
    uint64_t due;      /* when its request was, or will be, due: ns */
    size_t have, left; /* bytes of a head that are here; bytes of the content still to come */
    int in_content;
    char in[8192];
} Connection;

static double *cumulative;
static unsigned keys, filled;
static int sized; /* PATH has a place for the size */
static const char *path;
static char fields[8192];
static uint64_t requests, errors, slow[BUCKETS];
static char sink[INPUT];

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static unsigned pick(int filling)
{
    double wanted = (double)(next_random() >> 11) / 9007199254740992.0;
    unsigned low = 0, high = keys - 1;
    if (filling)
        return filled++;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (cumulative[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static unsigned size_of(unsigned key)
{
    return SIZES[(key * 2654435761u >> 16) % (sizeof SIZES / sizeof *SIZES)];
}

/* Latencies: exact below 1024 µs, in steps of 1/256 above. */
static unsigned bucket_of(uint64_t us)
{
    unsigned exponent = 0;
    while (us >> exponent >= 512)
        exponent++;
    if (us < 1024)
        return (unsigned)us;
    exponent = exponent < 13 ? exponent : 12;
    return 512 + exponent * 256 + (unsigned)(us >> exponent) % 256;
}

static uint64_t value_of(unsigned bucket)
{
    if (bucket < 1024)
        return bucket;
    return (uint64_t)((bucket - 512) % 256 + 256) << (bucket - 512) / 256;
}

static uint64_t percentile(double share)
{
    uint64_t wanted = (uint64_t)((double)requests * share), seen = 0;
    unsigned i;
    for (i = 0; i < BUCKETS; i++)
        if ((seen += slow[i]) > wanted)
            return value_of(i);
    return 0;
}

static int ask(Connection *one, int filling)
{
    char text[9216];
    int length;
    if (keys) {
        unsigned key = pick(filling);
        length = snprintf(text, sizeof text, "GET ");
        length += sized ? snprintf(text + length, 512, path, size_of(key), key) : snprintf(text + length, 512, path, key);
        length += snprintf(text + length, sizeof text - (size_t)length, " HTTP/1.1\r\n%s\r\n", fields);
    } else {
        length = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n%s\r\n", path, fields);
    }
    one->busy = 1;
    one->have = one->left = 0;
    one->in_content = 0;
    return send(one->fd, text, (size_t)length, MSG_NOSIGNAL) == length ? 0 : -1;
}

/* Takes what has arrived. 1: the answer is whole, 0: more is to come, -1: it is broken. */
static int take(Connection *one)
{
    for (;;) {
        ssize_t got;
        if (one->in_content) {
            if (!one->left)
                return 1;
            got = recv(one->fd, sink, one->left < INPUT ? one->left : INPUT, MSG_DONTWAIT);
            if (got <= 0)
                return got < 0 && errno == EAGAIN ? 0 : -1;
            one->left -= (size_t)got;
            continue;
        }
        got = recv(one->fd, one->in + one->have, sizeof one->in - 1 - one->have, MSG_DONTWAIT);
        if (got <= 0)
            return got < 0 && errno == EAGAIN ? 0 : -1;
        one->have += (size_t)got;
        one->in[one->have] = 0;
        char *end = strstr(one->in, "\r\n\r\n");
        if (end) {
            char *length = strcasestr(one->in, "\r\nContent-Length:");
            size_t head = (size_t)(end - one->in) + 4;
            size_t content = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
            if (memcmp(one->in, "HTTP/1.1 200", 12) && memcmp(one->in, "HTTP/1.1 304", 12))
                errors++;
            if (one->have - head > content)
                return -1;
            one->left = content - (one->have - head);
            one->in_content = 1;
        } else if (one->have == sizeof one->in - 1) {
            return -1;
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event events[256];
    int count, poll_fd, i, on = 1;
    double duration, rate;
    uint64_t begun, until, step;
    Connection *all;

    if (argc < 7) {
        fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS RATE KEYS PATH [FIELD-LINE ...]\n");
        return 2;
    }
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    count = atoi(argv[2]);
    duration = atof(argv[3]);
    rate = atof(argv[4]);
    keys = (unsigned)atoi(argv[5]);
    path = argv[6];
    snprintf(fields, sizeof fields, "Host: 127.0.0.1:%s\r\n", argv[1]);
    for (i = 7; i < argc; i++)
        snprintf(fields + strlen(fields), sizeof fields - strlen(fields), "%s\r\n", argv[i]);
    if (keys) {
        double sum = 0;
        const char *first = strstr(path, "%u");
        sized = first && strstr(first + 1, "%u");
        cumulative = malloc(keys * sizeof *cumulative);
        for (unsigned k = 0; k < keys; k++)
            cumulative[k] = sum += 1.0 / (k + 1);
        for (unsigned k = 0; k < keys; k++)
            cumulative[k] /= sum;
    }
    all = calloc((size_t)count, sizeof *all);
    poll_fd = epoll_create1(0);
    for (i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&address, sizeof address)) {
            perror("connect");
            return 1;
        }
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    step = rate > 0 ? (uint64_t)(1e9 * count / rate) : 0;
    begun = now();
    until = begun + (uint64_t)(duration * 1e9);
    for (i = 0; i < count; i++)
        all[i].due = begun + step * (uint64_t)i / (uint64_t)count;
    for (;;) {
        uint64_t at = now();
        int ready, busy = 0;
        for (i = 0; i < count; i++) {
            Connection *one = &all[i];
            if (!one->busy && (duration > 0 ? one->due < until && at < until + 1000000000u : filled < keys)) {
                if (!step)
                    one->due = at;
                if (one->due <= at && ask(one, duration <= 0) < 0)
                    goto broken;
            }
            /* One that is due before the end is still to be asked. */
            busy += one->busy || (step && one->due < until);
        }
        if (!busy || (duration > 0 && at > until + 2000000000u))
            break;
        ready = epoll_wait(poll_fd, events, 256, step ? 0 : 1000);
        at = now();
        for (i = 0; i < ready; i++) {
            Connection *one = events[i].data.ptr;
            int state = take(one);
            if (state < 0)
                goto broken;
            if (state == 0)
                continue;
            one->busy = 0;
            requests++;
            slow[bucket_of((at - one->due) / 1000)]++;
            one->due += step;
        }
    }
    printf("%lu %lu %.6f %lu %lu %lu\n", requests, errors, (double)(now() - begun) / 1e9, percentile(0.5),
        percentile(0.99), percentile(0.999));
    return 0;
broken:
    fprintf(stderr, "load: a connection broke: %s\n", strerror(errno));
    return 1;
}
