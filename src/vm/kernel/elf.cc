#include "vm/kernel/elf.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/error_format.h"

namespace hull::vm {
namespace {

constexpr uint32_t kXenPhys32Entry = 18;
constexpr size_t kMostSections = 20000;
constexpr std::string_view kSignatureMark = "~Module signature appended~\n";

template <typename T>
std::optional<T> load(std::string_view file, uint64_t offset) {
  if (offset > file.size() || sizeof(T) > file.size() - offset) return std::nullopt;
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

std::optional<std::string_view> slice(std::string_view file, uint64_t offset, uint64_t size) {
  if (offset > file.size() || size > file.size() - offset) return std::nullopt;
  return file.substr(offset, size);
}

/// A string of a string table, up to its NUL or the table's end.
std::string_view text_at(std::string_view table, uint64_t offset) {
  if (offset >= table.size()) return {};
  const std::string_view rest = table.substr(offset);
  return rest.substr(0, std::min(rest.find('\0'), rest.size()));
}

Error damaged(std::string_view what) { return errorf(ErrorKind::kInvalid, "a damaged ELF file: {}", what); }

Result<Elf64_Ehdr> read_header(std::string_view file, uint16_t type) {
  const auto header = load<Elf64_Ehdr>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
    return Error(ErrorKind::kInvalid, "not an ELF file");
  }
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
      header->e_machine != EM_X86_64) {
    return Error(ErrorKind::kInvalid, "an ELF file for another kind of machine; expected x86-64");
  }
  if (header->e_type != type) {
    return errorf(ErrorKind::kInvalid, "an ELF file of type {}; expected {}", header->e_type, type);
  }
  return *header;
}

Result<std::vector<Elf64_Shdr>> read_sections(std::string_view file, const Elf64_Ehdr& header) {
  std::vector<Elf64_Shdr> sections;
  if (header.e_shoff == 0) return sections;
  if (header.e_shentsize != sizeof(Elf64_Shdr)) return damaged("section headers of an unknown size");
  uint64_t count = header.e_shnum;
  if (count == 0) {  // more than 65,279: the first header says how many
    const auto first = load<Elf64_Shdr>(file, header.e_shoff);
    if (!first) return damaged("section headers beyond its end");
    count = first->sh_size;
  }
  if (count > kMostSections) return damaged("too many sections");
  if (!slice(file, header.e_shoff, count * sizeof(Elf64_Shdr))) return damaged("section headers beyond its end");
  for (uint64_t i = 0; i < count; ++i) {
    sections.push_back(*load<Elf64_Shdr>(file, header.e_shoff + i * sizeof(Elf64_Shdr)));
    const Elf64_Shdr& section = sections.back();
    if (section.sh_type == SHT_NOBITS || section.sh_type == SHT_NULL) continue;
    if (!slice(file, section.sh_offset, section.sh_size)) return damaged("a section beyond its end");
  }
  return sections;
}

Result<std::string_view> section_names(std::string_view file, const Elf64_Ehdr& header,
                                       const std::vector<Elf64_Shdr>& sections) {
  uint64_t index = header.e_shstrndx;
  if (index == SHN_XINDEX && !sections.empty()) index = sections[0].sh_link;
  if (index >= sections.size() || sections[index].sh_type != SHT_STRTAB) return damaged("no section names");
  return *slice(file, sections[index].sh_offset, sections[index].sh_size);
}

/// The PVH entry among the notes of one segment: {name size, description size, type}, name and description padded to 4.
std::optional<uint32_t> find_pvh_note(std::string_view notes) {
  uint64_t at = 0;
  while (const auto note = load<Elf64_Nhdr>(notes, at)) {
    const uint64_t name_at = at + sizeof(Elf64_Nhdr);
    const uint64_t description_at = name_at + (uint64_t{note->n_namesz} + 3) / 4 * 4;
    const auto name = slice(notes, name_at, note->n_namesz);
    const auto description = slice(notes, description_at, note->n_descsz);
    if (!name || !description) return std::nullopt;
    if (*name == std::string_view("Xen\0", 4) && note->n_type == kXenPhys32Entry && description->size() >= 4) {
      return *load<uint32_t>(*description, 0);
    }
    at = description_at + (uint64_t{note->n_descsz} + 3) / 4 * 4;
  }
  return std::nullopt;
}

std::string banner_version(std::string_view file) {
  constexpr std::string_view kBanner = "Linux version ";
  for (size_t at = file.find(kBanner); at != std::string_view::npos; at = file.find(kBanner, at + 1)) {
    const std::string_view rest = file.substr(at + kBanner.size(), 128);
    const std::string_view version = rest.substr(0, rest.find(' '));
    // The format string "Linux version %s" is there too.
    if (!version.empty() && version.size() < 80 && version[0] >= '0' && version[0] <= '9') return std::string(version);
  }
  return {};
}

std::vector<std::string> words_of(std::string_view text, char separator) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) words.push_back(module_name(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

/// Bytes without the signature that scripts/sign-file appended: content, signature, 12 bytes that tell its parts'
/// sizes, and the mark (include/linux/module_signature.h).
Result<std::string_view> without_signature(std::string_view file) {
  constexpr size_t kTail = 12;
  if (!file.ends_with(kSignatureMark)) return file;
  const std::string_view rest = file.substr(0, file.size() - kSignatureMark.size());
  if (rest.size() < kTail) return damaged("a signature cut short");
  const auto* tail = reinterpret_cast<const unsigned char*>(rest.data() + rest.size() - kTail);
  const uint64_t size = uint64_t{tail[3]} + tail[4] +
                        (uint64_t{tail[8]} << 24 | uint64_t{tail[9]} << 16 | uint64_t{tail[10]} << 8 | tail[11]);
  if (size > rest.size() - kTail) return damaged("a signature longer than the module");
  return rest.substr(0, rest.size() - kTail - size);
}

bool is_debug(std::string_view name) {
  return name.starts_with(".debug") || name.starts_with(".rela.debug") || name == ".comment" || name == ".rela.stab" ||
         name == ".stab";
}

}  // namespace

std::string module_name(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

Result<VmlinuxInfo> inspect_vmlinux(std::string_view file) {
  TRY_ASSIGN(const Elf64_Ehdr header, read_header(file, ET_EXEC));
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > 64) {
    return damaged("no usable program headers");
  }
  VmlinuxInfo info;
  info.end = header.e_phoff + uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  std::optional<uint32_t> entry;
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    const auto segment = load<Elf64_Phdr>(file, header.e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) return damaged("program headers beyond its end");
    const auto bytes = slice(file, segment->p_offset, segment->p_filesz);
    if (!bytes) return damaged("a segment beyond its end");
    info.end = std::max(info.end, segment->p_offset + segment->p_filesz);
    if (segment->p_type == PT_NOTE && !entry) entry = find_pvh_note(*bytes);
  }
  TRY_ASSIGN(const auto sections, read_sections(file, header));
  if (!sections.empty()) info.end = std::max(info.end, header.e_shoff + sections.size() * sizeof(Elf64_Shdr));
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type == SHT_NOBITS || section.sh_type == SHT_NULL) continue;
    info.end = std::max(info.end, section.sh_offset + section.sh_size);
  }
  if (!entry) {
    return Error(ErrorKind::kUnsupported,
                 "this kernel has no PVH entry (CONFIG_PVH=y), through which it would be booted: take one that has, "
                 "such as Debian's linux-image-cloud-amd64");
  }
  info.pvh_entry = *entry;
  info.version = banner_version(file.substr(0, info.end));
  return info;
}

