#include "isolation/systemd/unit_properties.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::isolation::systemd {
namespace {

using testing::ElementsAre;

TEST(UnitProperties, TranslateForBothLayouts) {
  const std::vector<std::string> arguments = {"memory-max=1048576", "memory-swap-max=-1", "cpu-weight=100",
                                              "cpu-shares=1024",    "cpu-quota=15000",    "cpus=0-2,9",
                                              "tasks-max=0",        "slice=system.slice", "pid=77"};
  Result<std::vector<Property>> v2 = unit_properties(arguments, "hull-a.scope", true);
  ASSERT_TRUE(v2.ok()) << v2.error().message();
  EXPECT_THAT(*v2,
              ElementsAre(Property{"MemoryMax", uint64_t{1048576}}, Property{"MemorySwapMax", ~uint64_t{0}},
                          Property{"CPUWeight", uint64_t{100}}, Property{"CPUQuotaPerSecUSec", uint64_t{20000}},
                          Property{"AllowedCPUs", std::vector<uint8_t>{7, 2}}, Property{"TasksMax", uint64_t{1}},
                          Property{"Slice", std::string("system.slice")}, Property{"PIDs", std::vector<uint32_t>{77}}));
  Result<std::vector<Property>> v1 = unit_properties(arguments, "hull-a.scope", false);
  ASSERT_TRUE(v1.ok());
  EXPECT_THAT(*v1,
              ElementsAre(Property{"MemoryLimit", uint64_t{1048576}}, Property{"CPUShares", uint64_t{1024}},
                          Property{"CPUQuotaPerSecUSec", uint64_t{20000}}, Property{"TasksMax", uint64_t{1}},
                          Property{"Slice", std::string("system.slice")}, Property{"PIDs", std::vector<uint32_t>{77}}));
}

TEST(UnitProperties, RefuseWhatIsWrong) {
  for (const char* bad : {"memory-max", "memory-max=x", "memory-max=-2", "cpus=3-1", "pid=0", "Delegate=1", "="}) {
    EXPECT_FALSE(unit_properties({bad}, "a.scope", true).ok()) << bad;
  }
}

}  // namespace
}  // namespace hull::isolation::systemd
