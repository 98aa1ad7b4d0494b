#include "vmm/gdb.h"

#include <algorithm>
#include <charconv>

#include "base/error_format.h"
#include "vmm/gdb_registers.h"

namespace hull::vmm {

namespace {
constexpr char kInterrupt = 0x03;
constexpr std::byte kInt3{0xcc};
constexpr size_t kMostInstructions = 1024;
constexpr int kTrap = 5, kInt = 2;

std::optional<uint64_t> parse_hex(std::string_view text) {
  uint64_t value = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (text.empty() || bad != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::vector<std::byte>> bytes_of(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::vector<std::byte> out;
  for (size_t i = 0; i < hex.size(); i += 2) {
    const auto value = parse_hex(hex.substr(i, 2));
    if (!value) return std::nullopt;
    out.push_back(static_cast<std::byte>(*value));
  }
  return out;
}

void append_hex(std::string& out, std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const std::byte one : bytes) {
    out += kDigits[static_cast<uint8_t>(one) >> 4];
    out += kDigits[static_cast<uint8_t>(one) & 15];
  }
}

/// "ADDRESS,LENGTH".
struct Range {
  uint64_t address = 0, length = 0;
};
std::optional<Range> parse_range(std::string_view text) {
  const size_t comma = text.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const auto address = parse_hex(text.substr(0, comma)), length = parse_hex(text.substr(comma + 1));
  if (!address || !length) return std::nullopt;
  return Range{*address, *length};
}

/// The binary form of a packet's data: '}' stands before a byte with bit 5 turned.
std::vector<std::byte> unescape(std::string_view data) {
  std::vector<std::byte> out;
  for (size_t i = 0; i < data.size(); ++i) {
    char c = data[i];
    if (c == '}' && i + 1 < data.size()) c = static_cast<char>(data[++i] ^ 0x20);
    out.push_back(static_cast<std::byte>(c));
  }
  return out;
}

uint8_t sum_of(std::string_view payload) {
  uint8_t sum = 0;
  for (const char c : payload) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
  return sum;
}
}  // namespace

bool GdbSession::receive(std::string_view bytes) {
  input_ += bytes;
  while (!input_.empty() && !detached_) {
    if (input_[0] == kInterrupt) {
      input_.erase(0, 1);
      if (!running_) continue;
      target_->pause();
      running_ = false;
      stop_reply_ = fmt::format("T{:02x}thread:{:x};", kInt, selected_ + 1);
      send_stop();
      continue;
    }
    if (input_[0] != '$') {  // acknowledgements, and noise between packets
      input_.erase(0, 1);
      continue;
    }
    const size_t hash = input_.find('#');
    if (hash == std::string::npos || hash + 2 >= input_.size()) return input_.size() <= kLargestPacket;
    const std::string packet = input_.substr(1, hash - 1);
    const auto sum = parse_hex(std::string_view(input_).substr(hash + 1, 2));
    input_.erase(0, hash + 3);
    const bool good = sum && *sum == sum_of(packet);
    if (acknowledges_) output_ += good ? '+' : '-';
    if (good) command(packet);
  }
  return !detached_ && input_.size() <= kLargestPacket;
}

void GdbSession::send(std::string_view payload) { output_ += fmt::format("${}#{:02x}", payload, sum_of(payload)); }
void GdbSession::error(int number) { send(fmt::format("E{:02x}", number)); }
void GdbSession::send_stop() { send(stop_reply_); }

void GdbSession::command(std::string_view packet) {
  if (packet.empty()) return send("");
  // A debugger that speaks while the machine runs gets it stopped.
  if (running_) {
    target_->pause();
    running_ = false;
  }
  const std::string_view rest = packet.substr(1);
  switch (packet[0]) {
    case '?':
      return send_stop();
    case 'g':
      return read_registers();
    case 'G':
      return write_registers(rest);
    case 'p':
      return read_register(rest);
    case 'P':
      return write_register(rest);
    case 'm':
      return read_memory(rest);
    case 'M':
      return write_memory(rest, false);
    case 'X':
      return write_memory(rest, true);
    case 'Z':
      return change_break(rest, true);
    case 'z':
      return change_break(rest, false);
    case 'H':
      return select(rest);
    case 'T':
      return thread(rest) ? send("OK") : error();
    case 'c':
    case 's':
      return resume_command(packet);
    case 'v':
      if (packet == "vCont?") return send("vCont;c;C;s;S");
      if (packet.starts_with("vCont;")) return resume_each(packet.substr(6));
      if (!packet.starts_with("vKill")) return send("");
      [[fallthrough]];
    case 'k':
      send("OK");
      detached_ = true;
      return target_->end();
    case 'D':
      send("OK");
      return detach();
    case 'q':
    case 'Q':
      return query(packet);
    default:
      return send("");
  }
}

void GdbSession::query(std::string_view packet) {
  if (packet.starts_with("qSupported")) {
    knows_breaks_ = packet.find("swbreak+") != std::string_view::npos;
    return send(fmt::format("PacketSize={:x};qXfer:features:read+;QStartNoAckMode+;vContSupported+{}",
                            kLargestPacket / 2, knows_breaks_ ? ";swbreak+;hwbreak+" : ""));
  }
  if (packet == "QStartNoAckMode") {
    send("OK");
    acknowledges_ = false;
    return;
  }
  constexpr std::string_view kFeatures = "qXfer:features:read:";
  if (packet.starts_with(kFeatures)) return features(packet.substr(kFeatures.size()));
  if (packet == "qC") return send(fmt::format("QC{:x}", selected_ + 1));
  if (packet == "qAttached") return send("1");
  if (packet == "qsThreadInfo") return send("l");
  if (packet == "qfThreadInfo") {
    std::string list = "m";
    for (uint32_t i = 1; i <= target_->processors(); ++i) list += fmt::format("{}{:x}", i > 1 ? "," : "", i);
    return send(list);
  }
  constexpr std::string_view kExtra = "qThreadExtraInfo,";
  if (packet.starts_with(kExtra)) {
    const auto number = thread(packet.substr(kExtra.size()));
    if (!number) return error();
    const std::string text = fmt::format("processor {}", *number);
    std::string hex;
    append_hex(hex, std::as_bytes(std::span(text)));
    return send(hex);
  }
  send("");
}

void GdbSession::features(std::string_view wanted) {
  constexpr std::string_view kAnnex = "target.xml:";
  const auto range = wanted.starts_with(kAnnex) ? parse_range(wanted.substr(kAnnex.size())) : std::nullopt;
  if (!range) return error();
  const std::string& text = gdb_target_description();
  if (range->address >= text.size()) return send("l");
  const std::string piece = text.substr(range->address, std::min<uint64_t>(range->length, kLargestPacket / 2 - 16));
  send((range->address + piece.size() < text.size() ? "m" : "l") + piece);
}

std::optional<uint32_t> GdbSession::thread(std::string_view text) const {
  const auto number = parse_hex(text);
  if (!number || *number < 1 || *number > target_->processors()) return std::nullopt;
  return static_cast<uint32_t>(*number - 1);
}

/// "Hg" and "Hc": 0 is any thread, -1 all.
void GdbSession::select(std::string_view packet) {
  if (packet.empty()) return error();
  const std::string_view which = packet.substr(1);
  if (packet[0] == 'c' && (which == "-1" || which == "0")) {
    resumed_ = -1;
    return send("OK");
  }
  if (packet[0] == 'g' && which == "0") return send("OK");
  const auto number = thread(which);
  if (!number) return error();
  if (packet[0] == 'c') {
    resumed_ = *number;
  } else {
    selected_ = *number;
  }
  send("OK");
}

void GdbSession::read_registers() {
  const Result<GdbState> state = target_->state(selected_);
  if (!state.ok()) return error();
  std::string out;
  for (size_t i = 0; i < gdb_register_count(); ++i) append_hex(out, gdb_read_register(*state, i));
  send(out);
}

void GdbSession::write_registers(std::string_view hex) {
  const auto bytes = bytes_of(hex);
  Result<GdbState> state = target_->state(selected_);
  if (!bytes || !state.ok()) return error();
  std::span<const std::byte> rest(*bytes);
  for (size_t i = 0; i < gdb_register_count() && !rest.empty(); ++i) {
    const size_t size = gdb_read_register(*state, i).size();
    if (rest.size() < size || !gdb_write_register(&*state, i, rest.first(size))) return error();
    rest = rest.subspan(size);
  }
  rest.empty() && target_->set_state(selected_, *state).ok() ? send("OK") : error();
}

void GdbSession::read_register(std::string_view packet) {
  const auto number = parse_hex(packet);
  const Result<GdbState> state = target_->state(selected_);
  if (!number || !state.ok() || *number >= gdb_register_count()) return error();
  std::string out;
  append_hex(out, gdb_read_register(*state, *number));
  send(out);
}

void GdbSession::write_register(std::string_view packet) {
  const size_t equals = packet.find('=');
  if (equals == std::string_view::npos) return error();
  const auto number = parse_hex(packet.substr(0, equals));
  const auto bytes = bytes_of(packet.substr(equals + 1));
  Result<GdbState> state = target_->state(selected_);
  const bool done = number && bytes && state.ok() && gdb_write_register(&*state, *number, *bytes) &&
                    target_->set_state(selected_, *state).ok();
  done ? send("OK") : error();
}

/// Less than was asked for when the rest is not there; where our own int3 lies the debugger sees what it replaced.
void GdbSession::read_memory(std::string_view packet) {
  const auto range = parse_range(packet);
  if (!range) return error();
  constexpr uint64_t kMost = kLargestPacket / 4;
  std::vector<std::byte> bytes(std::min(range->length, kMost));
  if (!target_->read_memory(selected_, range->address, bytes)) {
    size_t got = 0;
    while (got < bytes.size() &&
           target_->read_memory(selected_, range->address + got, std::span(bytes).subspan(got, 1)))
      ++got;
    bytes.resize(got);
    if (bytes.empty() && range->length > 0) return error(14);
  }
  for (const Instruction& one : instructions_) {
    if (one.address - range->address < bytes.size()) bytes[one.address - range->address] = one.replaced;
  }
  std::string out;
  append_hex(out, bytes);
  send(out);
}

void GdbSession::write_memory(std::string_view packet, bool binary) {
  const size_t colon = packet.find(':');
  if (colon == std::string_view::npos) return error();
  const auto range = parse_range(packet.substr(0, colon));
  const std::string_view data = packet.substr(colon + 1);
  const auto bytes = binary ? std::optional(unescape(data)) : bytes_of(data);
  if (!range || !bytes || bytes->size() != range->length) return error();
  std::vector<std::byte> out = *bytes;
  // Breakpoints stay; what they replace changes.
  for (Instruction& one : instructions_) {
    const uint64_t at = one.address - range->address;
    if (at < out.size()) one.replaced = std::exchange(out[at], kInt3);
  }
  out.empty() || target_->write_memory(selected_, range->address, out) ? send("OK") : error(14);
}

/// "TYPE,ADDRESS,KIND": 0 is an instruction in memory, 1 to 4 are debug registers.
void GdbSession::change_break(std::string_view packet, bool insert) {
  if (packet.size() < 3 || packet[1] != ',') return error();
  const auto range = parse_range(packet.substr(2, packet.find(';') - 2));
  if (!range) return error();
  if (packet[0] == '0') return change_instruction(range->address, insert) ? send("OK") : error(14);
  if (packet[0] < '1' || packet[0] > '4') return send("");
  const auto kind = static_cast<GdbBreak>(packet[0] - '0');
  const uint64_t length = kind == GdbBreak::kHardware ? 1 : range->length;
  if (length != 1 && length != 2 && length != 4 && length != 8) return error(22);
  change_hardware({kind, range->address, static_cast<uint8_t>(length)}, insert) ? send("OK") : error(28);
}

bool GdbSession::change_instruction(uint64_t address, bool insert) {
  const auto found = std::ranges::find(instructions_, address, &Instruction::address);
  if (insert) {
    if (found != instructions_.end()) return true;
    Instruction made{address};
    if (instructions_.size() >= kMostInstructions) return false;
    if (!target_->read_memory(selected_, address, std::span(&made.replaced, 1))) return false;
    if (!target_->write_memory(selected_, address, std::span(&kInt3, 1))) return false;
    instructions_.push_back(made);
    return true;
  }
  if (found == instructions_.end()) return true;
  const bool done = target_->write_memory(selected_, address, std::span(&found->replaced, 1));
  instructions_.erase(found);
  return done;
}

bool GdbSession::change_hardware(const HardwareBreak& wanted, bool insert) {
  const auto found = std::ranges::find_if(hardware_, [&](const HardwareBreak& one) {
    return one.kind == wanted.kind && one.address == wanted.address && one.length == wanted.length;
  });
  if (!insert) {
    if (found != hardware_.end()) hardware_.erase(found);
    return true;
  }
  if (found != hardware_.end()) return true;
  if (hardware_.size() >= kHardwareBreaks) return false;
  hardware_.push_back(wanted);
  return true;
}

/// "c [ADDRESS]", "s [ADDRESS]", for the thread that "Hc" chose.
void GdbSession::resume_command(std::string_view packet) {
  const GdbAction action = packet[0] == 's' ? GdbAction::kStep : GdbAction::kContinue;
  const uint32_t one = resumed_ >= 0 ? static_cast<uint32_t>(resumed_) : selected_;
  if (packet.size() > 1) {
    const auto address = parse_hex(packet.substr(1));
    Result<GdbState> state = target_->state(one);
    if (!address || !state.ok()) return error();
    state->regs.rip = *address;
    if (!target_->set_state(one, *state).ok()) return error();
  }
  std::vector<GdbAction> actions(target_->processors(), resumed_ >= 0 ? GdbAction::kHold : GdbAction::kContinue);
  actions[one] = action;
  go(std::move(actions));
}

/// "ACTION[:THREAD];...": the first that names a thread, or none, counts for it; who is not named stays.
void GdbSession::resume_each(std::string_view text) {
  std::vector<std::optional<GdbAction>> wanted(target_->processors());
  while (!text.empty()) {
    const std::string_view one = text.substr(0, text.find(';'));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
    const size_t colon = one.find(':');
    const std::string_view verb = one.substr(0, colon);
    if (verb.empty() || std::string_view("cCsS").find(verb[0]) == std::string_view::npos) return error();
    const GdbAction action = verb[0] == 's' || verb[0] == 'S' ? GdbAction::kStep : GdbAction::kContinue;
    const std::string_view which = colon == std::string_view::npos ? "-1" : one.substr(colon + 1);
    const auto number = thread(which);
    if (!number && which != "-1" && which != "0") return error();
    for (uint32_t i = 0; i < wanted.size(); ++i) {
      if ((!number || *number == i) && !wanted[i]) wanted[i] = action;
    }
  }
  std::vector<GdbAction> actions;
  for (const auto& one : wanted) actions.push_back(one.value_or(GdbAction::kHold));
  go(std::move(actions));
}

void GdbSession::go(std::vector<GdbAction> actions) {
  for (const uint32_t processor : passing_) {
    // Unless the debugger has taken it away, or the processor elsewhere.
    const Result<GdbState> state = target_->state(processor);
    std::byte next{};
    if (!state.ok() || !target_->read_memory(processor, state->regs.rip, std::span(&next, 1))) continue;
    const bool ours = std::ranges::find(instructions_, state->regs.rip, &Instruction::address) != instructions_.end();
    if (next == kInt3 && !ours) target_->pass_breakpoint(processor);
  }
  passing_.clear();
  if (!target_->resume(actions, hardware_).ok()) return error();
  running_ = true;
}

void GdbSession::stopped(const GdbStop& stop) {
  running_ = false;
  selected_ = stop.processor;
  std::string why;
  if (stop.instruction) {
    const bool ours = std::ranges::find(instructions_, stop.pc, &Instruction::address) != instructions_.end();
    if (ours && knows_breaks_) why = "swbreak:;";
    if (!ours) passing_.push_back(stop.processor);
  }
  for (size_t i = 0; i < hardware_.size() && why.empty(); ++i) {
    if ((stop.dr6 >> i & 1) == 0) continue;
    const HardwareBreak& hit = hardware_[i];
    if (hit.kind == GdbBreak::kHardware && knows_breaks_) why = "hwbreak:;";
    if (hit.kind == GdbBreak::kWrite) why = fmt::format("watch:{:x};", hit.address);
    if (hit.kind == GdbBreak::kRead) why = fmt::format("rwatch:{:x};", hit.address);
    if (hit.kind == GdbBreak::kAccess) why = fmt::format("awatch:{:x};", hit.address);
  }
  stop_reply_ = fmt::format("T{:02x}thread:{:x};{}", kTrap, stop.processor + 1, why);
  send_stop();
}

void GdbSession::ended() {
  detached_ = true;
  send("W00");
}

void GdbSession::detach() {
  if (detached_) return;
  detached_ = true;
  if (running_) target_->pause();
  running_ = false;
  while (!instructions_.empty()) change_instruction(instructions_.back().address, false);
  hardware_.clear();
  running_ = target_->release().ok();
}

}  // namespace hull::vmm
