#include "vm/program_check.h"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace hull::vm {
namespace {

using testing::HasSubstr;

class ProgramCheck : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hull-program-check-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    std::filesystem::create_directories(root_ + "/usr/bin");
    std::filesystem::create_directory_symlink("/usr/bin", root_ + "/bin");
    make("/usr/bin/program", 0755);
    make("/usr/bin/text", 0644);
    std::filesystem::create_symlink("/usr/bin/program", root_ + "/usr/bin/link");
    std::filesystem::create_symlink("/etc/passwd", root_ + "/usr/bin/outside");
    spec_.process.emplace();
    spec_.process->cwd = "/usr";
    spec_.process->env = {"A=b", "PATH=/sbin:/bin"};
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void make(const std::string& path, mode_t mode) {
    std::ofstream(root_ + path) << "x";
    ::chmod((root_ + path).c_str(), mode);
  }
  std::string said(const std::string& name) {
    spec_.process->args = {name};
    const auto checked = check_program(spec_, root_);
    return checked.ok() ? "" : checked.error().message();
  }

  std::string root_;
  oci::Spec spec_;
};

TEST_F(ProgramCheck, FindsWhatIsThere) {
  for (const char* name : {"program", "/bin/program", "/usr/bin/program", "bin/program", "./bin/link", "link"}) {
    EXPECT_EQ(said(name), "") << name;
  }
}

TEST_F(ProgramCheck, TellsWhatIsNot) {
  EXPECT_THAT(said("nothing"), HasSubstr("exec: \"nothing\": executable file not found in $PATH"));
  EXPECT_THAT(said("/bin/nothing"), HasSubstr("No such file or directory"));
  EXPECT_THAT(said("outside"), HasSubstr("executable file not found")) << "a link does not lead out of the root";
  EXPECT_THAT(said("text"), HasSubstr("permission denied"));
  EXPECT_THAT(said("/usr"), HasSubstr("permission denied"));
}

TEST_F(ProgramCheck, LeavesMountsAlone) {
  spec_.mounts.emplace_back().destination = "/etc/hosts";
  EXPECT_NE(said("nothing"), "");
  spec_.mounts.emplace_back().destination = "/opt";
  EXPECT_EQ(said("nothing"), "");
}

}  // namespace
}  // namespace hull::vm
