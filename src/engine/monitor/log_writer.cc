#include "engine/monitor/log_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "engine/monitor/spawn.h"
#include "engine/monitor/text.h"

namespace hull::engine::monitor {
namespace {

constexpr char kHex[] = "0123456789abcdef";

/// Length of the well-formed UTF-8 sequence at `in` (RFC 3629), 0 when it is malformed, -1 when the end cuts it off.
int sequence_length(const unsigned char* in, size_t count) {
  const unsigned char first = in[0];
  if (first < 0x80) return 1;
  int length = 0;
  unsigned char low = 0x80, high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) >= count) return -1;
    if (in[i] < low || in[i] > high) return 0;
    low = 0x80;
    high = 0xbf;
  }
  return length;
}

size_t put_unicode(unsigned value, char* out) {
  out[0] = '\\';
  out[1] = 'u';
  out[2] = kHex[(value >> 12) & 15];
  out[3] = kHex[(value >> 8) & 15];
  out[4] = kHex[(value >> 4) & 15];
  out[5] = kHex[value & 15];
  return 6;
}

}  // namespace

size_t json_escape(const unsigned char* in, size_t count, bool more, char* out, size_t* used) {
  size_t at = 0;
  size_t put = 0;
  while (at < count) {
    const unsigned char byte = in[at];
    if (byte < 0x80) {
      ++at;
      if (byte == '"' || byte == '\\') {
        out[put++] = '\\';
        out[put++] = static_cast<char>(byte);
      } else if (byte == '\n' || byte == '\r' || byte == '\t') {
        out[put++] = '\\';
        out[put++] = byte == '\n' ? 'n' : byte == '\r' ? 'r' : 't';
      } else if (byte < 0x20 || byte == '<' || byte == '>' || byte == '&') {
        put += put_unicode(byte, out + put);
      } else {
        out[put++] = static_cast<char>(byte);
      }
      continue;
    }
    const int length = sequence_length(in + at, count - at);
    if (length < 0 && more) break;
    if (length <= 0) {
      put += put_unicode(0xfffd, out + put);
      ++at;
      continue;
    }
    if (length == 3 && in[at] == 0xe2 && in[at + 1] == 0x80 && (in[at + 2] & 0xfe) == 0xa8) {
      put += put_unicode(0x2028 + (in[at + 2] & 1U), out + put);  // line and paragraph separator, as Go does
    } else {
      memcpy(out + put, in + at, static_cast<size_t>(length));
      put += static_cast<size_t>(length);
    }
    at += static_cast<size_t>(length);
  }
  *used = at;
  return put;
}

size_t format_time(int64_t ns, char* out) {
  int64_t seconds = ns / 1'000'000'000;
  int64_t part = ns % 1'000'000'000;
  if (part < 0) {
    part += 1'000'000'000;
    --seconds;
  }
  // Days to civil date (Howard Hinnant's algorithm): gmtime_r would pull the time zone code into the static program.
  const int64_t days = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400;
  const int64_t in_day = seconds - days * 86400;
  const int64_t shifted = days + 719468;
  const int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
  const int64_t day_of_era = shifted - era * 146097;
  const int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_shifted = (5 * day_of_year + 2) / 153;
  const int64_t day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
  const int64_t month = month_shifted < 10 ? month_shifted + 3 : month_shifted - 9;
  const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  const auto digits = [&](size_t at, int64_t value, int count) {
    for (int i = count - 1; i >= 0; --i) {
      out[at + static_cast<size_t>(i)] = static_cast<char>('0' + value % 10);
      value /= 10;
    }
  };
  memcpy(out, "0000-00-00T00:00:00.000000000", 29);
  digits(0, year, 4);
  digits(5, month, 2);
  digits(8, day, 2);
  digits(11, in_day / 3600, 2);
  digits(14, in_day / 60 % 60, 2);
  digits(17, in_day % 60, 2);
  digits(20, part, 9);
  size_t length = 29;
  while (out[length - 1] == '0') --length;
  if (out[length - 1] == '.') --length;
  out[length++] = 'Z';
  out[length] = 0;
  return length;
}

