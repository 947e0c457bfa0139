/* The floor: what one process must pay to answer a keep-alive request from memory over the kernel's TCP.
 *
 * One thread, one epoll, one read and one writev a request; no limits, no checks, no semantics. Whatever a proxy costs
 * above this is its own doing. The same program is the origin of every benchmark, so that an origin is never the
 * bottleneck. It is not a web server: it understands the requests that the benchmark sends and nothing else.
 *
 *   GET /hit/N       N bytes of text that any cache may keep (304 when the request carries If-None-Match)
 *   GET /noise/N     the same, of bytes that no codec makes smaller
 *   GET /validate/N  the same as hit, but to be asked about each time (no-cache)
 *   GET /miss/N      N bytes that no cache may keep
 *   GET /chunked/N   the same, chunked: one chunk
 *   GET /private/N   N bytes for one client, with a cookie
 *   POST /post/N     N bytes, when the request's content has been read
 *   POST /early/N    N bytes, as soon as the request's head has been read; the content is read afterwards
 *   GET /count       how many of the requests above it has answered, as text
 *
 * usage: floor PORT [VERSION]; VERSION sits in the entity tag. Connections that somebody else has opened can be sent to
 * the abstract datagram socket flyby-floor-PORT (unix(7), SCM_RIGHTS): they are answered as if they had been accepted.
 * Compiled by servers.py with the system's compiler.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LARGEST (4 << 20)
#define INPUT 16384
#define EVENTS 256
#define KNOWN 32

enum { HIT, NOISE, VALIDATE, MISS, CHUNKED, PRIVATE, POST, EARLY, KINDS };

static const struct {
    const char *target; /* what a request begins with, up to N */
    const char *fields;
    int tagged;         /* has an entity tag, so that it can be asked whether it has changed */
} kinds[KINDS] = {
    [HIT] = {"GET /hit/", "Content-Type: text/plain\r\nCache-Control: public, max-age=86400\r\n", 1},
    [NOISE] = {"GET /noise/", "Content-Type: application/octet-stream\r\nCache-Control: public, max-age=86400\r\n", 1},
    [VALIDATE] = {"GET /validate/", "Content-Type: text/plain\r\nCache-Control: no-cache\r\n", 1},
    [MISS] = {"GET /miss/", "Content-Type: text/plain\r\nCache-Control: no-store\r\n", 0},
    [CHUNKED] = {"GET /chunked/", "Content-Type: text/plain\r\nCache-Control: no-store\r\n", 0},
    [PRIVATE] = {"GET /private/",
        "Content-Type: text/html\r\nCache-Control: private\r\nSet-Cookie: seen=1760000000; path=/; HttpOnly\r\n", 0},
    [POST] = {"POST /post/", "Content-Type: text/plain\r\nCache-Control: no-store\r\n", 0},
    [EARLY] = {"POST /early/", "Content-Type: text/plain\r\nCache-Control: no-store\r\n", 0},
};

typedef struct {
    int kind;
    size_t size;
    char head[512];
    size_t head_length;
    const char *body;
    size_t body_length;
    char unchanged[512]; /* the 304 of one that is tagged */
    size_t unchanged_length;
} Answer;

typedef struct {
    int fd;
    size_t have;          /* bytes of requests that wait in `in` */
    const char *head;     /* the rest of the answer that is being written; both lengths 0 when there is none */
    size_t head_left;
    const char *body;
    size_t body_left;
    int waits_for_room;   /* EPOLLOUT is asked for */
    size_t content;       /* bytes of a request's content that are still to be read, and are not looked at */
    const Answer *late;   /* what is answered once they have been; NULL when it has been answered already */
    char in[INPUT];
} Client;

static char body_bytes[LARGEST], noise[LARGEST];
static Answer answers[KNOWN];
static int known;
static char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
static char count_head[256];
static unsigned long answered;
static const char *version = "1";
static int poll_fd;

