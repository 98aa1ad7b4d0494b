#include "isolation/defaults.h"

namespace hull::isolation {

namespace {
oci::DeviceCgroup rule(bool allow, const char* type, std::optional<int64_t> major, std::optional<int64_t> minor,
                       const char* access) {
  return {.allow = allow, .type = type, .major = major, .minor = minor, .access = access};
}
}  // namespace

std::vector<oci::DeviceCgroup> required_device_rules() {
  std::vector<oci::DeviceCgroup> rules;
  // Making a node opens nothing; CAP_MKNOD decides about it.
  rules.push_back(rule(true, "c", std::nullopt, std::nullopt, "m"));
  rules.push_back(rule(true, "b", std::nullopt, std::nullopt, "m"));
  for (const DefaultDevice& device : kDefaultDevices) {
    rules.push_back(rule(true, "c", int64_t{device.major}, int64_t{device.minor}, "rwm"));
  }
  rules.push_back(rule(true, "c", 136, std::nullopt, "rwm"));  // pts
  rules.push_back(rule(true, "c", 5, 2, "rwm"));               // ptmx
  return rules;
}

std::vector<oci::DeviceCgroup> default_device_rules() {
  std::vector<oci::DeviceCgroup> rules;
  rules.push_back(rule(false, "a", std::nullopt, std::nullopt, "rwm"));
  for (const DefaultDevice& device : kDefaultDevices) {
    rules.push_back(rule(true, "c", int64_t{device.major}, int64_t{device.minor}, "rwm"));
  }
  rules.push_back(rule(true, "c", 5, 1, "rwm"));  // console
  return rules;
}

}  // namespace hull::isolation
