#include "vmm/virtio/queue.h"

#include <gtest/gtest.h>

#include <string>

#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

using simulated::Descriptor;
using simulated::kIndirect;
using simulated::kNext;
using simulated::kWrite;
using simulated::Memory;
using simulated::Ring;

constexpr uint64_t kAll = kRingFeatures;
constexpr uint64_t kPlain = kFeatureVersion1;

std::string text_of(Buffers buffers) {
  std::string out(buffers.bytes(), '\0');
  EXPECT_TRUE(buffers.copy_out(std::as_writable_bytes(std::span(out))));
  return out;
}

class QueueTest : public testing::Test {
 protected:
  void start(uint64_t features = kAll, uint16_t size = 8) {
    ring_ = std::make_unique<Ring>(&memory_, size);
    ASSERT_TRUE(queue_.start(&memory_.guest(), ring_->addresses, features));
  }
  Descriptor readable(std::string_view text) { return {memory_.place(text), static_cast<uint32_t>(text.size()), 0, 0}; }
  Descriptor writable(uint32_t size) { return {memory_.allocate(size), size, kWrite, 0}; }
  /// The next chain is refused, and the queue stays refusing.
  void expect_broken() {
    Chain chain;
    EXPECT_FALSE(queue_.pop(&chain));
    EXPECT_TRUE(queue_.broken());
    EXPECT_FALSE(queue_.pop(&chain));
    EXPECT_FALSE(queue_.enable_notifications());
  }

  Memory memory_;
  std::unique_ptr<Ring> ring_;
  Queue queue_;
};

TEST_F(QueueTest, ChainsComeInOrderAndGoBack) {
  start();
  const Descriptor answer = writable(16);
  const uint16_t first = ring_->add({readable("hello "), readable("world"), answer});
  const uint16_t second = ring_->add({readable("again")});
  Chain chain;
  ASSERT_TRUE(queue_.pop(&chain));
  EXPECT_EQ(first, chain.head);
  EXPECT_EQ("hello world", text_of(chain.readable));
  EXPECT_EQ(16u, chain.writable.bytes());
  EXPECT_EQ(6u, chain.writable.copy_in(std::as_bytes(std::span("answer", 6))));
  EXPECT_EQ(10u, chain.writable.bytes());
  queue_.push(chain.head, 6);
  EXPECT_EQ("answer", memory_.text(answer.address, 6));
  const auto used = ring_->take_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(first, used->id);
  EXPECT_EQ(6u, used->written);
  ASSERT_TRUE(queue_.pop(&chain));
  EXPECT_EQ(second, chain.head);
  EXPECT_FALSE(ring_->take_used());
  EXPECT_FALSE(queue_.pop(&chain));
  EXPECT_FALSE(queue_.broken());
  EXPECT_EQ(2, queue_.next_available());
}

TEST_F(QueueTest, IndicesWrapAround) {
  start(kAll, 4);
  // A queue that is taken over goes on where the other stopped; here just before 16 bits end.
  ring_->addresses.next_available = 65533;
  ring_->set_available_index(65533);
  ASSERT_TRUE(queue_.start(&memory_.guest(), ring_->addresses, kAll));
  for (int i = 0; i < 20; ++i) {
    ring_->add({readable("x")});
    Chain chain;
    ASSERT_TRUE(queue_.pop(&chain)) << i;
    queue_.push(chain.head, 0);
    ASSERT_TRUE(ring_->take_used()) << i;
  }
  EXPECT_EQ(static_cast<uint16_t>(65533 + 20), queue_.next_available());
}

TEST_F(QueueTest, IndirectTables) {
  start();
  const Descriptor one = readable("one"), two = writable(5);
  const uint64_t table = memory_.allocate(32);
  ASSERT_TRUE(memory_.guest().store(table, Descriptor{one.address, one.size, kNext, 1}));
  ASSERT_TRUE(memory_.guest().store(table + 16, Descriptor{two.address, two.size, kWrite, 0}));
  // Clause 2.7.5.3.2: plain descriptors may come before the indirect one.
  ring_->add({readable("zero "), {table, 32, kIndirect, 0}});
  Chain chain;
  ASSERT_TRUE(queue_.pop(&chain));
  EXPECT_EQ("zero one", text_of(chain.readable));
  EXPECT_EQ(5u, chain.writable.bytes());
}

