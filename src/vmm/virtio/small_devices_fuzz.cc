// Random numbers, balloon, console and persistent memory under a hostile guest.
#include <fcntl.h>

#include "vmm/virtio/balloon.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/device_fuzz.h"
#include "vmm/virtio/pmem.h"
#include "vmm/virtio/rng.h"

namespace {

hull::vmm::ConsoleOptions console_options() {
  hull::vmm::ConsoleOptions options;
  options.input.reset(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  options.output.reset(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  return options;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::vmm;  // NOLINT(google-build-using-namespace)
  static auto* rng = new RngDevice();
  static auto* balloon = new BalloonDevice();
  static auto* console = new ConsoleDevice(console_options());
  static auto* pmem = PmemDevice::create("/proc/self/exe").value().release();
  fuzz::Input input(data, size);
  switch (input.byte() % 4) {
    case 0:
      fuzz::run(rng, input);
      break;
    case 1:
      balloon->request_stats();
      fuzz::run(balloon, input);
      (void)balloon->stats();
      break;
    case 2:
      fuzz::run(console, input);
      break;
    default:
      fuzz::run(pmem, input);
      break;
  }
  return 0;
}
