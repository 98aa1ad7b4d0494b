#pragma once
// System calls for code that runs between clone and exec: no errno, no locks, no allocation, no glibc state. Each
// returns the kernel's answer, -errno on failure. One function per call that the child makes, with the call's name.

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/vfs.h>

#include <cstddef>
#include <cstdint>

namespace hull::runtime::child::raw {

#if defined(__x86_64__)
inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  long result = number;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}
#else
#error "the child knows the system call convention of x86-64 and aarch64"
#endif

inline long address(const void* pointer) { return reinterpret_cast<long>(pointer); }

inline long read(int fd, void* data, size_t size) { return call(SYS_read, fd, address(data), static_cast<long>(size)); }
inline long write(int fd, const void* data, size_t size) {
  return call(SYS_write, fd, address(data), static_cast<long>(size));
}
inline long close(int fd) { return call(SYS_close, fd); }
inline long close_range(unsigned first, unsigned last, unsigned flags) {
  return call(SYS_close_range, first, last, flags);
}
inline long dup3(int from, int to, int flags) { return call(SYS_dup3, from, to, flags); }
inline long fcntl(int fd, int command, long argument) { return call(SYS_fcntl, fd, command, argument); }
inline long openat(int dir, const char* path, int flags, mode_t mode = 0) {
  return call(SYS_openat, dir, address(path), flags | O_CLOEXEC, mode);
}
inline long openat2(int dir, const char* path, int flags, uint64_t resolve, mode_t mode = 0) {
  open_how how{};
  how.flags = static_cast<uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC));
  how.mode = mode;
  how.resolve = resolve;
  long fd = 0;
  // EAGAIN: a rename or mount elsewhere raced with ".."; bounded, so that nobody can keep us here.
  for (int attempt = 0; attempt < 256; ++attempt) {
    fd = call(SYS_openat2, dir, address(path), address(&how), sizeof how);
    if (fd != -11 && fd != -4) break;
  }
  return fd;
}
inline long mkdirat(int dir, const char* path, mode_t mode) { return call(SYS_mkdirat, dir, address(path), mode); }
inline long mknodat(int dir, const char* path, mode_t mode, dev_t device) {
  return call(SYS_mknodat, dir, address(path), mode, static_cast<long>(device));
}
inline long symlinkat(const char* target, int dir, const char* path) {
  return call(SYS_symlinkat, address(target), dir, address(path));
}
inline long readlinkat(int dir, const char* path, char* out, size_t size) {
  return call(SYS_readlinkat, dir, address(path), address(out), static_cast<long>(size));
}
inline long unlinkat(int dir, const char* path, int flags) { return call(SYS_unlinkat, dir, address(path), flags); }
inline long fchmodat(int dir, const char* path, mode_t mode) { return call(SYS_fchmodat, dir, address(path), mode); }
inline long fchmod(int fd, mode_t mode) { return call(SYS_fchmod, fd, mode); }
inline long fchownat(int dir, const char* path, uid_t uid, gid_t gid, int flags) {
  return call(SYS_fchownat, dir, address(path), uid, gid, flags);
}
inline long fchown(int fd, uid_t uid, gid_t gid) { return call(SYS_fchown, fd, uid, gid); }
inline long fstat(int fd, struct stat* out) { return call(SYS_fstat, fd, address(out)); }
inline long fstatat(int dir, const char* path, struct stat* out, int flags) {
  return call(SYS_newfstatat, dir, address(path), address(out), flags);
}
inline long fstatfs(int fd, struct statfs* out) { return call(SYS_fstatfs, fd, address(out)); }
inline long faccessat(int dir, const char* path, int mode) { return call(SYS_faccessat, dir, address(path), mode); }
inline long faccessat2(int dir, const char* path, int mode, int flags) {
  return call(SYS_faccessat2, dir, address(path), mode, flags);
}
inline long getdents64(int fd, void* out, size_t size) {
  return call(SYS_getdents64, fd, address(out), static_cast<long>(size));
}
inline long utimensat(int dir, const char* path, const timespec* times, int flags) {
  return call(SYS_utimensat, dir, address(path), address(times), flags);
}
inline long sendfile(int out, int in, size_t count) { return call(SYS_sendfile, out, in, 0, static_cast<long>(count)); }
inline long chdir(const char* path) { return call(SYS_chdir, address(path)); }
inline long fchdir(int fd) { return call(SYS_fchdir, fd); }
inline long chroot(const char* path) { return call(SYS_chroot, address(path)); }
inline long getcwd(char* out, size_t size) { return call(SYS_getcwd, address(out), static_cast<long>(size)); }
inline long umask(mode_t mask) { return call(SYS_umask, mask); }
inline long ioctl(int fd, unsigned long request, long argument) {
  return call(SYS_ioctl, fd, static_cast<long>(request), argument);
}
inline long socket(int domain, int type, int protocol) { return call(SYS_socket, domain, type, protocol); }
inline long accept4(int fd, int flags) { return call(SYS_accept4, fd, 0, 0, flags); }
inline long sendmsg(int fd, const msghdr* message, int flags) { return call(SYS_sendmsg, fd, address(message), flags); }

