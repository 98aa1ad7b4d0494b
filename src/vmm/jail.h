#pragma once
// What a guest that breaks out of the device model finds: nothing. Before any guest code runs, hull-vmm gives up
// everything that it does not need any more; each thread then gives up the system calls that it does not need.

#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::vmm {

/// Closes every descriptor from 3 on but these.
Result<void> close_other_descriptors(std::vector<int> kept);

/// Kills this process when its parent ends (PR_SET_PDEATHSIG); enter_jail(), which undoes that, does it again. Called
/// first, or never where the process has another way to learn that it is not needed any more.
void die_with_parent();

/// The process, which has one thread yet: own user, mount, network, IPC and UTS namespaces, an empty read-only root, no
/// capabilities, no_new_privs, small resource limits, not dumpable. Where user namespaces are not to be had and the
/// process lacks the right to make the others, it goes on without namespaces, and the result is false.
Result<bool> enter_jail();
/// The same in two steps: the first needs a process with one thread and is short; the second waits for the kernel's
/// grace periods, in which another thread may already prepare what does not need the file system. That thread keeps its
/// rights: it has to have ended before anything hostile runs. `separate` is what the first step said.
Result<bool> begin_jail();
Result<void> finish_jail(bool separate);

/// The kinds of threads, each with its own list of system calls.
/// kDebuggedMain is the main thread with a debugger's stub, which reads and writes processors.
/// kVhostUser is the main thread of one device for another hypervisor: it speaks the protocol and starts the device's
/// threads.
enum class ThreadKind {
  kVcpu,
  kLauncher,
  kMain,
  kDebuggedMain,
  kBlock,
  kNet,
  kVsock,
  kConsole,
  kOtherDevice,
  kVhostUser
};
ThreadKind device_thread_kind(std::string_view worker_kind);

/// For the calling thread. After it an unlisted system call ends the process with SIGSYS. A filter that can't be
/// installed ends the process too: nothing runs unconfined by accident.
void confine_thread(ThreadKind kind);

}  // namespace hull::vmm
