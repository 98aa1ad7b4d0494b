// A file system against QEMU's virtiofsd itself.
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "vmm/virtio/fs.h"
#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

using simulated::kWrite;
constexpr const char* kDaemon = "/usr/lib/qemu/virtiofsd";

class FsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kDaemon)) GTEST_SKIP() << kDaemon << " is not installed";
    std::string name = "/tmp/hull-fs-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    std::filesystem::create_directory(folder_ + "/share");
    std::ofstream(folder_ + "/share/hello") << "content";
    const std::string socket = folder_ + "/socket", source = "source=" + folder_ + "/share";
    daemon_ = ::fork();
    if (daemon_ == 0) {
      ::execl(kDaemon, kDaemon, ("--socket-path=" + socket).c_str(), "-o", source.c_str(), "-f", nullptr);
      ::_exit(127);
    }
    for (int i = 0; i < 500 && !std::filesystem::exists(socket); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    auto made = FsDevice::create({"share", socket});
    ASSERT_TRUE(made.ok()) << made.error().message();
    fs_ = std::move(*made);
    driver_ = std::make_unique<simulated::Driver>(fs_.get());
    ASSERT_TRUE(driver_->start().ok());
  }
  ~FsTest() override {
    driver_.reset();
    fs_.reset();
    if (daemon_ > 0) {
      ::kill(daemon_, SIGKILL);
      ::waitpid(daemon_, nullptr, 0);
    }
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  /// One FUSE request; the answer's error, its body in `out`.
  int32_t request(uint32_t opcode, uint64_t node, const std::string& body, std::string* out = nullptr) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    const std::string bytes = std::string(reinterpret_cast<const char*>(&header), sizeof header) + body;
    const uint64_t answer = driver_->memory.allocate(4096);
    simulated::Ring& ring = driver_->ring(1);
    ring.add({{driver_->memory.place(bytes), header.len, 0, 0}, {answer, 4096, kWrite, 0}});
    ring.notify();
    const auto used = ring.wait_used();
    fuse_out_header reply{};
    if (!used || !driver_->memory.guest().load(answer, &reply) || reply.unique != unique_) return 1;
    if (out != nullptr) *out = driver_->memory.text(answer + sizeof reply, reply.len - sizeof reply);
    return reply.error;
  }
  template <typename T>
  static std::string bytes_of(const T& value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
  }

  std::string folder_;
  pid_t daemon_ = -1;
  std::unique_ptr<FsDevice> fs_;
  std::unique_ptr<simulated::Driver> driver_;
  uint64_t unique_ = 0;
};

TEST_F(FsTest, DaemonAnswersTheGuest) {
  char tag[36];
  fs_->read_config(0, std::as_writable_bytes(std::span(tag)));
  EXPECT_STREQ("share", tag);
  fuse_init_in init{};
  init.major = FUSE_KERNEL_VERSION;
  init.minor = 31;
  std::string out;
  ASSERT_EQ(0, request(FUSE_INIT, 0, bytes_of(init), &out));
  EXPECT_GE(out.size(), 24u);
  EXPECT_EQ(-ENOENT, request(FUSE_LOOKUP, FUSE_ROOT_ID, std::string("none", 5)));
  ASSERT_EQ(0, request(FUSE_LOOKUP, FUSE_ROOT_ID, std::string("hello", 6), &out));
  fuse_entry_out entry{};
  ASSERT_GE(out.size(), sizeof entry);
  std::memcpy(&entry, out.data(), sizeof entry);
  EXPECT_EQ(7u, entry.attr.size);
}

TEST_F(FsTest, DaemonThatDiesBreaksTheDevice) {
  ASSERT_EQ(0, ::kill(daemon_, SIGKILL));
  EXPECT_TRUE(driver_->wait_config());
  EXPECT_TRUE(fs_->broken());
  fs_->deactivate();
}

TEST(Fs, WrongTagsAndSocketsAreRefused) {
  EXPECT_FALSE(FsDevice::create({"", "/nowhere"}).ok());
  EXPECT_FALSE(FsDevice::create({std::string(37, 't'), "/nowhere"}).ok());
  EXPECT_FALSE(FsDevice::create({"share", "/nowhere"}).ok());
}

}  // namespace
}  // namespace hull::vmm