TEST_F(QueueTest, BuffersMayCrossNeighbouringRegions) {
  start();
  const uint64_t at = memory_.seam() - 3;
  ASSERT_TRUE(memory_.guest().write(at, std::as_bytes(std::span("abcdef", 6))));
  ring_->add({{at, 6, 0, 0}});
  Chain chain;
  ASSERT_TRUE(queue_.pop(&chain));
  EXPECT_EQ(2u, chain.readable.parts().size());
  EXPECT_EQ("abcdef", text_of(chain.readable));
}

TEST_F(QueueTest, UnpoppedChainsComeAgain) {
  start();
  ring_->add({readable("a")});
  ring_->add({readable("b")});
  Chain chain;
  ASSERT_TRUE(queue_.pop(&chain));
  ASSERT_TRUE(queue_.pop(&chain));
  EXPECT_EQ("b", text_of(chain.readable));
  queue_.unpop(1);
  ASSERT_TRUE(queue_.pop(&chain));
  EXPECT_EQ("b", text_of(chain.readable));
  EXPECT_EQ(2, queue_.in_flight());
}

TEST_F(QueueTest, StagedChainsAppearTogether) {
  start();
  ring_->add({writable(4)});
  ring_->add({writable(4)});
  Chain first, second;
  ASSERT_TRUE(queue_.pop(&first));
  ASSERT_TRUE(queue_.pop(&second));
  queue_.stage(first.head, 4);
  queue_.stage(second.head, 2);
  EXPECT_EQ(0, ring_->used_index());
  queue_.publish();
  EXPECT_EQ(2, ring_->used_index());
}

TEST_F(QueueTest, InterruptsAndKicksByEventIndex) {
  start();
  for (int i = 0; i < 6; ++i) ring_->add({readable("x")});
  Chain chain;
  EXPECT_FALSE(queue_.needs_interrupt());
  ring_->set_used_event(0);
  ASSERT_TRUE(queue_.pop(&chain));
  queue_.push(chain.head, 0);
  EXPECT_TRUE(queue_.needs_interrupt());
  EXPECT_FALSE(queue_.needs_interrupt());
  ring_->set_used_event(2);  // at the third
  ASSERT_TRUE(queue_.pop(&chain));
  queue_.push(chain.head, 0);
  EXPECT_FALSE(queue_.needs_interrupt());
  ASSERT_TRUE(queue_.pop(&chain));
  queue_.push(chain.head, 0);
  EXPECT_TRUE(queue_.needs_interrupt());
  // Several at once that step over the wish.
  ring_->set_used_event(4);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(queue_.pop(&chain));
    queue_.push(chain.head, 0);
  }
  EXPECT_TRUE(queue_.needs_interrupt());
  EXPECT_FALSE(queue_.enable_notifications());
  EXPECT_EQ(6, ring_->avail_event());
  ring_->add({readable("y")});
  EXPECT_TRUE(queue_.enable_notifications());
}

TEST_F(QueueTest, InterruptsAndKicksByFlags) {
  start(kPlain);
  ring_->add({readable("x")});
  ring_->add({readable("x")});
  Chain chain;
  ring_->set_available_flags(1);
  ASSERT_TRUE(queue_.pop(&chain));
  queue_.push(chain.head, 0);
  EXPECT_FALSE(queue_.needs_interrupt());
  ring_->set_available_flags(0);
  ASSERT_TRUE(queue_.pop(&chain));
  queue_.push(chain.head, 0);
  EXPECT_TRUE(queue_.needs_interrupt());
  queue_.disable_notifications();
  EXPECT_EQ(1, ring_->used_flags());
  EXPECT_FALSE(queue_.enable_notifications());
  EXPECT_EQ(0, ring_->used_flags());
}

// What a hostile guest tries. Each makes the queue broken and nothing else.

TEST_F(QueueTest, QueuesOfNonsenseSizeOrPlaceAreRefused) {
  Ring ring(&memory_, 8);
  const auto refused = [&](auto change) {
    QueueAddresses addresses = ring.addresses;
    change(&addresses);
    Queue queue;
    EXPECT_FALSE(queue.start(&memory_.guest(), addresses, kAll));
    EXPECT_TRUE(queue.broken());
    Chain chain;
    EXPECT_FALSE(queue.pop(&chain));
    queue.push(0, 0);
    EXPECT_FALSE(queue.needs_interrupt());
    EXPECT_FALSE(queue.enable_notifications());
  };
  refused([](QueueAddresses* a) { a->size = 0; });
  refused([](QueueAddresses* a) { a->size = 7; });
  refused([](QueueAddresses* a) { a->size = 65535; });
  refused([](QueueAddresses* a) { a->size = 2048; });
  refused([](QueueAddresses* a) { a->descriptors += 8; });
  refused([](QueueAddresses* a) { a->driver_ring += 1; });
  refused([](QueueAddresses* a) { a->device_ring += 2; });
  refused([](QueueAddresses* a) { a->descriptors = 0; });
  refused([](QueueAddresses* a) { a->driver_ring = ~0ull - 1; });
  refused([&](QueueAddresses* a) { a->device_ring = memory_.end_of_low() - 4; });
  refused([](QueueAddresses* a) { a->descriptors = ~0ull - 15; });
}

