#include "vmm/acpi.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "vmm/aml.h"
#include "vmm/layout.h"

namespace hull::vmm {
namespace {

constexpr uint64_t kBase = layout::kAcpi;

std::string tables(const AcpiMachine& machine) {
  const Result<std::vector<std::byte>> made = make_acpi_tables(machine, kBase, layout::kAcpiEnd - kBase);
  EXPECT_TRUE(made.ok());
  return {reinterpret_cast<const char*>(made->data()), made->size()};
}

template <typename T>
T number(const std::string& bytes, size_t offset) {
  T out{};
  std::memcpy(&out, bytes.data() + offset, sizeof(T));
  return out;
}

uint8_t sum(std::string_view bytes) {
  uint8_t total = 0;
  for (const char c : bytes) total = static_cast<uint8_t>(total + static_cast<uint8_t>(c));
  return total;
}

/// The table at a guest-physical address.
std::string table_at(const std::string& all, uint64_t address) {
  const size_t offset = address - kBase;
  return all.substr(offset, number<uint32_t>(all, offset + 4));
}

std::string find_table(const std::string& all, const std::string& signature) {
  const std::string xsdt = table_at(all, number<uint64_t>(all, 24));
  for (size_t at = 36; at + 8 <= xsdt.size(); at += 8) {
    const std::string table = table_at(all, number<uint64_t>(xsdt, at));
    if (table.substr(0, 4) == signature) return table;
    if (signature == "DSDT" && table.substr(0, 4) == "FACP") return table_at(all, number<uint64_t>(table, 140));
  }
  return {};
}

AcpiMachine big_machine() {
  AcpiMachine machine;
  machine.vcpus = 64;
  for (size_t i = 0; i < std::size(layout::kVirtioIrqs); ++i) {
    machine.virtio.push_back({layout::kVirtioWindows + i * layout::kVirtioWindowSize, layout::kVirtioIrqs[i]});
  }
  for (size_t i = 0; i < layout::kMostSlots; ++i) machine.slots.push_back(machine.virtio[i]);
  return machine;
}

TEST(Acpi, EveryTableAddsUpToZero) {
  const std::string all = tables(big_machine());
  EXPECT_EQ(all.substr(0, 8), "RSD PTR ");
  EXPECT_EQ(sum(std::string_view(all).substr(0, 20)), 0);
  EXPECT_EQ(sum(std::string_view(all).substr(0, 36)), 0);
  for (const char* signature : {"FACP", "APIC", "DSDT"}) {
    const std::string table = find_table(all, signature);
    ASSERT_GE(table.size(), 36u) << signature;
    EXPECT_EQ(sum(table), 0) << signature;
  }
  EXPECT_EQ(sum(table_at(all, number<uint64_t>(all, 24))), 0) << "XSDT";
}

TEST(Acpi, MadtHasEachProcessorOnce) {
  const std::string madt = find_table(tables(big_machine()), "APIC");
  uint64_t seen = 0;
  for (size_t at = 44; at < madt.size(); at += static_cast<uint8_t>(madt[at + 1])) {
    if (madt[at] == 0) seen |= 1ull << madt[at + 3];
  }
  EXPECT_EQ(seen, ~0ull);
}

TEST(Acpi, TooLittleRoomIsAnError) { EXPECT_FALSE(make_acpi_tables(big_machine(), kBase, 512).ok()); }

TEST(Aml, PackageLengthsOfEachSize) {
  EXPECT_EQ(aml::scope("A", std::string(10, 'x')).substr(0, 2), std::string("\x10\x0f", 2));
  const std::string two = aml::scope("A", std::string(100, 'x'));  // 4 + 100 + 2 = 106 = 0x6a
  EXPECT_EQ(two.substr(1, 2), std::string("\x4a\x06", 2));
  const std::string three = aml::scope("A", std::string(5000, 'x'));  // 4 + 5000 + 3 = 5007 = 0x138f
  EXPECT_EQ(three.substr(1, 3), std::string("\x8f\x38\x01", 3));
}

TEST(Aml, EisaIdsAndPaths) {
  EXPECT_EQ(aml::eisa_id("PNP0501"), std::string("\x0c\x41\xd0\x05\x01", 5));
  EXPECT_EQ(aml::eisa_id("PNP0C0C"), std::string("\x0c\x41\xd0\x0c\x0c", 5));
  EXPECT_EQ(aml::path("\\_SB_.PWRB"), "\\\x2e_SB_PWRB");
  EXPECT_EQ(aml::path("_S5"), "_S5_");
  EXPECT_EQ(aml::integer(0x12345), std::string("\x0c\x45\x23\x01\x00", 5));
}

/// iasl, from another author, reads our AML back and compiles what it read without a complaint.
TEST(Acpi, IaslUnderstandsTheTables) {
  if (::access("/usr/bin/iasl", X_OK) != 0) GTEST_SKIP() << "iasl is not installed";
  char folder[] = "/tmp/hull-acpi.XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string where = folder;
  const std::string all = tables(big_machine());
  for (const std::string name : {"DSDT", "FACP", "APIC"}) {
    const std::string table = find_table(all, name);
    std::ofstream(where + "/" + name + ".aml", std::ios::binary) << table;
    const std::string log = where + "/" + name + ".log";
    ASSERT_EQ(::system(("cd " + where + " && iasl -d " + name + ".aml >" + log + " 2>&1").c_str()), 0) << log;
    ASSERT_EQ(::system(("cd " + where + " && iasl -p again-" + name + " " + name + ".dsl >>" + log + " 2>&1").c_str()),
              0);
    std::ifstream stream(log);
    const std::string said{std::istreambuf_iterator<char>(stream), {}};
    EXPECT_NE(said.find(" 0 Errors"), std::string::npos) << said;
    std::ifstream again(where + "/again-" + name + ".aml", std::ios::binary);
    const std::string back{std::istreambuf_iterator<char>(again), {}};
    EXPECT_EQ(back.size() == table.size(), name != "DSDT") << "of AML, and of that only, it makes a shorter form";
    if (name == "DSDT") {
      std::ifstream source(where + "/DSDT.dsl");
      const std::string text{std::istreambuf_iterator<char>(source), {}};
      for (const char* word : {"LNRO0005", "PNP0501", "PNP0C0C", "ACPI0013", "Notify (\\_SB.PWRB, 0x80)", "_S5",
                               "ACPI0004", "OperationRegion (SLTS, SystemMemory", "Notify (\\_SB.C007"}) {
        EXPECT_NE(text.find(word), std::string::npos) << word << "\n" << text;
      }
    }
  }
  ASSERT_EQ(::system(("rm -rf " + where).c_str()), 0);
}

}  // namespace
}  // namespace hull::vmm
