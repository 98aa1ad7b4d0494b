// Asks one address over a unix socket again and again: so many connections, each with one request on its way.
// usage: http_load SOCKET TARGET CONNECTIONS SECONDS [new]
// With "new" each request comes on a connection of its own. Prints one JSON object; any answer but 200 ends it with 1.
// One thread and a parser of nothing but status and length, so that the server is the limit and not this program.
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { kMostConnections = 256, kBuffer = 4 << 20 };

struct connection {
  int fd;
  size_t used;
  double begun;
  char* data;
};

static struct connection connections[kMostConnections];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static char request[1024];
static size_t request_size;
static int poll_fd;
static float* times;
static size_t count, most;
static unsigned long long bytes;

static void fail(const char* what) {
  fprintf(stderr, "http_load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void open_connection(struct connection* c) {
  c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr*)&address, sizeof address) != 0) fail("connect");
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0) fail("epoll_ctl");
}

static void ask(struct connection* c) {
  c->used = 0;
  if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) fail("send");
}

/// The size of the whole answer, 0 while it is not known or not all there.
static size_t whole(const struct connection* c) {
  c->data[c->used] = 0;
  const char* head_end = strstr(c->data, "\r\n\r\n");
  if (head_end == NULL) return 0;
  if (strncmp(c->data, "HTTP/1.1 200", 12) != 0) {
    fprintf(stderr, "http_load: answered with %.400s\n", c->data);
    exit(1);
  }
  const size_t head = (size_t)(head_end - c->data) + 4;
  const char* length = strcasestr(c->data, "\r\nContent-Length:");
  if (length != NULL && length < head_end) {
    const size_t size = head + strtoul(length + 17, NULL, 10);
    return c->used >= size ? size : 0;
  }
  // Chunked: the last chunk is empty, and nothing else of a JSON document looks like its end.
  return c->used >= head + 5 && memcmp(c->data + c->used - 7, "\r\n0\r\n\r\n", 7) == 0 ? c->used : 0;
}

static int by_size(const void* a, const void* b) {
  const float x = *(const float*)a, y = *(const float*)b;
  return x < y ? -1 : x > y;
}

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const bool fresh = argc > 5 && strcmp(argv[5], "new") == 0;
  const int number = atoi(argv[3]);
  const double seconds = atof(argv[4]);
  if (number < 1 || number > kMostConnections || strlen(argv[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, argv[1]);
  request_size = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: docker\r\n%s\r\n", argv[2],
                                  fresh ? "Connection: close\r\n" : "");
  if (request_size >= sizeof request) return 2;
  poll_fd = epoll_create1(EPOLL_CLOEXEC);
  times = malloc((most = 4 << 20) * sizeof *times);
  for (int i = 0; i < number; ++i) {
    connections[i].data = malloc(kBuffer + 1);
    if (connections[i].data == NULL || times == NULL) fail("malloc");
    connections[i].begun = now();
    open_connection(&connections[i]);
    ask(&connections[i]);
  }
  const double begin = now(), end = begin + seconds;
  double at = begin;
  while (at < end) {
    struct epoll_event events[64];
    const int ready = epoll_wait(poll_fd, events, 64, 1000);
    for (int i = 0; i < ready; ++i) {
      struct connection* c = events[i].data.ptr;
      const ssize_t got = recv(c->fd, c->data + c->used, kBuffer - c->used, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) fail("the server closed the connection");
      c->used += (size_t)got;
      const size_t size = whole(c);
      if (size == 0) continue;
      bytes += size;
      at = now();
      if (count < most) times[count++] = (float)(at - c->begun);
      c->begun = at;
      if (fresh) {
        close(c->fd);
        open_connection(c);
      }
      ask(c);
    }
    at = now();
  }
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  qsort(times, count, sizeof *times, by_size);
  if (count == 0) fail("no answer came in time");
  printf(
      "{\"requests\": %zu, \"rate\": %.1f, \"median_us\": %.0f, \"p99_us\": %.0f, \"bytes\": %llu, \"busy\": %.2f}\n",
      count, (double)count / (at - begin), 1e6 * times[count / 2], 1e6 * times[count * 99 / 100], bytes / count,
      cpu / (at - begin));
}
