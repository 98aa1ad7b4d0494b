#pragma once
// Pseudo-terminals of the host, between an engine that wants one and the guest, where the real one is. The host's is a
// plain wire: raw, since the guest's line discipline does the work.

#include <sys/types.h>
#include <termios.h>

#include <optional>

#include "base/error.h"
#include "base/unique_fd.h"
#include "oci/runtime_spec.h"

namespace hull::vm {

struct Pty {
  UniqueFd master, slave;
};
/// A raw pseudo-terminal, of the given size.
Result<Pty> open_pty(const oci::Box* size);
/// Sends the master to a console socket, as OCI runtimes do.
Result<void> send_master(const std::string& console_socket, const Pty& pty);
/// Makes it raw again: engines change modes when they receive the master.
void make_raw(int terminal);
/// Takes the slave as controlling terminal of a session that the caller leads, and as its standard streams.
Result<void> adopt_terminal(int slave);

/// Rows and columns; nothing where it is no terminal or has no size.
std::optional<oci::Box> terminal_size(int terminal);

/// Our own terminal (standard input) in raw mode while this lives; nothing where it is none.
class RawInput {
 public:
  RawInput();
  ~RawInput();
  RawInput(const RawInput&) = delete;
  RawInput& operator=(const RawInput&) = delete;

 private:
  termios saved_{};
  bool active_ = false;
};

/// Every signal that can be passed on, blocked for the rest of this process and readable as a descriptor.
Result<UniqueFd> catch_signals();
/// A caught signal that the process inside is to get: none of the C library's own, of children, of pipes and sizes.
bool is_for_the_guest(int signal);

}  // namespace hull::vm