inline long fsopen(const char* type, unsigned flags) { return call(SYS_fsopen, address(type), flags); }
inline long fsconfig(int fd, unsigned command, const char* key, const void* value, int aux) {
  return call(SYS_fsconfig, fd, command, address(key), address(value), aux);
}
inline long fsmount(int fd, unsigned flags, unsigned attributes) { return call(SYS_fsmount, fd, flags, attributes); }
inline long open_tree(int dir, const char* path, unsigned flags) {
  return call(SYS_open_tree, dir, address(path), flags);
}
inline long move_mount(int from, const char* from_path, int to, const char* to_path, unsigned flags) {
  return call(SYS_move_mount, from, address(from_path), to, address(to_path), flags);
}
inline long mount_setattr(int dir, const char* path, unsigned flags, mount_attr* attributes) {
  return call(SYS_mount_setattr, dir, address(path), flags, address(attributes), sizeof *attributes);
}
inline long pivot_root(const char* new_root, const char* put_old) {
  return call(SYS_pivot_root, address(new_root), address(put_old));
}
inline long umount2(const char* path, int flags) { return call(SYS_umount2, address(path), flags); }

inline long unshare(unsigned long flags) { return call(SYS_unshare, static_cast<long>(flags)); }
inline long setns(int fd, int type) { return call(SYS_setns, fd, type); }
inline long getpid() { return call(SYS_getpid); }
inline long getppid() { return call(SYS_getppid); }
inline long setsid() { return call(SYS_setsid); }
inline long prctl(long option, long a = 0, long b = 0, long c = 0, long d = 0) {
  return call(SYS_prctl, option, a, b, c, d);
}
inline long kill(pid_t pid, int signal) { return call(SYS_kill, pid, signal); }
[[noreturn]] inline void exit(int code) {
  for (;;) call(SYS_exit_group, code);
}
inline long execve(const char* path, char* const* args, char* const* env) {
  return call(SYS_execve, address(path), address(args), address(env));
}
inline long setresuid(uid_t uid) { return call(SYS_setresuid, uid, uid, uid); }
inline long setresgid(gid_t gid) { return call(SYS_setresgid, gid, gid, gid); }
inline long setgroups(size_t count, const gid_t* groups) {
  return call(SYS_setgroups, static_cast<long>(count), address(groups));
}
inline long keyctl(long operation, long a, long b = 0, long c = 0) { return call(SYS_keyctl, operation, a, b, c); }
inline long sethostname(const char* name, size_t size) {
  return call(SYS_sethostname, address(name), static_cast<long>(size));
}
inline long setdomainname(const char* name, size_t size) {
  return call(SYS_setdomainname, address(name), static_cast<long>(size));
}

}  // namespace hull::runtime::child::raw