Result<ModuleInfo> inspect_module(std::string_view file) {
  TRY_ASSIGN(const Elf64_Ehdr header, read_header(file, ET_REL));
  TRY_ASSIGN(const auto sections, read_sections(file, header));
  TRY_ASSIGN(const std::string_view names, section_names(file, header, sections));
  ModuleInfo info;
  bool found = false;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_PROGBITS || text_at(names, section.sh_name) != ".modinfo") continue;
    found = true;
    std::string_view rest = *slice(file, section.sh_offset, section.sh_size);
    while (!rest.empty()) {
      const std::string_view line = text_at(rest, 0);
      if (line.starts_with("name=")) info.name = module_name(line.substr(5));
      if (line.starts_with("depends=")) info.depends = words_of(line.substr(8), ',');
      if (line.starts_with("vermagic=")) info.vermagic = line.substr(9);
      if (line.starts_with("softdep=pre:")) {
        const std::string_view before = line.substr(12);
        for (std::string& word : words_of(before.substr(0, std::min(before.find("post:"), before.size())), ' ')) {
          info.soft.push_back(std::move(word));
        }
      }
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    }
  }
  if (!found) return Error(ErrorKind::kInvalid, "not a kernel module (it has no section .modinfo)");
  return info;
}

Result<std::string> slim_module(std::string_view file, bool drop_signature) {
  // A signature covers every byte before it: with it, nothing may change.
  if (!drop_signature && file.ends_with(kSignatureMark)) return std::string(file);
  TRY_ASSIGN(file, without_signature(file));
  TRY_ASSIGN(Elf64_Ehdr header, read_header(file, ET_REL));
  TRY_ASSIGN(std::vector<Elf64_Shdr> sections, read_sections(file, header));
  TRY_ASSIGN(const std::string_view names, section_names(file, header, sections));
  const bool any = std::any_of(sections.begin(), sections.end(), [&](const Elf64_Shdr& section) {
    return is_debug(text_at(names, section.sh_name)) && section.sh_size > 0;
  });
  if (!any) return std::string(file);
  // Sections keep their numbers, which symbols and relocations refer to; those that go become empty.
  std::string out(sizeof header, '\0');
  for (Elf64_Shdr& section : sections) {
    if (section.sh_type == SHT_NULL || section.sh_type == SHT_NOBITS) continue;
    const bool goes = (section.sh_flags & SHF_ALLOC) == 0 && is_debug(text_at(names, section.sh_name));
    const std::string_view bytes = goes ? std::string_view() : *slice(file, section.sh_offset, section.sh_size);
    const uint64_t alignment = std::clamp<uint64_t>(section.sh_addralign, 1, 4096);
    out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    section.sh_offset = out.size();
    section.sh_size = bytes.size();
    out.append(bytes);
  }
  out.resize((out.size() + 7) / 8 * 8, '\0');
  header.e_shoff = out.size();
  for (const Elf64_Shdr& section : sections) out.append(reinterpret_cast<const char*>(&section), sizeof section);
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

}  // namespace hull::vm
