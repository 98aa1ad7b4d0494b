// with_tap NAME FD PROGRAM ARGUMENTS...: executes the program with a tap open at the descriptor, as hull-vmm inherits
// it. For the bed, where busybox can't open one.
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const int tap = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  ifreq request{};
  std::strncpy(request.ifr_name, argv[1], IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (tap < 0 || ::ioctl(tap, TUNSETIFF, &request) != 0 || ::dup2(tap, std::atoi(argv[2])) < 0) {
    std::perror("with_tap");
    return 1;
  }
  ::execvp(argv[3], argv + 3);
  std::perror(argv[3]);
  return 1;
}
