#pragma once
// A 16550A serial port that only sends: what a guest prints goes to the console's log. Data sheet: PC16550D.

#include <cstdint>
#include <mutex>

#include "vmm/bus.h"
#include "vmm/console.h"

namespace hull::vmm {

class Serial : public BusDevice {
 public:
  /// Signals `interrupt_fd` (an eventfd, not owned; -1: none) for each interrupt.
  Serial(ConsoleLog log, int interrupt_fd) : log_(std::move(log)), interrupt_fd_(interrupt_fd) {}
  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;
  void flush();

 private:
  uint8_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint8_t value);
  uint8_t modem_status() const;
  void raise();

  std::mutex mutex_;
  ConsoleLog log_;
  int interrupt_fd_;
  bool transmitter_interrupt_ = false;  // pending: cleared by reading the identification register
  uint8_t interrupt_enable_ = 0, fifo_control_ = 0, line_control_ = 0, modem_control_ = 0, scratch_ = 0;
  uint8_t divisor_low_ = 1, divisor_high_ = 0;
};

}  // namespace hull::vmm
