#pragma once
// The host's side of the agent protocol (agent.proto): one method for each call, each with a deadline. Nothing here
// trusts the guest: answers are bounded, and a guest that does not answer is kTimeout, one that is gone kUnavailable,
// one that answers nonsense kCorrupt. Other errors are the guest's own, with its kind, errno and text.
//
// One call at a time on a client; use further clients (connections) for calls that go on meanwhile, such as wait().

#include <guest/agent.pb.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "guest/ttrpc.h"

namespace hull::guest {

using ttrpc::after;
using ttrpc::Deadline;

inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr uint32_t kReadyPort = 1023;   ///< of the host: the guest connects when it listens
inline constexpr uint32_t kAgentPort = 1024;   ///< of the guest: ttrpc
inline constexpr uint32_t kStreamPort = 1025;  ///< of the guest: standard streams
/// Where the guest puts things; config.json names them.
inline constexpr const char* kRootPath = "/run/hull/root";      ///< the overlay of an image's layers
inline constexpr const char* kSharePath = "/run/hull/share";    ///< virtio-fs
inline constexpr const char* kSharesPath = "/run/hull/shares";  ///< further ones, below their names

/// Connects to a port of the guest by the hypervisor's unix socket ("CONNECT <port>\n", "OK <n>\n"). The socket is
/// blocking. kUnavailable when nobody listens at the path or the guest has no listener at the port.
Result<UniqueFd> connect_vsock(const std::string& socket_path, uint32_t port, Deadline deadline);

/// Opens a standard stream (0, 1 or 2): connects to kStreamPort and names the stream. The descriptor is a blocking
/// socket; shutdown(SHUT_WR) on stream 0 is the program's end of file.
Result<UniqueFd> open_stream(const std::string& socket_path, std::string_view token, int stream, Deadline deadline);
/// The same on a connection that stands already; it stays the caller's.
Result<void> name_stream(int connection, std::string_view token, int stream, Deadline deadline);
/// A new token: 32 hexadecimal digits.
Result<std::string> make_stream_token();

class AgentClient {
 public:
  explicit AgentClient(UniqueFd connection) : client_(std::move(connection)) {}
  static Result<AgentClient> connect(const std::string& socket_path, Deadline deadline);

  Result<void> configure(const proto::ConfigureRequest& request, Deadline deadline);
  /// Answers the pid in the guest. Fails as `hull-oci create` does.
  Result<uint32_t> create(const proto::CreateRequest& request, Deadline deadline);
  /// Fails as `hull-oci start` does, with the same words: kNotFound when the program is missing, kPermission when it
  /// may not be executed.
  Result<void> start(Deadline deadline);
  /// Starts another process; errors as of start().
  Result<uint32_t> exec(const proto::ExecRequest& request, Deadline deadline);

  // An empty exec_id means the workload's first process.
  Result<void> signal(std::string_view exec_id, int signal, bool all, Deadline deadline);
  Result<proto::WaitResponse> wait(std::string_view exec_id, Deadline deadline);
  Result<void> resize(std::string_view exec_id, uint32_t rows, uint32_t columns, Deadline deadline);
  /// End of file after the first `after_bytes` bytes of the stream.
  Result<void> close_stdin(std::string_view exec_id, uint64_t after_bytes, Deadline deadline);

  Result<proto::ProcessesResponse> processes(Deadline deadline);
  Result<proto::StatsResponse> stats(Deadline deadline);
  Result<void> update(std::string_view resources_json, Deadline deadline);
  Result<void> pause(Deadline deadline);
  Result<void> resume(Deadline deadline);
  Result<proto::StateResponse> state(Deadline deadline);

  Result<proto::FileStatResponse> file_stat(std::string_view path, Deadline deadline);
  /// The job's streams are opened with open_stream() then.
  Result<void> begin_files(const proto::BeginFilesRequest& request, Deadline deadline);
  Result<void> end_files(const proto::EndFilesRequest& request, Deadline deadline);

  Result<proto::PingResponse> ping(Deadline deadline);
  Result<void> set_time(int64_t time_ns, Deadline deadline);
  /// Orderly power off. The machine may be gone before the answer has come: kUnavailable is success too.
  Result<void> shutdown(Deadline deadline);

  /// A wait() in two halves, for a program that waits on other descriptors meanwhile: begin, watch fd() for reading,
  /// and finish when it is readable (no value: not yet). Nothing else may be called on this client in between.
  Result<void> begin_wait(std::string_view exec_id, Deadline deadline);
  Result<std::optional<proto::WaitResponse>> finish_wait();
  /// The same for ping(), with which a supervisor watches the guest's health.
  Result<void> begin_ping(Deadline deadline);
  Result<std::optional<proto::PingResponse>> finish_ping();

  int fd() const { return client_.fd(); }

 private:
  template <typename Response, typename Request>
  Result<Response> call(std::string_view method, const Request& request, Deadline deadline);
  template <typename Response>
  Result<std::optional<Response>> finish();

  ttrpc::Client client_;
  uint32_t pending_ = 0;  // the stream of a call that was begun
};

}  // namespace hull::guest
