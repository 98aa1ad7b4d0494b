// Trees packed and unpacked, held against bsdtar's and GNU tar's view of the same.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/error_format.h"
#include "sys/file.h"
#include "tar/pack.h"
#include "tar/unpack.h"

namespace hull::tar {
namespace {

class Tree : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/hull-tar-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    top_ = folder;
    sh("mkdir from to");
  }
  void TearDown() override { ignore_result(sys::remove_tree(top_)); }
  void sh(const std::string& script) {
    ASSERT_EQ(::system(("cd " + top_ + " && { " + script + "; }").c_str()), 0) << script;
  }
  std::string text(const std::string& script) {
    FILE* pipe = ::popen(("cd " + top_ + " && { " + script + "; }").c_str(), "r");
    std::string out;
    char buffer[4096];
    while (size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, got);
    ::pclose(pipe);
    return out;
  }
  Result<void> pack(const std::string& name, const std::string& as, PackOptions options = {}) {
    TRY_ASSIGN(const UniqueFd folder, sys::open(top_, O_RDONLY | O_DIRECTORY));
    TRY_ASSIGN(const UniqueFd file, sys::open(top_ + "/out.tar", O_WRONLY | O_CREAT | O_TRUNC, 0600));
    TarWriter writer(sink_to(file.get()));
    Packer packer(writer, options);
    TRY(packer.tree(folder.get(), name, as));
    return writer.finish();
  }
  Result<void> unpack(const std::string& archive, const std::string& base, UnpackOptions options = {}) {
    TRY_ASSIGN(const sys::Root root, sys::Root::open(top_ + "/to"));
    TRY_ASSIGN(const UniqueFd file, sys::open(top_ + "/" + archive, O_RDONLY));
    Unpacker unpacker(root, base, std::move(options));
    return tar::unpack(source_of(file.get()), unpacker);
  }
  std::string top_;
};

constexpr const char* kManyKinds =
    "cd from && mkdir -p a/b/c && echo one > a/one && ln a/one a/b/same && ln -s ../one a/b/link && mkfifo a/pipe && "
    "chmod 4751 a/one && chmod 1777 a/b/c && : > a/empty && head -c 3000000 /dev/urandom > a/big && "
    "long=a/$(printf 'n%.0s' $(seq 200)) && echo x > $long && ln -s $(printf 'm%.0s' $(seq 150)) a/longlink && "
    "printf u > \"a/na\xc3\xafve\" && touch -d '2001-02-03 04:05:06.789' a/one a/b a && touch -d '1960-01-01' a/empty";
constexpr const char* kListing =
    "find . -mindepth 1 ! -name .. -printf '%p %y %m %s %l %n\\n' | sort; find . -type f | sort | xargs -d '\\n' "
    "sha256sum";

TEST_F(Tree, ArrivesAsItWas) {
  sh(kManyKinds);
  ASSERT_TRUE(pack("from", ".").ok());
  const auto done = unpack("out.tar", "");
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_EQ(text(std::string("cd to; ") + kListing), text(std::string("cd from; ") + kListing));
  EXPECT_EQ(text("cd to; find . -mindepth 1 -printf '%p %T@\\n' | sort"),
            text("cd from; find . -mindepth 1 -printf '%p %T@\\n' | sort"));
}

TEST_F(Tree, IsReadByOtherTars) {
  sh(kManyKinds);
  ASSERT_TRUE(pack("from", "name").ok());
  for (const char* program : {"tar", "bsdtar"}) {
    sh(fmt::format("rm -rf to/* && {} -C to -xpf out.tar", program));
    EXPECT_EQ(text(std::string("cd to/name; ") + kListing), text(std::string("cd from; ") + kListing)) << program;
  }
}

TEST_F(Tree, ReadsOtherTars) {
  sh(kManyKinds);
  for (const char* form : {"--format=gnu", "--format=pax", "--format=pax --sparse"}) {
    sh(fmt::format("rm -rf to/*; truncate -s 5M from/a/hole; echo end >> from/a/hole; tar {} -C from -cf in.tar .",
                   form));
    const auto done = unpack("in.tar", "");
    ASSERT_TRUE(done.ok()) << done.error().message();
    EXPECT_EQ(text(std::string("cd to; ") + kListing), text(std::string("cd from; ") + kListing)) << form;
  }
}

TEST_F(Tree, RefusesToLeaveItsFolder) {
  sh("mkdir to/in; echo x > f; tar -cPf up.tar --transform 's,^f,../out,' f; tar -cPf abs.tar --transform 's,^f,/abs,' "
     "f; "
     "ln -s /etc l; tar -cf link.tar l; tar -rPf link.tar --transform 's,^f,l/hull-test-escape,' f");
  EXPECT_EQ(unpack("up.tar", "in").error().kind(), ErrorKind::kInvalid);
  EXPECT_TRUE(unpack("abs.tar", "in").ok());
  EXPECT_TRUE(sys::exists(top_ + "/to/in/abs"));
  // A link made by the archive, then a file through it: not followed on this machine, in-root inside a workload.
  UnpackOptions strict;
  strict.follow_links = false;
  EXPECT_FALSE(unpack("link.tar", "in", strict).ok());
  sh("mkdir to/etc");
  EXPECT_TRUE(unpack("link.tar", "in").ok());
  EXPECT_TRUE(sys::exists(top_ + "/to/etc/hull-test-escape"));
  EXPECT_FALSE(sys::exists("/etc/hull-test-escape"));
}

TEST_F(Tree, ReplacesButNeverWritesThrough) {
  sh("echo secret > secret; ln -s ../secret to/file; mkdir to/dir; echo new > file; mkdir -p x/dir; tar -cf in.tar "
     "file");
  ASSERT_TRUE(unpack("in.tar", "").ok());
  EXPECT_EQ(text("cat secret to/file; test -L to/file || echo plain"), "secret\nnew\nplain\n");
  sh("rm file; mkdir file; tar -cf folder.tar file; echo d > dir; tar -cf filed.tar dir");
  UnpackOptions careful;
  careful.no_overwrite_dir_non_dir = true;
  EXPECT_EQ(unpack("folder.tar", "", careful).error().kind(), ErrorKind::kConflict);
  EXPECT_EQ(unpack("filed.tar", "", careful).error().kind(), ErrorKind::kConflict);
  EXPECT_TRUE(unpack("folder.tar", "").ok());
  EXPECT_TRUE(unpack("filed.tar", "").ok());
  EXPECT_EQ(text("stat -c %F to/file to/dir"), "directory\nregular file\n");
}

TEST_F(Tree, Rebases) {
  sh("mkdir -p from/sub; echo x > from/sub/f; ln from/sub/f from/sub/g");
  ASSERT_TRUE(pack("from", "from").ok());
  UnpackOptions options;
  options.rebase_from = "from";
  options.rebase_to = "other";
  ASSERT_TRUE(unpack("out.tar", "", options).ok());
  EXPECT_EQ(text("cd to; find . -type f -links 2 | sort"), "./other/sub/f\n./other/sub/g\n");
}

TEST_F(Tree, RefusesWhatIsNoArchive) {
  sh("echo hello | gzip > in.tar");
  EXPECT_EQ(unpack("in.tar", "").error().kind(), ErrorKind::kUnsupported);
  sh("head -c 2000 /dev/urandom > in.tar");
  EXPECT_FALSE(unpack("in.tar", "").ok());
  sh("echo x > f; tar -cf in.tar f; truncate -s 513 in.tar");
  EXPECT_EQ(unpack("in.tar", "").error().kind(), ErrorKind::kCorrupt);
}

}  // namespace
}  // namespace hull::tar
