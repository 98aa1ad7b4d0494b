#pragma once
// Names and ids of workloads and volumes, with what a list shows, in one SQLite file. The store of truth about what
// exists; what runs is derived from monitors (state.h).

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/config.h"

namespace hull::db {
class Database;
}

namespace hull::engine {

struct WorkloadRow {
  std::string id, name;
  int64_t created_ns = 0;
  std::string image, image_id, command, network;
  std::string labels;  // JSON object, "" for none
  std::string mounts;  // one name or path a line
  std::string ports;   // of the current run, one "ip port container-port protocol" a line
  bool auto_remove = false;
  bool removing = false;
  Isolation isolation = Isolation::kContainer;
};

struct VolumeRow {
  std::string name, driver;
  int64_t created_ns = 0;
  std::string options, labels;  // JSON objects
  bool anonymous = false;
  int references = 0;
};

class Index {
 public:
  /// Opens, makes when absent. One connection; not for several threads at once.
  static Result<std::unique_ptr<Index>> open(const std::string& path);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  /// kConflict "The container name ... is already in use" when the name is taken.
  Result<void> add(const WorkloadRow& row, std::string_view config_json, const std::vector<std::string>& volumes);
  /// By whole id, name, or unique prefix of an id: kNotFound, kConflict when ambiguous.
  Result<WorkloadRow> find(std::string_view ref);
  Result<std::optional<WorkloadRow>> by_id(std::string_view id);
  Result<std::string> config(std::string_view id);
  /// Newest first.
  Result<std::vector<WorkloadRow>> list();
  Result<std::vector<std::string>> ids();
  /// Another configuration, and the networks that a list shows.
  Result<void> set_networks(std::string_view id, std::string_view config_json, std::string_view networks);
  /// kConflict when the name is taken.
  Result<void> rename(std::string_view id, std::string_view name);
  Result<void> set_config(std::string_view id, std::string_view config_json);
  Result<void> set_ports(std::string_view id, std::string_view ports);
  Result<void> set_removing(std::string_view id);
  Result<void> remove(std::string_view id);
  Result<bool> name_taken(std::string_view name);

  /// kExists when the name is taken.
  Result<void> add_volume(const VolumeRow& row);
  Result<std::optional<VolumeRow>> volume(std::string_view name);
  Result<std::vector<VolumeRow>> volumes();
  /// kConflict while a workload refers to it.
  Result<void> remove_volume(std::string_view name);
  Result<std::vector<std::string>> volumes_of(std::string_view workload_id);
  Result<std::vector<std::string>> users_of(std::string_view volume);

 private:
  explicit Index(std::unique_ptr<db::Database> database);
  std::unique_ptr<db::Database> db_;
};

}  // namespace hull::engine
