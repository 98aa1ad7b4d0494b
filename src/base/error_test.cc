#include "base/error.h"

#include <gtest/gtest.h>

#include "base/digest.h"
#include "base/error_format.h"

namespace hull {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return errorf(ErrorKind::kInvalid, "{} is odd", value);
  return value / 2;
}
Result<int> quarter(int value) {
  TRY_ASSIGN(const int once, half(value));
  TRY_ASSIGN(const int twice, half(once).context("second half"));
  return twice;
}

TEST(Result, TravelsUp) {
  EXPECT_EQ(*quarter(8), 2);
  const auto failed = quarter(6);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message(), "second half: 3 is odd");
  EXPECT_EQ(failed.error().kind(), ErrorKind::kInvalid);
  EXPECT_NE(std::string_view(failed.error().where().file_name()).find("error_test.cc"), std::string_view::npos);
}

TEST(Result, KnowsErrno) {
  const Error error = Error::from_errno(ENOENT, "open /x");
  EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  EXPECT_EQ(error.error_number(), ENOENT);
  EXPECT_EQ(error.message(), "open /x: No such file or directory");
}

TEST(Digest, IsStrict) {
  const std::string good = "sha256:" + std::string(64, 'a');
  EXPECT_EQ(Digest::parse(good)->hex(), std::string(64, 'a'));
  for (const std::string& bad :
       {std::string(), std::string("sha256:"), "sha256:" + std::string(63, 'a'), "sha256:" + std::string(64, 'A'),
        "md5:" + std::string(32, 'a'), good + "\n", "sha256:../../" + std::string(58, 'a')}) {
    EXPECT_FALSE(Digest::parse(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace hull
