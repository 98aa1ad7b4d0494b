#include "guest/own_devices.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace hull::guest {
namespace {

oci::Spec spec_with(oci::DeviceCgroup rule) {
  oci::Spec spec;
  spec.linux_config.emplace().resources.emplace().devices.push_back(std::move(rule));
  return spec;
}

TEST(OwnDevices, OnlyWhereEverythingIsAllowed) {
  oci::DeviceCgroup rule;
  rule.allow = true;
  rule.type = "c";
  rule.access = "rwm";
  for (const oci::DeviceCgroup& some : {rule, oci::DeviceCgroup()}) {
    oci::Spec spec = spec_with(some);
    add_own_devices("/dev", &spec);
    EXPECT_TRUE(spec.linux_config->devices.empty());
  }
  oci::Spec none;
  add_own_devices("/dev", &none);
  EXPECT_FALSE(none.linux_config.has_value());

  rule.type.clear();
  oci::Spec spec = spec_with(rule);
  oci::Device named;
  named.path = "/dev/fuse";
  named.major = 1;
  spec.linux_config->devices.push_back(named);
  add_own_devices("/dev", &spec);
  const auto& devices = spec.linux_config->devices;
  EXPECT_EQ(devices.front().major, 1);  // what was named stays
  for (const char* path : {"/dev/null", "/dev/tty", "/dev/pts/ptmx", "/dev/console"}) {
    const auto is_it = [&](const oci::Device& device) { return device.path == path; };
    EXPECT_TRUE(std::none_of(devices.begin(), devices.end(), is_it)) << path;
  }
  for (const oci::Device& device : devices) EXPECT_TRUE(device.path.starts_with("/dev/")) << device.path;
}

}  // namespace
}  // namespace hull::guest