TEST_F(QueueTest, LoopIsBroken) {
  start();
  const Descriptor buffer = readable("x");
  ring_->set_descriptor(0, {buffer.address, 1, kNext, 1});
  ring_->set_descriptor(1, {buffer.address, 1, kNext, 0});
  ring_->make_available(0);
  expect_broken();
}

TEST_F(QueueTest, ChainLongerThanTheQueueIsBroken) {
  start(kAll, 4);
  const Descriptor buffer = readable("x");
  const uint64_t table = memory_.allocate(16 * 5);
  for (uint16_t i = 0; i < 5; ++i) {
    const Descriptor entry{buffer.address, 1, static_cast<uint16_t>(i < 4 ? kNext : 0), static_cast<uint16_t>(i + 1)};
    ASSERT_TRUE(memory_.guest().store(table + 16ull * i, entry));
  }
  ring_->add({{table, 16 * 5, kIndirect, 0}});
  expect_broken();
}

TEST_F(QueueTest, AddressesOutsideOfMemoryAreBroken) {
  const auto broken = [&](uint64_t address, uint32_t size) {
    start();
    ring_->add({{address, size, 0, 0}});
    expect_broken();
  };
  broken(0, 1);
  broken(Memory::kBase - 1, 1);
  broken(Memory::kBase - 1, 16);
  broken(memory_.end_of_low(), 1);
  broken(memory_.end_of_low() - 1, 2);
  broken(memory_.seam() - 1, UINT32_MAX);
  broken(~0ull, 1);
  broken(~0ull - 10, 100);
  broken(Memory::kFar + (1 << 20) - 1, 2);
}

TEST_F(QueueTest, EmptyDescriptorIsBroken) {
  start();
  ring_->add({{memory_.allocate(16), 0, 0, 0}});
  expect_broken();
}

TEST_F(QueueTest, ReadableAfterWritableIsBroken) {
  start();
  ring_->add({writable(4), readable("x")});
  expect_broken();
}

TEST_F(QueueTest, IndicesOutsideOfTheTableAreBroken) {
  start();
  ring_->make_available(8);
  expect_broken();
  start();
  const Descriptor buffer = readable("x");
  ring_->set_descriptor(0, {buffer.address, 1, kNext, 65535});
  ring_->make_available(0);
  expect_broken();
}

TEST_F(QueueTest, AvailableIndexThatJumpsIsBroken) {
  start();
  ring_->set_available_index(9);
  expect_broken();
  start();
  ring_->set_available_index(65535);  // one back
  expect_broken();
}

TEST_F(QueueTest, MoreInFlightThanTheQueueHasIsBroken) {
  start(kAll, 4);
  for (int i = 0; i < 4; ++i) ring_->add({readable("x")});
  Chain chain;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(queue_.pop(&chain));
  ring_->add({readable("x")});  // before any came back
  expect_broken();
}

TEST_F(QueueTest, IndirectNonsenseIsBroken) {
  const Descriptor buffer = readable("x");
  const uint64_t table = memory_.allocate(64);
  ASSERT_TRUE(memory_.guest().store(table, Descriptor{buffer.address, 1, 0, 0}));
  const auto broken = [&](const Descriptor& descriptor, uint64_t features = kAll) {
    start(features);
    ring_->set_descriptor(0, descriptor);
    ring_->make_available(0);
    expect_broken();
  };
  broken({table, 16, kIndirect, 0}, kPlain);  // not negotiated
  broken({table, 0, kIndirect, 0});
  broken({table, 15, kIndirect, 0});
  broken({table, 16, kIndirect | kNext, 0});
  broken({0, 16, kIndirect, 0});
  broken({~0ull - 15, 16, kIndirect, 0});
  broken({~0ull - 15, 4096, kIndirect, 0});
  ASSERT_TRUE(memory_.guest().store(table, Descriptor{table, 16, kIndirect, 0}));
  broken({table, 16, kIndirect, 0});  // a table in a table
  ASSERT_TRUE(memory_.guest().store(table, Descriptor{buffer.address, 1, kNext, 1}));
  broken({table, 16, kIndirect, 0});  // next lies behind the table
}

