// A PID 1 for tests of the machine alone: loads the modules as hull-guest does, waits for the disks that the command
// line names (wait_disk=SERIAL:PARTITIONS ...), says on the console what it found, and ends the machine.

#include <dirent.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

void say(const char* format, ...) __attribute__((format(printf, 1, 2)));
void say(const char* format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  const int size = std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  static_cast<void>(!::write(1, line, static_cast<size_t>(size)));
}

std::string slurp(const std::string& path) {
  std::string out;
  FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return out;
  char part[4096];
  size_t got = 0;
  while ((got = std::fread(part, 1, sizeof part, file)) > 0) out.append(part, got);
  std::fclose(file);
  return out;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  size_t at = 0;
  while (at < text.size()) {
    size_t end = text.find(separator, at);
    if (end == std::string::npos) end = text.size();
    if (end > at) out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

double now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

/// Whether there is one of the virtio devices whose ids follow a module's name in its line.
bool has_device(const std::vector<std::string>& words) {
  bool found = words.size() == 1;
  DIR* folder = found ? nullptr : ::opendir("/sys/bus/virtio/devices");
  while (const dirent* entry = folder == nullptr ? nullptr : ::readdir(folder)) {
    const std::string device = slurp(std::string("/sys/bus/virtio/devices/") + entry->d_name + "/device");
    const std::string id = std::to_string(std::strtol(device.c_str(), nullptr, 0));
    for (size_t i = 1; i < words.size(); ++i) found = found || id == words[i];
  }
  if (folder != nullptr) ::closedir(folder);
  return found;
}

void load_modules() {
  for (const std::string& line : split(slurp("/modules/order"), '\n')) {
    const std::vector<std::string> words = split(line, ' ');
    const std::string& name = words[0];
    if (!has_device(words)) continue;
    const int fd = ::open(("/modules/" + name).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ::syscall(SYS_finit_module, fd, "", 0) != 0) say("test-guest: module %s: %m\n", name.c_str());
    ::close(fd);
  }
}

/// The disk with this serial: "vda", or "" while it is not there.
std::string disk_of(const std::string& serial) {
  std::string found;
  DIR* folder = ::opendir("/sys/block");
  while (const dirent* entry = folder == nullptr ? nullptr : ::readdir(folder)) {
    const std::string name = entry->d_name;
    if (name.starts_with("vd") &&
        split(slurp("/sys/block/" + name + "/serial"), '\n') == std::vector<std::string>{serial}) {
      found = name;
    }
  }
  if (folder != nullptr) ::closedir(folder);
  return found;
}

void show_partitions(const std::string& disk, int count) {
  for (int i = 1; i <= count; ++i) {
    const std::string partition = disk + std::to_string(i);
    const std::string size = slurp("/sys/block/" + disk + "/" + partition + "/size");
    const std::string target = "/run/" + partition;
    ::mkdir(target.c_str(), 0755);
    const bool mounted = ::mount(("/dev/" + partition).c_str(), target.c_str(), "erofs", MS_RDONLY, nullptr) == 0;
    say("test-guest: partition %d of %s sectors, %s: %s\n", i,
        split(size, '\n').empty() ? "no" : split(size, '\n')[0].c_str(), mounted ? "mounted" : std::strerror(errno),
        slurp(target + "/name").c_str());
  }
}

void show_disk(const std::string& wanted) {
  const std::vector<std::string> parts = split(wanted, ':');
  const std::string disk = disk_of(parts[0]);
  if (disk.empty()) return say("test-guest: no disk %s\n", parts[0].c_str());
  say("test-guest: disk %s is %s of %s sectors, read-only %s\n", parts[0].c_str(), disk.c_str(),
      split(slurp("/sys/block/" + disk + "/size"), '\n')[0].c_str(),
      split(slurp("/sys/block/" + disk + "/ro"), '\n')[0].c_str());
  if (parts.size() > 1) return show_partitions(disk, std::atoi(parts[1].c_str()));
  ::mkdir("/run/disk", 0755);
  if (::mount(("/dev/" + disk).c_str(), "/run/disk", "ext4", 0, "") != 0) return say("test-guest: ext4: %m\n");
  FILE* file = std::fopen("/run/disk/written", "we");
  if (file != nullptr) {
    std::fputs("by the guest\n", file);
    std::fclose(file);
  }
  say("test-guest: ext4 mounted and %s\n", file != nullptr ? "written" : "not written");
  ::umount("/run/disk");
}

/// Tells the host's port 1023 over vsock what the network device's address is.
void say_hello() {
  const std::string text = "hello from " + slurp("/sys/class/net/eth0/address");
  const int fd = ::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_vm host{};
  host.svm_family = AF_VSOCK;
  host.svm_cid = VMADDR_CID_HOST;
  host.svm_port = 1023;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&host), sizeof host) != 0) return say("test-guest: vsock: %m\n");
  static_cast<void>(!::write(fd, text.data(), text.size()));
  ::close(fd);
  say("test-guest: said hello\n");
}

}  // namespace

int main() {
  const double begun = now_ms();
  ::mount("proc", "/proc", "proc", 0, nullptr);
  ::mount("sysfs", "/sys", "sysfs", 0, nullptr);
  ::mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr);
  load_modules();
  const double loaded = now_ms();
  say("test-guest: PID %d after %.0f ms, modules loaded in %.0f ms\n", ::getpid(), begun, loaded - begun);
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const std::string clock = slurp("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  say("test-guest: clock %s", clock.c_str());
  for (const std::string& word : split(slurp("/proc/cmdline"), ' ')) {
    if (word.starts_with("show_disk=")) show_disk(split(word.substr(10), '\n')[0]);
    if (word.starts_with("say_hello")) say_hello();
    if (word.starts_with("panic_now")) {
      FILE* trigger = std::fopen("/proc/sysrq-trigger", "we");
      if (trigger != nullptr) std::fputs("c", trigger), std::fclose(trigger);
    }
  }
  say("test-guest: %d processors, done\n", static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
  ::sync();
  ::reboot(RB_AUTOBOOT);
  return 1;
}
