// hull-vmm --vhost-user as a process: what a hostile guest or front end would find in it.

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <csignal>

#include "vmm/machine_fixture.h"
#include "vmm/virtio/vhost_user.h"

namespace hull::vmm {
namespace {

class DeviceProcess : public Processes {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/hull-devices.XXXXXX";
    folder_ = ::mkdtemp(folder);
  }
  UniqueFd connect(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(eventually(
        [&] { return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0; }));
    return fd;
  }
};

TEST_F(DeviceProcess, HasNothingLeftAndStillAnswers) {
  std::ofstream(folder_ + "/disk") << std::string(8192, 'd');
  const std::vector<std::vector<std::string>> kinds{
      {"rng"}, {"block", "--disk", folder_ + "/disk"}, {"vsock", "--vsock-socket", folder_ + "/vsock"}};
  for (const std::vector<std::string>& kind : kinds) {
    const std::string socket = folder_ + "/" + kind[0] + ".sock";
    std::vector<std::string> arguments{"--vhost-user"};
    arguments.insert(arguments.end(), kind.begin(), kind.end());
    arguments.insert(arguments.end(), {"--socket", socket});
    const int leaked = ::open("/etc/passwd", O_RDONLY);  // not close-on-exec
    const pid_t pid = launch_with(arguments, kind[0]);
    ::close(leaked);
    const UniqueFd front = connect(socket);
    ASSERT_TRUE(vhost_user::send(front.get(), vhost_user::Request::kGetFeatures, 0, {}, {}).ok());
    const auto answer = vhost_user::receive(front.get());
    ASSERT_TRUE(answer.ok()) << kind[0] << log(kind[0]);
    uint64_t features = 0;
    ASSERT_TRUE(answer->load(&features));
    EXPECT_NE(features & vhost_user::kFeatureProtocol, 0u);
    expect_nothing_left(pid, 1);
    ASSERT_EQ(::shutdown(front.get(), SHUT_RDWR), 0);
    EXPECT_EQ(wait(pid), 0) << kind[0] << log(kind[0]);
  }
}

TEST_F(DeviceProcess, KeepsTheSignalOfItsParentsEnd) {
  const pid_t parent = ::fork();
  if (parent == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string program = HULL_BUILD_DIR "/bin/hull-vmm", socket = folder_ + "/kept";
      ::execl(program.c_str(), program.c_str(), "--vhost-user", "rng", "--socket", socket.c_str(), nullptr);
      ::_exit(1);
    }
    std::ofstream(folder_ + "/pid") << child << std::flush;
    ::pause();
    ::_exit(0);
  }
  const UniqueFd front = connect(folder_ + "/kept");
  ASSERT_TRUE(vhost_user::send(front.get(), vhost_user::Request::kGetFeatures, 0, {}, {}).ok());
  ASSERT_TRUE(vhost_user::receive(front.get()).ok());
  ::kill(parent, SIGKILL);
  wait(parent);
  EXPECT_FALSE(vhost_user::receive(front.get()).ok()) << "the device outlived the process that started it";
}

}  // namespace
}  // namespace hull::vmm