int LogWriter::open(const LogTarget& target) {
  target_ = target;
  if (target_.max_files < 1) target_.max_files = 1;
  if (target_.extra_fd >= 0) {
    const ssize_t got = ::pread(target_.extra_fd, extra_, sizeof extra_, 0);
    if (got < 0) return errno;
    extra_used_ = static_cast<size_t>(got);
  }
  if (target_.journal != nullptr) return connect_journal() ? 0 : errno;
  if (target_.name == nullptr) return 0;
  fd_ = ::openat(target_.dir_fd, target_.name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fd_ < 0) return errno;
  struct stat info{};
  size_ = ::fstat(fd_, &info) == 0 ? info.st_size : 0;
  return 0;
}

bool LogWriter::connect_journal() {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (strlen(target_.journal) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  strcpy(address.sun_path, target_.journal);
  const int fresh = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fresh < 0) return false;
  // A journal that hangs must not stop the workload for ever.
  const timeval patience = {5, 0};
  ::setsockopt(fresh, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (target_.buffer > 0) ::setsockopt(fresh, SOL_SOCKET, SO_SNDBUF, &target_.buffer, sizeof target_.buffer);
  if (::connect(fresh, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    ::close(fresh);
    errno = error;
    return false;
  }
  if (fd_ >= 0) ::close(fd_);
  fd_ = fresh;
  return true;
}

void LogWriter::rotate() {
  // What was rotated last is being compressed under its name: the current file grows a little longer.
  if (compressing_ > 0) return;
  // The current file becomes .1, .1 becomes .2 and so on; a reader that follows keeps its descriptor and sees the
  // rest of the old file before it turns to the new one. With one file there is nothing to keep: it starts anew.
  const bool keeps = target_.max_files > 1;
  if (keeps) {
    for (int i = target_.max_files - 1; i >= 1; --i) {
      Text<200> from, to, from_packed, to_packed;
      from.add(target_.name);
      if (i > 1) from.add(".").add_number(i - 1);
      to.add(target_.name).add(".").add_number(i);
      from_packed.add(from.c_str()).add(".gz");
      to_packed.add(to.c_str()).add(".gz");
      ::unlinkat(target_.dir_fd, to_packed.c_str(), 0);
      if (i > 1) {
        ::unlinkat(target_.dir_fd, to.c_str(), 0);
        ::renameat(target_.dir_fd, from_packed.c_str(), target_.dir_fd, to_packed.c_str());
      }
      ::renameat(target_.dir_fd, from.c_str(), target_.dir_fd, to.c_str());
    }
  } else {
    ::unlinkat(target_.dir_fd, target_.name, 0);
  }
  const int fresh =
      ::openat(target_.dir_fd, target_.name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fresh < 0) return;  // go on in the old file: growing too long beats losing lines
  ::close(fd_);
  fd_ = fresh;
  size_ = 0;
  if (!keeps || target_.compressor == nullptr) return;
  Text<200> rotated;
  rotated.add(target_.name).add(".1");
  const char* const argv[] = {"hull-images", "compress-log", rotated.c_str(), nullptr};
  compressing_ = run_aside(target_.compressor, argv, target_.dir_fd);
}

size_t LogWriter::put_json(int stream, const char* data, size_t count, bool newline, int64_t now_ns) {
  size_t put = 0;
  const auto text = [&](const char* what, size_t length) {
    memcpy(out_ + put, what, length);
    put += length;
  };
  text("{\"log\":\"", 8);
  size_t used = 0;
  put += json_escape(reinterpret_cast<const unsigned char*>(data), count, false, out_ + put, &used);
  if (newline) text("\\n", 2);
  text("\",\"stream\":\"", 12);
  text(stream == 2 ? "stderr\"," : "stdout\",", 8);
  if (extra_used_ > 0) {
    text(extra_, extra_used_);
    text(",", 1);
  }
  text("\"time\":\"", 8);
  put += format_time(now_ns, out_ + put);
  text("\"}\n", 3);
  return put;
}

size_t LogWriter::put_local(int stream, const char* data, size_t count, bool newline, int64_t now_ns) {
  size_t put = format_time(now_ns, out_);
  memcpy(out_ + put, stream == 2 ? " stderr " : " stdout ", 8);
  put += 8;
  memcpy(out_ + put, newline ? "F " : "P ", 2);
  put += 2;
  memcpy(out_ + put, data, count);
  put += count;
  out_[put++] = '\n';
  return put;
}

/// The journal's native protocol: NAME=VALUE lines, or NAME, the length (eight bytes, little endian) and the value.
size_t LogWriter::put_journal(int stream, const char* data, size_t count, bool newline, int64_t now_ns) {
  size_t put = 0;
  const auto text = [&](const char* what) {
    const size_t length = strlen(what);
    memcpy(out_ + put, what, length);
    put += length;
  };
  text(stream == 2 ? "PRIORITY=3\n" : "PRIORITY=6\n");
  text("SYSLOG_TIMESTAMP=");
  put += format_time(now_ns, out_ + put);
  text("\n");
  if (!newline) text("CONTAINER_PARTIAL_MESSAGE=true\n");
  memcpy(out_ + put, extra_, extra_used_);
  put += extra_used_;
  text("MESSAGE\n");
  for (int i = 0; i < 8; ++i) out_[put++] = static_cast<char>(static_cast<uint64_t>(count) >> (8 * i) & 0xff);
  memcpy(out_ + put, data, count);
  put += count;
  out_[put++] = '\n';
  return put;
}

void LogWriter::send_journal(size_t count) {
  const int flags = MSG_NOSIGNAL | (target_.waits && !stalled_ ? 0 : MSG_DONTWAIT);
  for (int attempt = 0; attempt < 2; ++attempt) {
    ssize_t sent = -1;
    do {
      sent = ::send(fd_, out_, count, flags);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
      stalled_ = false;
      return;
    }
    if (errno == EAGAIN) {
      stalled_ = true;
      break;
    }
    // The journal was started anew: its socket is another one.
    if (errno != ECONNREFUSED && errno != ENOTCONN && errno != ECONNRESET && errno != ENOENT) break;
    if (!connect_journal()) break;
  }
  ++lost_;
}

void LogWriter::write_file(size_t put) {
  if (target_.max_size > 0 && size_ > 0 && size_ + static_cast<int64_t>(put) > target_.max_size) rotate();
  size_t at = 0;
  while (at < put) {
    const ssize_t wrote = ::write(fd_, out_ + at, put - at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      ++lost_;
      // A record cut in the middle would spoil the next one too: take it back.
      if (at > 0 && ::ftruncate(fd_, size_) != 0) size_ += static_cast<int64_t>(at);
      return;
    }
    at += static_cast<size_t>(wrote);
  }
  size_ += static_cast<int64_t>(put);
}

void LogWriter::record(int stream, const char* data, size_t count, bool newline, int64_t now_ns) {
  if (target_.journal != nullptr) {
    send_journal(put_journal(stream, data, count, newline, now_ns));
  } else if (target_.format == LogFormat::kLocal) {
    write_file(put_local(stream, data, count, newline, now_ns));
  } else {
    write_file(put_json(stream, data, count, newline, now_ns));
  }
}

void LogWriter::feed(int stream, const char* data, size_t count, int64_t now_ns) {
  if (fd_ < 0) return;
  Pending& pending = pending_[stream == 2 ? 1 : 0];
  while (count > 0) {
    const void* found = memchr(data, '\n', count);
    const bool newline = found != nullptr;
    const size_t length = newline ? static_cast<size_t>(static_cast<const char*>(found) - data) : count;
    if (pending.used == 0 && newline && length <= kLogRecord) {
      record(stream, data, length, true, now_ns);
      data += length + 1;
      count -= length + 1;
      continue;
    }
    const size_t room = kLogRecord - pending.used;
    const size_t take = length < room ? length : room;
    memcpy(pending.data + pending.used, data, take);
    pending.used += take;
    data += take;
    count -= take;
    if (newline && take == length) {
      record(stream, pending.data, pending.used, true, now_ns);
      pending.used = 0;
      ++data;
      --count;
    } else if (pending.used == kLogRecord) {
      // A character that the cut would split goes whole into the next record.
      size_t keep = 0;
      while (keep < 3 && (static_cast<unsigned char>(pending.data[pending.used - 1 - keep]) & 0xc0) == 0x80) ++keep;
      const auto lead = static_cast<unsigned char>(pending.data[pending.used - 1 - keep]);
      const size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
      keep = need > keep + 1 ? keep + 1 : 0;
      record(stream, pending.data, pending.used - keep, false, now_ns);
      memmove(pending.data, pending.data + pending.used - keep, keep);
      pending.used = keep;
    }
  }
}

void LogWriter::finish(int stream, int64_t now_ns) {
  Pending& pending = pending_[stream == 2 ? 1 : 0];
  if (fd_ < 0 || pending.used == 0) return;
  record(stream, pending.data, pending.used, false, now_ns);
  pending.used = 0;
}

}  // namespace hull::engine::monitor
