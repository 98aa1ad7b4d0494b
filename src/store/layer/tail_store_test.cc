#include "store/layer/tail_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <random>

#include "base/unique_fd.h"

namespace hull::store {
namespace {

TEST(TailStore, KeepsAllInMemoryAndFile) {
  const UniqueFd file(::memfd_create("tails", MFD_CLOEXEC));
  TailStore store(file.get(), 10'000);
  std::mt19937 random(3);
  std::vector<std::byte> all;
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::byte> piece(1 + random() % 2000);
    for (std::byte& b : piece) b = static_cast<std::byte>(random());
    ASSERT_TRUE(store.has_room(piece.size()));
    ASSERT_EQ(store.end(), all.size());
    ASSERT_TRUE(store.append(piece).ok());
    all.insert(all.end(), piece.begin(), piece.end());
  }
  for (int i = 0; i < 2000; ++i) {
    const size_t at = i == 0 ? 9'900 : random() % all.size();
    std::vector<std::byte> piece(std::min<size_t>(1 + random() % 3000, all.size() - at));
    ASSERT_TRUE(store.read(at, piece).ok());
    ASSERT_TRUE(std::equal(piece.begin(), piece.end(), all.begin() + static_cast<ptrdiff_t>(at))) << at;
  }
}

TEST(TailStore, WithoutScratchOnlyMemory) {
  const UniqueFd file(::memfd_create("tails", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::fcntl(file.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
  TailStore store(file.get(), 100);
  EXPECT_TRUE(store.has_room(100));
  EXPECT_FALSE(store.has_room(101));
}

}  // namespace
}  // namespace hull::store