TEST_F(QueueTest, BytesBeyondFourGigabytesAreBroken) {
  start();
  // 2 MiB regions can't hold such a chain, but the same bytes may be named again and again.
  Memory big(64 << 20);
  Ring ring(&big, 256);
  Queue queue;
  ASSERT_TRUE(queue.start(&big.guest(), ring.addresses, kAll));
  std::vector<Descriptor> chain(200, Descriptor{big.seam(), 32 << 20, 0, 0});
  ring.add(chain);
  Chain popped;
  EXPECT_FALSE(queue.pop(&popped));
  EXPECT_STREQ("bytes of a chain", queue.fault());
}

TEST_F(QueueTest, DescriptorIsCopiedOnce) {
  start();
  const Descriptor buffer = readable("head");
  ring_->add({buffer});
  Chain chain;
  ASSERT_TRUE(queue_.pop(&chain));
  // What the guest changes afterwards changes nothing of what was checked.
  ring_->set_descriptor(0, {~0ull, UINT32_MAX, kNext | kIndirect, 65535});
  EXPECT_EQ("head", text_of(chain.readable));
}

TEST_F(QueueTest, ReadOnlyMemoryIsReadAndNeverWritten) {
  const std::array<std::byte, 16> blob{std::byte{'b'}, std::byte{'l'}};
  std::vector<MemoryRegion> regions(memory_.guest().regions().begin(), memory_.guest().regions().end());
  constexpr uint64_t kAddress = 1ull << 40;
  MemoryRegion read_only{kAddress, blob.size(), const_cast<std::byte*>(blob.data()), -1, 0};
  read_only.read_only = true;
  regions.push_back(read_only);
  const GuestMemory memory(regions);
  EXPECT_TRUE(memory.at(kAddress, 2).empty());
  uint16_t value = 0;
  EXPECT_TRUE(memory.load(kAddress, &value));
  EXPECT_FALSE(memory.store(kAddress, value));
  ring_ = std::make_unique<Ring>(&memory_, 8);
  ASSERT_TRUE(queue_.start(&memory, ring_->addresses, kAll));
  ring_->add({{kAddress, 2, 0, 0}});
  ring_->add({{kAddress, 2, kWrite, 0}});
  Chain chain;
  ASSERT_TRUE(queue_.pop(&chain));
  EXPECT_EQ("bl", text_of(chain.readable));
  EXPECT_FALSE(queue_.pop(&chain));
  EXPECT_STREQ("address of a buffer", queue_.fault());
  QueueAddresses rings = ring_->addresses;
  rings.device_ring = kAddress;
  EXPECT_FALSE(Queue().start(&memory, rings, kAll));
}

TEST(Buffers, AreCutAndFilled) {
  std::array<std::byte, 10> a{}, b{};
  Buffers buffers, tail;
  buffers.append(a);
  buffers.append(b);
  ASSERT_FALSE(buffers.split_back(21, &tail));
  ASSERT_TRUE(buffers.split_back(13, &tail));
  EXPECT_EQ(7u, buffers.bytes());
  EXPECT_EQ(1u, buffers.parts().size());
  EXPECT_EQ(13u, tail.bytes());
  EXPECT_EQ(2u, tail.parts().size());
  EXPECT_EQ(7u, buffers.copy_in(std::as_bytes(std::span("0123456789", 10))));
  EXPECT_TRUE(buffers.empty());
  EXPECT_EQ(std::byte{'6'}, a[6]);
  tail.advance(3);
  EXPECT_EQ(b.data(), tail.parts()[0].iov_base);
  Buffers rest;
  ASSERT_TRUE(tail.split_back(10, &rest));
  EXPECT_TRUE(tail.empty());
  EXPECT_EQ(0u, tail.parts().size());
  std::vector<iovec> front;
  rest.append(a);
  rest.slice(8, 4, &front);
  ASSERT_EQ(2u, front.size());
  EXPECT_EQ(2u, front[0].iov_len);
  EXPECT_EQ(a.data(), front[1].iov_base);
  EXPECT_EQ(2u, front[1].iov_len);
  b.fill(std::byte{1});
  EXPECT_EQ(20u, rest.fill_zero(100));
  EXPECT_EQ(std::byte{0}, b[9]);
  ASSERT_FALSE(tail.split_back(1, &rest));
}

}  // namespace
}  // namespace hull::vmm
