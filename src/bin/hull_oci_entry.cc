// The first instructions of hull-oci. What enters a container must run from a read-only copy of the program (see
// runtime/safe_exe.h), which means executing it a second time. Done from main, the C library would have started twice,
// and its start asks the processor for its features dozens of times: on a virtual machine each of these questions is a
// trap, 0.3 ms in all. So it is done here, before the C library starts, with plain system calls. Whatever fails here
// is left to runtime::ensure_safe_exe, which says why.
//
// Nothing here may touch thread-local storage (stack protector), relocated functions (memcpy) or errno.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "runtime/child/raw.h"

#if defined(__x86_64__)
asm(R"(
.globl hull_oci_entry
.type hull_oci_entry, @function
hull_oci_entry:
  mov %rsp, %rbx
  mov %rsp, %rdi
  and $-16, %rsp
  call hull_oci_protect
  mov %rbx, %rsp
  xor %ebx, %ebx
  xor %edx, %edx
  jmp _start
)");
#elif defined(__aarch64__)
asm(R"(
.globl hull_oci_entry
.type hull_oci_entry, %function
hull_oci_entry:
  mov x0, sp
  bl hull_oci_protect
  mov x0, #0
  mov x29, #0
  mov x30, #0
  b _start
)");
#endif

namespace {

namespace raw = hull::runtime::child::raw;

bool equal(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

}  // namespace

/// `stack` is the kernel's: argc, argv, NULL, environment, NULL.
extern "C" __attribute__((no_stack_protector, used)) void hull_oci_protect(long* stack) {
  const long argc = stack[0];
  char** argv = reinterpret_cast<char**>(stack + 1);
  char** env = argv + argc + 1;
  bool enters = false;
  // A value of some option may look like one of these too: then this only takes a little longer.
  for (long i = 1; i < argc; ++i)
    enters = enters || equal(argv[i], "run") || equal(argv[i], "create") || equal(argv[i], "exec");
  if (!enters) return;
  const long exe = raw::openat(AT_FDCWD, "/proc/self/exe", O_RDONLY);
  if (exe < 0) return;
  struct statfs file_system;
  constexpr long kReadOnly = 1;  // ST_RDONLY
  if (raw::fstatfs(static_cast<int>(exe), &file_system) < 0 || (file_system.f_flags & kReadOnly) != 0) {
    raw::close(static_cast<int>(exe));
    return;
  }
  const long tree = raw::open_tree(static_cast<int>(exe), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
  raw::close(static_cast<int>(exe));
  if (tree < 0) return;
  mount_attr attributes;
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  attributes.attr_clr = 0;
  attributes.propagation = MS_PRIVATE;
  attributes.userns_fd = 0;
  if (raw::mount_setattr(static_cast<int>(tree), "", AT_EMPTY_PATH, &attributes) == 0) {
    raw::call(SYS_execveat, tree, raw::address(""), raw::address(argv), raw::address(env), AT_EMPTY_PATH);
  }
  raw::close(static_cast<int>(tree));
}
