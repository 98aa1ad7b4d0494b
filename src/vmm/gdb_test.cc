#include "vmm/gdb.h"

#include <gmock/gmock.h>

#include "vmm/gdb_fake_target.h"
#include "vmm/gdb_registers.h"

namespace hull::vmm {
namespace {
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class Gdb : public testing::Test {
 protected:
  static std::string framed(const std::string& payload) {
    uint8_t sum = 0;
    for (const char c : payload) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
    char tail[4];
    std::snprintf(tail, sizeof(tail), "#%02x", sum);
    return "$" + payload + tail;
  }
  /// The payload of the answer; "none" when there is no answer yet.
  std::string ask(const std::string& payload) {
    session_.output().clear();
    open_ = session_.receive(framed(payload));
    const std::string& out = session_.output();
    const size_t dollar = out.find('$');
    return dollar == std::string::npos ? "none" : out.substr(dollar + 1, out.rfind('#') - dollar - 1);
  }
  FakeGdbTarget target_;
  GdbSession session_{&target_};
  bool open_ = true;
};

TEST_F(Gdb, PacketsComeInPiecesAndAreAcknowledged) {
  const std::string packet = framed("qC");
  for (const char c : packet) EXPECT_TRUE(session_.receive(std::string_view(&c, 1)));
  EXPECT_EQ(session_.output(), "+" + framed("QC1"));
  session_.output().clear();
  EXPECT_TRUE(session_.receive("$qC#00"));
  EXPECT_EQ(session_.output(), "-") << "a wrong sum";
  EXPECT_EQ(ask("QStartNoAckMode"), "OK");
  ask("qC");
  EXPECT_EQ(session_.output(), framed("QC1"));
  EXPECT_FALSE(session_.receive("$" + std::string(GdbSession::kLargestPacket + 1, 'a')));
}

TEST_F(Gdb, RegistersAreReadAndWritten) {
  target_.states[1].regs.rip = 0x1122334455667788;
  EXPECT_EQ(ask("Hg2"), "OK");
  EXPECT_EQ(ask("p10"), "8877665544332211");
  EXPECT_EQ(ask("P10=0102030405060708"), "OK");
  EXPECT_EQ(target_.states[1].regs.rip, 0x0807060504030201u);
  EXPECT_EQ(ask("P12=34120000"), "E01") << "a segment can't be given another selector";
  EXPECT_EQ(ask("P10=01"), "E01");
  EXPECT_EQ(ask("pffff"), "E01");
  const std::string all = ask("g");
  EXPECT_EQ(ask("G" + all), "OK");
  EXPECT_EQ(ask("G" + all + "00"), "E01");
  EXPECT_EQ(ask("Hg3"), "E01");
  size_t bytes = 0;
  for (size_t i = 0; i < gdb_register_count(); ++i) bytes += gdb_read_register(target_.states[0], i).size();
  EXPECT_EQ(all.size(), 2 * bytes);
}

TEST_F(Gdb, MemoryAndBreakpointsInIt) {
  EXPECT_EQ(ask("M1010,3:909192"), "OK");
  EXPECT_EQ(ask("m1010,4"), "90919200");
  EXPECT_EQ(ask("Z0,1011,1"), "OK");
  EXPECT_EQ(target_.memory[0x11], std::byte{0xcc});
  EXPECT_EQ(ask("m1010,3"), "909192") << "breakpoints are not seen";
  EXPECT_EQ(ask("X1011,1:}\x03"), "OK");
  EXPECT_EQ(target_.memory[0x11], std::byte{0xcc});
  EXPECT_EQ(ask("z0,1011,1"), "OK");
  EXPECT_EQ(target_.memory[0x11], std::byte{0x23});
  EXPECT_EQ(ask("m1ffe,10"), "0000") << "what is there of it";
  EXPECT_EQ(ask("m5000,10"), "E0e");
  EXPECT_EQ(ask("Z0,5000,1"), "E0e");
  EXPECT_EQ(ask("mffffffffffffffff,ffffffffffffffff"), "E0e");
  EXPECT_EQ(ask("M1010,4:90"), "E01");
}

TEST_F(Gdb, ProcessorsGoOnAsTheyAreTold) {
  EXPECT_THAT(ask("qSupported:swbreak+;hwbreak+"), HasSubstr("swbreak+"));
  EXPECT_EQ(ask("qfThreadInfo"), "m1,2");
  EXPECT_EQ(ask("vCont;s:2;c"), "none");
  EXPECT_THAT(target_.log, HasSubstr("cs+0"));
  session_.stopped({1, 0x2000, 1 << 14, false});
  EXPECT_THAT(session_.output(), HasSubstr("T05thread:2;#"));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(ask("Z1,100" + std::to_string(i) + ",1"), "OK");
  EXPECT_EQ(ask("Z2,1008,8"), "E1c") << "there are four debug registers";
  EXPECT_EQ(ask("z1,1000,1"), "OK");
  EXPECT_EQ(ask("Z2,1008,8"), "OK");
  EXPECT_EQ(ask("Z2,1008,3"), "E16");
  EXPECT_EQ(ask("vCont;s:1"), "none");
  EXPECT_THAT(target_.log, HasSubstr("sh+4"));
  session_.stopped({0, 0x2000, 8, false});
  EXPECT_THAT(session_.output(), HasSubstr("watch:1008;"));
  EXPECT_EQ(ask("vCont;x"), "E01");
}

TEST_F(Gdb, AnInstructionOfTheGuestsOwnIsLeftToIt) {
  ask("qSupported:swbreak+");
  EXPECT_EQ(ask("Z0,1000,1"), "OK");
  EXPECT_EQ(ask("c"), "none");
  session_.stopped({0, 0x1000, 0, true});
  EXPECT_THAT(session_.output(), HasSubstr("swbreak:;"));
  EXPECT_EQ(ask("c"), "none");
  EXPECT_THAT(target_.log, Not(HasSubstr("pass")));
  session_.stopped({1, 0x1005, 0, true});
  target_.states[1].regs.rip = 0x1005;
  EXPECT_EQ(ask("c"), "none");
  EXPECT_THAT(target_.log, Not(HasSubstr("pass"))) << "it is gone from there";
  session_.stopped({1, 0x1005, 0, true});
  target_.memory[5] = std::byte{0xcc};
  EXPECT_EQ(ask("c"), "none");
  EXPECT_THAT(target_.log, HasSubstr("pass1"));
}

TEST_F(Gdb, GoingTakesTheBreakpointsOut) {
  EXPECT_EQ(ask("Z0,1000,1"), "OK");
  EXPECT_EQ(ask("D"), "OK");
  EXPECT_FALSE(open_);
  EXPECT_EQ(target_.memory[0], std::byte{0});
  EXPECT_THAT(target_.log, HasSubstr("release"));
}

TEST_F(Gdb, AnInterruptStopsARunningMachine) {
  EXPECT_TRUE(session_.receive("\x03"));
  EXPECT_EQ(session_.output(), "") << "nothing runs";
  ask("c");
  EXPECT_TRUE(session_.receive("\x03"));
  EXPECT_THAT(session_.output(), HasSubstr("T02"));
  EXPECT_EQ(target_.log, "cc+0 pause ");
  EXPECT_EQ(ask("k"), "OK");
  EXPECT_THAT(target_.log, HasSubstr("end"));
}

TEST_F(Gdb, TheDescriptionIsGivenInPieces) {
  std::string whole;
  for (char more = 'm'; more == 'm';) {
    char offset[32];
    std::snprintf(offset, sizeof(offset), "%zx", whole.size());
    const std::string piece = ask("qXfer:features:read:target.xml:" + std::string(offset) + ",400");
    more = piece[0];
    whole += piece.substr(1);
  }
  EXPECT_EQ(whole, gdb_target_description());
  EXPECT_THAT(whole, StartsWith("<?xml"));
  EXPECT_THAT(whole, HasSubstr("name=\"gs_base\""));
  EXPECT_EQ(ask("qXfer:features:read:other.xml:0,400"), "E01");
}

}  // namespace
}  // namespace hull::vmm
