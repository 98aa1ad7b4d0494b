#include "engine/doctor_vm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Verdict = Check::Verdict;

vm::Programs programs() {
  vm::Programs made;
  made.vmm = made.guest = made.kernel = "/bin/sh";
  made.qemu = "/bin/sh";
  return made;
}

TEST(DoctorVm, RealKvmIsGood) {
  const vm::HostVirtualization host = {.kvm_device = true, .kvm_allowed = true, .processor_helps = true};
  const auto lines = check_virtual_machines("/nonexistent", host, programs());
  EXPECT_EQ(lines[0].verdict, Verdict::kGood);
  EXPECT_THAT(lines[0].advice, IsEmpty());
  EXPECT_EQ(lines[1].verdict, Verdict::kNote);
  EXPECT_THAT(lines[1].advice, HasSubstr("hull vm kernel install"));
}

TEST(DoctorVm, EveryObstacleHasAnAdvice) {
  const auto line = [](vm::HostVirtualization host) {
    return check_virtual_machines("/nonexistent", host, programs())[0];
  };
  EXPECT_THAT(line({}).advice, HasSubstr("firmware"));
  EXPECT_THAT(line({.processor_helps = true}).advice, HasSubstr("modprobe"));
  EXPECT_THAT(line({.kvm_device = true, .processor_helps = true, .kvm_error = "x"}).advice, HasSubstr("group kvm"));
  const Check pvm = line({.kvm_device = true, .kvm_allowed = true, .kvm_pvm = true});
  EXPECT_EQ(pvm.verdict, Verdict::kNote);
  EXPECT_THAT(pvm.finding, HasSubstr("kvm_pvm"));
  EXPECT_THAT(pvm.advice, HasSubstr("nested virtualization"));
}

TEST(DoctorVm, WithoutAnyHypervisorContainersStillRun) {
  vm::Programs none = programs();
  none.qemu.clear();
  none.guest = "/nonexistent/hull-guest";
  const auto lines = check_virtual_machines("/nonexistent", {}, none);
  EXPECT_EQ(lines[0].verdict, Verdict::kNote);
  EXPECT_THAT(lines[0].finding, HasSubstr("qemu-system-x86"));
  EXPECT_THAT(lines[2].finding, HasSubstr("/nonexistent/hull-guest"));
}

}  // namespace
}  // namespace hull::engine