static void date_now(char *to, size_t room)
{
    time_t now = time(NULL);
    strftime(to, room, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
}

/* Words, so that a cache which compresses finds what it finds in pages: about a third is left. */
static void fill_body(void)
{
    static const char letters[] = "etaoinshrdlucmfwypvbgkjqxz";
    static char words[512][12];
    unsigned long state = 88172645463325252ul;
    size_t at = 0;
    int i, j;

    for (i = 0; i < 512; i++)
        for (j = 0; j < 3 + i % 8; j++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            words[i][j] = letters[(state >> 20) % 26 * ((state >> 40) % 26) / 26];
        }
    while (at < LARGEST) {
        const char *word;
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        /* Short words are common, as in any language. */
        for (word = words[(state >> 20) % 512 * ((state >> 40) % 512) / 512]; *word && at < LARGEST; word++)
            body_bytes[at++] = *word;
        if (at < LARGEST)
            body_bytes[at++] = (state >> 50) % 12 ? ' ' : '\n';
    }
}

static void fill_noise(void)
{
    unsigned long state = 88172645463325252ul;
    size_t at;
    for (at = 0; at < LARGEST; at += sizeof state) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        memcpy(noise + at, &state, sizeof state);
    }
}

/* The body as one chunk and the end. */
static void frame(Answer *one)
{
    char *framed = malloc(one->size + 64);
    int at = framed ? sprintf(framed, "%zx\r\n", one->size) : 0;
    if (!framed)
        exit(1);
    memcpy(framed + at, body_bytes, one->size);
    memcpy(framed + at + one->size, "\r\n0\r\n\r\n", 7);
    one->body = framed;
    one->body_length = (size_t)at + one->size + 7;
}

static const Answer *answer_for(int kind, size_t size)
{
    char date[64], length[64], tag[64] = "";
    Answer *one;
    int i;

    for (i = 0; i < known; i++)
        if (answers[i].size == size && answers[i].kind == kind)
            return &answers[i];
    if (known == KNOWN || size > LARGEST)
        return NULL;
    one = &answers[known++];
    one->kind = kind;
    one->size = one->body_length = size;
    one->body = kind == NOISE ? noise : body_bytes;
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", size);
    if (kind == CHUNKED) {
        frame(one);
        strcpy(length, "Transfer-Encoding: chunked\r\n");
    }
    if (kinds[kind].tagged)
        snprintf(tag, sizeof tag, "ETag: \"%s\"\r\n", version);
    date_now(date, sizeof date);
    one->head_length = (size_t)snprintf(one->head, sizeof one->head,
        "HTTP/1.1 200 OK\r\nServer: floor\r\nDate: %s\r\n%s%s%s\r\n", date, length, kinds[kind].fields, tag);
    if (kinds[kind].tagged)
        one->unchanged_length = (size_t)snprintf(one->unchanged, sizeof one->unchanged,
            "HTTP/1.1 304 Not Modified\r\nServer: floor\r\nDate: %s\r\n%s%s\r\n", date,
            strstr(kinds[kind].fields, "Cache-Control"), tag);
    return one;
}

static void answer(Client *client, const Answer *one)
{
    client->head = one->head;
    client->head_left = one->head_length;
    client->body = one->body;
    client->body_left = one->body_length;
}

static void choose(Client *client, const char *request, size_t length)
{
    const Answer *one = NULL;
    int kind;

    client->body_left = 0;
    if (length > 12 && !memcmp(request, "GET /count ", 11)) {
        int digits = snprintf(NULL, 0, "%lu", answered);
        client->head = count_head;
        client->head_left = (size_t)snprintf(count_head, sizeof count_head,
            "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n%lu", digits, answered);
        return;
    }
    for (kind = 0; kind < KINDS; kind++) {
        size_t begins = strlen(kinds[kind].target);
        if (length > begins && !memcmp(request, kinds[kind].target, begins)) {
            one = answer_for(kind, strtoul(request + begins, NULL, 10));
            break;
        }
    }
    if (!one) {
        client->head = missing;
        client->head_left = sizeof missing - 1;
        return;
    }
    answered++;
    if (one->unchanged_length && memmem(request, length, "\r\nIf-None-Match:", 16)) {
        client->head = one->unchanged;
        client->head_left = one->unchanged_length;
        return;
    }
    if (kind == POST || kind == EARLY) {
        /* Proxies write this name in one of two ways. */
        const char *counted = memmem(request, length, "\r\nContent-Length:", 17);
        counted = counted ? counted : memmem(request, length, "\r\ncontent-length:", 17);
        client->content = counted ? strtoul(counted + 17, NULL, 10) : 0;
        if (kind == POST && client->content) {
            client->late = one;
            return;
        }
    }
    answer(client, one);
}

