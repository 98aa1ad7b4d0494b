#pragma once
// The processes of a guest, drawn as ps(1) draws those of a host. What the guest says is text to be shown, no more:
// control characters become "?".

#include <string>
#include <vector>

#include "base/error.h"
#include "guest/agent_client.h"

namespace hull::vm {

class ProcessColumns {
 public:
  /// "" or -e, -f, -ef: the long form; a, u, x in any mix with u: aux; -o or -eo with a list of columns. Others are
  /// kInvalid with what there is.
  static Result<ProcessColumns> parse(const std::vector<std::string>& ps_options);
  /// Title line and one line for each process.
  std::string draw(const guest::proto::ProcessesResponse& processes) const;

 private:
  std::vector<std::string> names_;
};

}  // namespace hull::vm
