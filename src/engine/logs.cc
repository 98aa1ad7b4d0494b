#include <poll.h>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/journal_reader.h"
#include "engine/log_reader.h"

namespace hull::engine {

Result<void> EngineImpl::logs(std::string_view ref, const LogOptions& options, const LogSink& sink) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(const Config config, parse_config(json));
  TRY_ASSIGN(const LogConfig log, log_config(config, log_defaults()));
  if (log.driver == LogDriver::kNone) {
    return errorf(ErrorKind::kUnsupported, "configured logging driver does not support reading: --log-driver none");
  }
  UniqueFd control;
  if (options.follow) {
    const RunState state = read_state(paths_, row.id);
    if (state.status == Status::kRunning || state.status == Status::kPaused) {
      if (auto connected = connect_monitor(paths_, row.id); connected.ok()) control = std::move(*connected);
    }
  }
  // The monitor closes this connection when it has written everything; its word about the exit only wakes us.
  bool gone = !control;
  const auto ended = [&] {
    while (!gone) {
      pollfd watched = {control.get(), POLLIN | POLLRDHUP, 0};
      if (::poll(&watched, 1, 0) <= 0) break;
      const auto message = receive_message(control.get());
      if (!message.ok() || !*message) gone = true;
    }
    return gone;
  };
  if (log.driver == LogDriver::kJournald)
    return read_journal(row.id, settings_.journal_socket, options, sink, ended, control.get());
  const LogFiles files{log_path(row.id, log.driver), log.driver == LogDriver::kLocal,
                       settings_.libexec + "/hull-images"};
  return read_logs(files, options, sink, ended, control.get());
}

}  // namespace hull::engine
