#include "sys/overlay.h"

#include <gtest/gtest.h>

namespace hull::sys {
namespace {

using Folders = std::vector<std::string>;

TEST(Overlay, LowerFoldersAreSplitAsOverlayfsReadsThem) {
  EXPECT_EQ(split_lower_folders("/a"), Folders({"/a"}));
  EXPECT_EQ(split_lower_folders("/a:/b:/c"), Folders({"/a", "/b", "/c"}));
  EXPECT_EQ(split_lower_folders("/a\\:b:/c\\\\d"), Folders({"/a:b", "/c\\d"}));
  EXPECT_EQ(split_lower_folders("/a\\"), Folders({"/a\\"}));
}

}  // namespace
}  // namespace hull::sys
