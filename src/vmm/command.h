#pragma once
// The command line of hull-vmm (docs/man/hull-vmm.8).

namespace hull::vmm {

/// Exit codes of `hull-vmm --config`.
enum ExitCode : int {
  kExitEnded = 0,       ///< the guest switched itself off or reset itself, or was stopped by a signal or the API
  kExitUsage = 2,       ///< the command line or the machine's description is wrong
  kExitNoKvm = 3,       ///< KVM is missing, not permitted or too old
  kExitBoot = 4,        ///< a kernel, initramfs, disk or other file that the machine needs can't be used
  kExitNoSpace = 5,     ///< the host has not the memory
  kExitFailed = 6,      ///< something else failed on the host
  kExitGuestCrash = 7,  ///< the guest's processor gave up (triple fault)
  kExitGuestStuck = 8,  ///< KVM or a device could not go on with what the guest did
};

int run_command(int argc, char** argv);

}  // namespace hull::vmm