static void drop(Client *client)
{
    close(client->fd);
    free(client);
}

static void wait_for_room(Client *client, int wanted)
{
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = client};
    if (client->waits_for_room == wanted)
        return;
    client->waits_for_room = wanted;
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

/* Writes what is left of the answer. 1: all written, 0: the socket is full, -1: the client is gone. */
static int push(Client *client)
{
    while (client->head_left || client->body_left) {
        struct iovec parts[2] = {{(void *)client->head, client->head_left}, {(void *)client->body, client->body_left}};
        ssize_t sent = writev(client->fd, parts, client->body_left ? 2 : 1);
        size_t of_head;
        if (sent < 0) {
            if (errno == EAGAIN) {
                wait_for_room(client, 1);
                return 0;
            }
            return -1;
        }
        of_head = (size_t)sent < client->head_left ? (size_t)sent : client->head_left;
        client->head += of_head;
        client->head_left -= of_head;
        client->body += (size_t)sent - of_head;
        client->body_left -= (size_t)sent - of_head;
    }
    wait_for_room(client, 0);
    return 1;
}

/* Gives up the first bytes of what has been read. */
static void forget(Client *client, size_t length)
{
    client->have -= length;
    if (client->have)
        memmove(client->in, client->in + length, client->have);
}

/* Answers every complete request that has been read. 0: fine, -1: the client is gone. */
static int work(Client *client)
{
    for (;;) {
        char *end;
        size_t length;
        int state = push(client);
        if (state <= 0)
            return state;
        if (client->content) {
            length = client->content < client->have ? client->content : client->have;
            client->content -= length;
            forget(client, length);
            if (client->content)
                return 0;
            if (client->late) {
                answer(client, client->late);
                client->late = NULL;
                continue;
            }
        }
        end = memmem(client->in, client->have, "\r\n\r\n", 4);
        if (!end)
            return client->have == INPUT ? -1 : 0;
        length = (size_t)(end - client->in) + 4;
        choose(client, client->in, length);
        forget(client, length);
    }
}

static void serve(int fd)
{
    int on = 1;
    Client *client = calloc(1, sizeof *client);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (!client)
        exit(1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client->fd = fd;
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void welcome(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        serve(fd);
}

static void receive(int handed)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    while (recvmsg(handed, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) >= 0) {
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header && header->cmsg_type == SCM_RIGHTS) {
            int fd;
            memcpy(&fd, CMSG_DATA(header), sizeof fd);
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
            serve(fd);
        }
        message.msg_controllen = sizeof room;
    }
}

static int open_socket(const char *port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int handed = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "flyby-floor-%s", port);
    if (bind(handed, (struct sockaddr *)&address, (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)length))) {
        perror("floor");
        exit(1);
    }
    return handed;
}

static void attend(Client *client, unsigned events)
{
    if (events & EPOLLIN && client->have < INPUT) {
        ssize_t got = read(client->fd, client->in + client->have, INPUT - client->have);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            drop(client);
            return;
        }
        if (got > 0)
            client->have += (size_t)got;
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        drop(client);
        return;
    }
    if (work(client) < 0)
        drop(client);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
    int listener, handed, on = 1, i;

    if (argc < 2) {
        fprintf(stderr, "usage: floor PORT [VERSION]\n");
        return 2;
    }
    if (argc > 2)
        version = argv[2];
    signal(SIGPIPE, SIG_IGN);
    fill_body();
    fill_noise();
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("floor");
        return 1;
    }
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    event.data.ptr = NULL;
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    handed = open_socket(argv[1]);
    event.data.ptr = &handed;
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, handed, &event);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (i = 0; i < ready; i++) {
            if (events[i].data.ptr == &handed)
                receive(handed);
            else if (events[i].data.ptr)
                attend(events[i].data.ptr, events[i].events);
            else
                welcome(listener);
        }
    }
}
