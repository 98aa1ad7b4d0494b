#include "vmm/serial.h"

#include <unistd.h>

#include <cstring>

namespace hull::vmm {

namespace {
constexpr uint8_t kEnableTransmitter = 0x02;
constexpr uint8_t kNoInterrupt = 0x01, kTransmitterEmpty = 0x02, kFifoEnabled = 0xc0;
constexpr uint8_t kDivisorAccess = 0x80;
constexpr uint8_t kLoop = 0x10;
constexpr uint8_t kLineIdle = 0x60;   // both transmitter registers are empty, always
constexpr uint8_t kConnected = 0xb0;  // carrier, data set ready, clear to send
}  // namespace

void Serial::read(uint64_t offset, std::span<std::byte> out) {
  const std::lock_guard lock(mutex_);
  std::memset(out.data(), 0, out.size());
  out[0] = static_cast<std::byte>(read_register(offset));
}

void Serial::write(uint64_t offset, std::span<const std::byte> in) {
  const std::lock_guard lock(mutex_);
  write_register(offset, std::to_integer<uint8_t>(in[0]));
}

void Serial::flush() {
  const std::lock_guard lock(mutex_);
  log_.flush();
}

/// In loop-back mode the outputs are wired to the inputs: how drivers find out that a port is real.
uint8_t Serial::modem_status() const {
  if ((modem_control_ & kLoop) == 0) return kConnected;
  uint8_t status = 0;
  if (modem_control_ & 0x01) status |= 0x20;  // data terminal ready -> data set ready
  if (modem_control_ & 0x02) status |= 0x10;  // request to send -> clear to send
  if (modem_control_ & 0x04) status |= 0x40;  // output 1 -> ring
  if (modem_control_ & 0x08) status |= 0x80;  // output 2 -> carrier
  return status;
}

uint8_t Serial::read_register(uint64_t offset) {
  const bool divisor = (line_control_ & kDivisorAccess) != 0;
  switch (offset) {
    case 0:
      return divisor ? divisor_low_ : 0;
    case 1:
      return divisor ? divisor_high_ : interrupt_enable_;
    case 2: {
      const uint8_t fifo = (fifo_control_ & 1) != 0 ? kFifoEnabled : 0;
      if (!transmitter_interrupt_) return fifo | kNoInterrupt;
      transmitter_interrupt_ = false;
      return fifo | kTransmitterEmpty;
    }
    case 3:
      return line_control_;
    case 4:
      return modem_control_;
    case 5:
      return kLineIdle;
    case 6:
      return modem_status();
    default:
      return scratch_;
  }
}

void Serial::raise() {
  if ((interrupt_enable_ & kEnableTransmitter) == 0) return;
  transmitter_interrupt_ = true;
  const uint64_t one = 1;
  if (interrupt_fd_ >= 0) [[maybe_unused]]
    const ssize_t done = ::write(interrupt_fd_, &one, sizeof(one));
}

void Serial::write_register(uint64_t offset, uint8_t value) {
  const bool divisor = (line_control_ & kDivisorAccess) != 0;
  switch (offset) {
    case 0:
      if (divisor) {
        divisor_low_ = value;
        return;
      }
      if ((modem_control_ & kLoop) == 0) log_.put(static_cast<char>(value));
      return raise();  // sent at once
    case 1:
      if (divisor) {
        divisor_high_ = value;
        return;
      }
      interrupt_enable_ = value & 0x0f;
      return raise();  // the transmitter is empty: enabling the interrupt raises it
    case 2:
      fifo_control_ = value;
      return;
    case 3:
      line_control_ = value;
      return;
    case 4:
      modem_control_ = value & 0x1f;
      return;
    case 7:
      scratch_ = value;
      return;
    default:
      return;
  }
}

}  // namespace hull::vmm
