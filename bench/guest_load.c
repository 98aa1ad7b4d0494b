// guest_load: what a guest does while it is measured, as one static program, since busybox has none of it.
//   guest_load read FILE BLOCK TOTAL      reads the file's begin over and over, past the page cache
//   guest_load send ADDRESS PORT TOTAL    connects and sends zeroes
//   guest_load receive ADDRESS PORT       connects and receives until the other side ends
//   guest_load serve PORT TOTAL           in turns for each connection: swallows what comes; sends TOTAL bytes
// Sizes are in KiB. Prints "MB_PER_S <number>" of what it moved, by the monotonic clock. Exit code 1: an error, which
// is named.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (128 << 10)

static char* chunk;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int fail(const char* what) {
  perror(what);
  return 1;
}

static int tell(long long bytes, double seconds) {
  printf("MB_PER_S %.3f\n", (double)bytes / seconds / 1e6);
  return 0;
}

static int read_disk(const char* path, long long block, long long total) {
  const int file = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
  void* buffer = NULL;
  if (file < 0 || posix_memalign(&buffer, 4096, (size_t)block) != 0) return fail(path);
  memset(buffer, 0, (size_t)block);
  const double begin = now();
  for (long long done = 0; done < total;) {
    const ssize_t got = read(file, buffer, (size_t)block);
    if (got < 0) return fail(path);
    if (got == 0 && lseek(file, 0, SEEK_SET) != 0) return fail(path);
    done += got;
  }
  return tell(total, now() - begin);
}

static int connected(const char* address, const char* port) {
  struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  const int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (one < 0 || inet_pton(AF_INET, address, &peer.sin_addr) != 1) return -1;
  return connect(one, (struct sockaddr*)&peer, sizeof peer) == 0 ? one : -1;
}

static int send_zeroes(int to, long long total) {
  while (total > 0) {
    const ssize_t sent = send(to, chunk, total < CHUNK ? (size_t)total : CHUNK, MSG_NOSIGNAL);
    if (sent < 0) return -1;
    total -= sent;
  }
  shutdown(to, SHUT_WR);
  return 0;
}

static long long swallow(int from) {
  long long total = 0;
  for (;;) {
    const ssize_t got = recv(from, chunk, CHUNK, 0);
    if (got < 0) return -1;
    if (got == 0) return total;
    total += got;
  }
}

// A sender is done when the other side has taken everything and has ended its direction too.
static int client(const char* address, const char* port, long long total) {
  const int peer = connected(address, port);
  if (peer < 0) return fail(address);
  const double begin = now();
  if (total > 0 && send_zeroes(peer, total) != 0) return fail("send");
  const long long received = swallow(peer);
  if (received < 0) return fail("receive");
  return tell(total > 0 ? total : received, now() - begin);
}

static int serve(const char* port, long long total) {
  struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr*)&own, sizeof own) != 0 || listen(listener, 16) != 0) return fail("listen");
  for (int turn = 0;; turn = !turn) {
    const int peer = accept(listener, NULL, NULL);
    if (peer < 0) return fail("accept");
    if (turn == 0 ? swallow(peer) < 0 : send_zeroes(peer, total) != 0) return fail("serve");
    close(peer);
  }
}

int main(int argc, char** argv) {
  chunk = calloc(1, CHUNK);
  if (argc == 5 && strcmp(argv[1], "read") == 0) return read_disk(argv[2], atoll(argv[3]) << 10, atoll(argv[4]) << 10);
  if (argc == 5 && strcmp(argv[1], "send") == 0) return client(argv[2], argv[3], atoll(argv[4]) << 10);
  if (argc == 4 && strcmp(argv[1], "receive") == 0) return client(argv[2], argv[3], 0);
  if (argc == 4 && strcmp(argv[1], "serve") == 0) return serve(argv[2], atoll(argv[3]) << 10);
  fprintf(stderr, "guest_load: what?\n");
  return 2;
}
