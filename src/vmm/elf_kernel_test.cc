#include "vmm/elf_kernel.h"

#include <gmock/gmock.h>
#include <sys/mman.h>

#include "base/unique_fd.h"
#include "vmm/elf_sample.h"
#include "vmm/machine_memory.h"

namespace hull::vmm {
namespace {
using samples::Shape;
using testing::HasSubstr;

Result<ElfKernel> read(const std::string& bytes) {
  return read_elf_kernel(
      [&](uint64_t offset, std::span<std::byte> out) {
        if (offset > bytes.size() || out.size() > bytes.size() - offset) return false;
        std::memcpy(out.data(), bytes.data() + offset, out.size());
        return true;
      },
      bytes.size(), "sample");
}
std::string error_of(const std::string& bytes) {
  const Result<ElfKernel> kernel = read(bytes);
  return kernel.ok() ? "" : kernel.error().message();
}
template <typename F>
std::string error_with(F&& change) {
  Shape shape = Shape::good("\xf4");
  change(shape);
  return error_of(shape.bytes());
}

TEST(ElfKernel, GoodOneIsRead) {
  const Result<ElfKernel> kernel = read(Shape::good("\xf4", 0x200000).bytes());
  ASSERT_TRUE(kernel.ok()) << kernel.error().message();
  EXPECT_EQ(kernel->entry, 0x200000u);
  ASSERT_EQ(kernel->segments.size(), 1u);
  EXPECT_EQ(kernel->end(), 0x200000u + 4097);
}

TEST(ElfKernel, EveryCutIsRefusedAndNoneIsReadBeyond) {
  const std::string whole = Shape::good("\xf4\xf4\xf4").bytes();
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_NE(error_of(whole.substr(0, size)), "") << size;
}

TEST(ElfKernel, HostileNumbersAreRefused) {
  EXPECT_THAT(error_with([](Shape& s) { s.header.e_phnum = 0xffff; }), HasSubstr("program headers"));
  EXPECT_THAT(error_with([](Shape& s) { s.header.e_phoff = ~0ull - 8; }), HasSubstr("program headers"));
  EXPECT_THAT(error_with([](Shape& s) { s.load.p_offset = ~0ull; }), HasSubstr("outside the file"));
  EXPECT_THAT(error_with([](Shape& s) { s.load.p_filesz = ~0ull; }), HasSubstr("longer"));
  EXPECT_THAT(error_with([](Shape& s) { s.load.p_memsz = ~0ull; }), HasSubstr("between 1 MiB and 3 GiB"));
  EXPECT_THAT(error_with([](Shape& s) { s.load.p_paddr = ~0ull - 100; }), HasSubstr("between 1 MiB and 3 GiB"));
  EXPECT_THAT(error_with([](Shape& s) { s.load.p_paddr = 0x7000; }), HasSubstr("between 1 MiB and 3 GiB"));
  EXPECT_THAT(error_with([](Shape& s) { s.note.p_filesz = 1ull << 40; }), HasSubstr("notes"));
  EXPECT_THAT(error_with([](Shape& s) { s.note.p_offset = ~0ull; }), HasSubstr("notes"));
  EXPECT_THAT(error_with([](Shape& s) { s.note = s.load; }), HasSubstr("overlap"));
  EXPECT_THAT(error_with([](Shape& s) { s.load.p_type = PT_NULL; }), HasSubstr("nothing to load"));
}

TEST(ElfKernel, EntryMustBeThereAndInside) {
  EXPECT_THAT(error_with([](Shape& s) { s.note.p_type = PT_NULL; }), HasSubstr("CONFIG_PVH"));
  EXPECT_THAT(error_with([](Shape& s) { s.set_entry(0x900000); }), HasSubstr("outside of what is loaded"));
  EXPECT_THAT(error_with([](Shape& s) { s.set_entry(0x100000000); }), HasSubstr("CONFIG_PVH"));
  EXPECT_THAT(error_with([](Shape& s) { s.note_bytes[0] = '\xff', s.note_bytes[3] = '\xff'; }),
              HasSubstr("CONFIG_PVH"));
}

TEST(ElfKernel, OtherFilesAreNamed) {
  EXPECT_THAT(error_of("#!/bin/sh\n"), HasSubstr("shorter than any kernel"));
  EXPECT_THAT(error_of(std::string(4096, 'x')), HasSubstr("is no kernel"));
  EXPECT_THAT(error_with([](Shape& s) { s.header.e_machine = EM_AARCH64; }), HasSubstr("another architecture"));
}

TEST(ElfKernel, LoadsIntoMemoryOrSaysItIsTooSmall) {
  const std::string bytes = Shape::good("code", 0x100000).bytes();
  const UniqueFd fd(::memfd_create("kernel", MFD_CLOEXEC));
  ASSERT_EQ(::write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  Result<MachineMemory> memory = MachineMemory::create({.bytes = 4 << 20});
  ASSERT_TRUE(memory.ok());
  const Result<ElfKernel> kernel = read_elf_kernel(fd.get(), "sample");
  ASSERT_TRUE(kernel.ok());
  ASSERT_TRUE(load_kernel(fd.get(), *kernel, memory->guest(), memory->low_end(), "sample").ok());
  char code[4];
  ASSERT_TRUE(memory->guest().load(0x100000, &code));
  EXPECT_EQ(std::string(code, 4), "code");
  const Result<void> small = load_kernel(fd.get(), *kernel, memory->guest(), 0x100800, "sample");
  ASSERT_FALSE(small.ok());
  EXPECT_THAT(small.error().message(), HasSubstr("too small"));
}

}  // namespace
}  // namespace hull::vmm
