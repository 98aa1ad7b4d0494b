#include "vm/text_tail.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace hull::vm {

void TextTail::append(std::string_view text) {
  if (text.size() > most_bytes_) text.remove_prefix(text.size() - most_bytes_);
  if (text_.size() + text.size() > 2 * most_bytes_) text_.erase(0, text_.size() + text.size() - most_bytes_);
  text_ += text;
}

std::string TextTail::last_lines(size_t lines, std::string_view separator) const {
  std::vector<std::string> found;
  size_t end = text_.size();
  while (end > 0 && found.size() < lines) {
    const size_t newline = text_.rfind('\n', end - 1);
    const size_t begin = newline == std::string::npos ? 0 : newline + 1;
    std::string line;
    for (const char c : std::string_view(text_).substr(begin, end - begin)) {
      if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) line += c;
    }
    while (line.ends_with(' ')) line.pop_back();
    if (!line.empty()) found.push_back(std::move(line));
    if (newline == std::string::npos) break;
    end = newline;
  }
  std::string out;
  for (size_t i = found.size(); i-- > 0;) {
    if (!out.empty()) out += separator;
    out += found[i];
  }
  return out;
}

DrainedPipe::DrainedPipe(UniqueFd read_end, UniqueFd copy) : read_end_(std::move(read_end)), copy_(std::move(copy)) {
  ::fcntl(read_end_.get(), F_SETFL, O_NONBLOCK);
}

void DrainedPipe::drain() {
  if (!read_end_) return;
  char buffer[65536];
  const ssize_t got = ::read(read_end_.get(), buffer, sizeof buffer);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    read_end_.reset();
    return;
  }
  const std::string_view text(buffer, static_cast<size_t>(got));
  tail_.append(text);
  if (!copy_ || copied_ >= kMostCopied) return;
  const size_t part = std::min(text.size(), kMostCopied - copied_);
  // A log that can't be written is no reason to stop a workload.
  const ssize_t put = ::write(copy_.get(), text.data(), part);
  copied_ = put < 0 ? kMostCopied : copied_ + static_cast<size_t>(put);
}

}  // namespace hull::vm
