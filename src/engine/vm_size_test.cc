#include "engine/vm_size.h"

#include <gtest/gtest.h>

#include "vm/machine_size.h"

namespace hull::engine {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kHost = 8192 * kMiB;

VmSize size_of(const Config& config, uint32_t host_cpus = 8) {
  const auto size = vm_size(config, Settings(), kHost, host_cpus);
  EXPECT_TRUE(size.ok()) << (size.ok() ? "" : size.error().message());
  return size.ok() ? *size : VmSize();
}

TEST(VmSize, Defaults) {
  EXPECT_EQ(size_of(Config()).memory_bytes, 1024 * kMiB);
  EXPECT_EQ(size_of(Config()).vcpus, 2u);
  EXPECT_EQ(size_of(Config(), 1).vcpus, 1u);  // no more than the host has
}

TEST(VmSize, MemoryIsTheWorkloadsAndTheKernelsComesOnTop) {
  Config config;
  for (const uint64_t mib : {6u, 64u, 256u, 4096u}) {
    config.memory = static_cast<int64_t>(mib * kMiB);
    const uint64_t memory = size_of(config).memory_bytes;
    EXPECT_EQ(memory, vm::machine_memory(mib * kMiB));
    EXPECT_GT(memory, mib * kMiB + (mib * kMiB) / 64);
  }
}

TEST(VmSize, MoreThanTheHostHasIsRefused) {
  Config config;
  for (const int64_t memory : {int64_t{8192} << 20, int64_t{1} << 62, INT64_MAX}) {
    config.memory = memory;
    const auto size = vm_size(config, Settings(), kHost, 2);
    ASSERT_FALSE(size.ok()) << memory;
    EXPECT_NE(size.error().message().find("this host has 8GiB"), std::string::npos) << size.error().message();
  }
}

TEST(VmSize, Processors) {
  Config config;
  config.nano_cpus = 1;
  EXPECT_EQ(size_of(config).vcpus, 1u);
  config.nano_cpus = 1'000'000'000;
  EXPECT_EQ(size_of(config).vcpus, 1u);
  config.nano_cpus = 1'500'000'000;
  EXPECT_EQ(size_of(config).vcpus, 2u);
  config.nano_cpus = 65'000'000'000;
  EXPECT_FALSE(vm_size(config, Settings(), kHost, 2).ok());
  config.nano_cpus = 0;
  config.cpu_quota = 250'000;
  EXPECT_EQ(size_of(config).vcpus, 3u);
  config.cpu_period = 250'000;
  EXPECT_EQ(size_of(config).vcpus, 1u);
  config.cpu_quota = 0;
  config.cpuset_cpus = "0-2,5";
  EXPECT_EQ(size_of(config).vcpus, 4u);
  config.cpuset_cpus = "5-2";
  EXPECT_EQ(size_of(config).vcpus, 2u);
}

TEST(VmSize, ScratchDisk) {
  Config config;
  EXPECT_EQ(*scratch_size(config), uint64_t{10} << 30);
  config.storage_opt["size"] = "64m";
  EXPECT_EQ(*scratch_size(config), 64 * kMiB);
  for (const char* bad : {"1m", "0", "-5", "lots", "9999999g"}) {
    config.storage_opt["size"] = bad;
    EXPECT_FALSE(scratch_size(config).ok()) << bad;
  }
}

}  // namespace
}  // namespace hull::engine
