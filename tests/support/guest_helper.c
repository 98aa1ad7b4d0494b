// What the test guests need and busybox lacks: vsock peers and block requests by ioctl.
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static void write_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t written = write(fd, data, size);
    if (written <= 0) fail("write");
    data += written;
    size -= (size_t)written;
  }
}

static int vsock(void) {
  const int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  return fd;
}

static int accept_at(unsigned port, int* listener) {
  if (*listener < 0) {
    *listener = vsock();
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
    if (bind(*listener, (const struct sockaddr*)&address, sizeof address) != 0 || listen(*listener, 128) != 0) {
      fail("listen");
    }
    // From here on in the background, so that the shell goes on only when somebody can connect.
    if (fork() > 0) exit(0);
    setsid();
  }
  const int fd = accept(*listener, NULL, NULL);
  if (fd < 0) fail("accept");
  return fd;
}

static char buffer[1 << 16];

// echo PORT: sends back what comes, each connection in a process of its own; ends its half when the peer has.
static void echo(unsigned port) {
  signal(SIGCHLD, SIG_IGN);
  for (int listener = -1;;) {
    const int fd = accept_at(port, &listener);
    if (fork() > 0) {
      close(fd);
      continue;
    }
    for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) write_all(fd, buffer, (size_t)got);
    exit(0);
  }
}

// sink PORT: counts what comes until the end, and says the number.
static void sink(unsigned port) {
  for (int listener = -1;;) {
    const int fd = accept_at(port, &listener);
    unsigned long long total = 0;
    for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) total += (unsigned long long)got;
    const int size = snprintf(buffer, sizeof buffer, "%llu\n", total);
    write_all(fd, buffer, (size_t)size);
    close(fd);
  }
}

// source PORT BYTES: sends so many bytes to each who connects.
static void source(unsigned port, unsigned long long bytes) {
  memset(buffer, 's', sizeof buffer);
  for (int listener = -1;;) {
    const int fd = accept_at(port, &listener);
    for (unsigned long long left = bytes; left > 0;) {
      const size_t part = left < sizeof buffer ? (size_t)left : sizeof buffer;
      write_all(fd, buffer, part);
      left -= part;
    }
    close(fd);
  }
}

// say PORT TEXT: connects to the host, sends the text, ends its half, and prints what comes back.
static void say(unsigned port, const char* text) {
  const int fd = vsock();
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
  if (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) fail("connect");
  write_all(fd, text, strlen(text));
  shutdown(fd, SHUT_WR);
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) write_all(1, buffer, (size_t)got);
}

// block REQUEST DEVICE OFFSET SIZE
static void block(const char* what, const char* device, const char* offset, const char* size) {
  unsigned long long range[2] = {strtoull(offset, NULL, 0), strtoull(size, NULL, 0)};
  const unsigned long request = strcmp(what, "zero") == 0 ? BLKZEROOUT : BLKDISCARD;
  const int fd = open(device, O_RDWR | O_CLOEXEC);
  if (fd < 0) fail(device);
  if (ioctl(fd, request, range) != 0) fail(what);
  if (fsync(fd) != 0) fail("fsync");
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "echo") == 0) echo((unsigned)atoi(argv[2]));
  if (argc == 3 && strcmp(argv[1], "sink") == 0) sink((unsigned)atoi(argv[2]));
  if (argc == 4 && strcmp(argv[1], "source") == 0) source((unsigned)atoi(argv[2]), strtoull(argv[3], NULL, 0));
  if (argc == 4 && strcmp(argv[1], "say") == 0) {
    say((unsigned)atoi(argv[2]), argv[3]);
    return 0;
  }
  if (argc == 5 && (strcmp(argv[1], "zero") == 0 || strcmp(argv[1], "discard") == 0)) {
    block(argv[1], argv[2], argv[3], argv[4]);
    return 0;
  }
  fprintf(stderr,
          "usage: guest_helper echo|sink PORT, source PORT BYTES, say PORT TEXT, zero|discard DEVICE OFFSET SIZE\n");
  return 2;
}
