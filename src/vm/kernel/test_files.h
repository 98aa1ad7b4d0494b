#pragma once
// Small kernels, modules and archives for tests, made byte by byte.

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace hull::vm {

template <typename T>
void append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

inline Elf64_Ehdr elf_header(uint16_t type) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = type;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_ehsize = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_shentsize = sizeof(Elf64_Shdr);
  return header;
}

/// An executable with a note segment and the kernel's banner.
inline std::string make_vmlinux(const std::string& version, bool pvh) {
  std::string notes;
  append(notes, Elf64_Nhdr{4, 6, 1});  // another note before it, padded
  notes.append("GNU\0abcdef\0\0", 12);
  if (pvh) {
    append(notes, Elf64_Nhdr{4, 8, 18});
    notes.append("Xen\0", 4);
    append(notes, uint64_t{0x1000370});
  }
  const std::string text =
      "Linux version %s (%s)" + std::string(1, '\0') + "Linux version " + version + " (x@y) #1 SMP";
  Elf64_Ehdr header = elf_header(ET_EXEC);
  header.e_phoff = sizeof header;
  header.e_phnum = 2;
  Elf64_Phdr load{};
  load.p_type = PT_LOAD;
  load.p_offset = sizeof header + 2 * sizeof load;
  load.p_filesz = load.p_memsz = text.size();
  Elf64_Phdr note{};
  note.p_type = PT_NOTE;
  note.p_offset = load.p_offset + text.size();
  note.p_filesz = note.p_memsz = notes.size();
  std::string out;
  append(out, header);
  append(out, load);
  append(out, note);
  return out + text + notes;
}

/// A relocatable file with .modinfo ("name=" and what is given, NUL-terminated pieces) and, if wanted, a debug section.
inline std::string make_module(const std::string& name, const std::string& modinfo, const std::string& debug = "") {
  const std::string info = "name=" + name + std::string(1, '\0') + modinfo;
  const std::string names("\0.modinfo\0.debug_info\0.shstrtab\0", 33);
  Elf64_Ehdr header = elf_header(ET_REL);
  std::string out(sizeof header, '\0');
  std::vector<Elf64_Shdr> sections(4);
  const auto place = [&](size_t index, uint32_t name_at, uint32_t type, uint64_t flags, const std::string& content) {
    sections[index].sh_name = name_at;
    sections[index].sh_type = type;
    sections[index].sh_flags = flags;
    sections[index].sh_offset = out.size();
    sections[index].sh_size = content.size();
    sections[index].sh_addralign = 1;
    out += content;
  };
  place(1, 1, SHT_PROGBITS, SHF_ALLOC, info);
  place(2, 10, SHT_PROGBITS, 0, debug);
  place(3, 22, SHT_STRTAB, 0, names);
  header.e_shoff = out.size();
  header.e_shnum = 4;
  header.e_shstrndx = 3;
  std::memcpy(out.data(), &header, sizeof header);
  for (const Elf64_Shdr& section : sections) append(out, section);
  return out;
}

/// What scripts/sign-file appends, with a signature of `size` bytes.
inline std::string signature(uint32_t size) {
  std::string out(size, 's');
  std::string tail(12, '\0');
  for (int i = 0; i < 4; ++i) tail[static_cast<size_t>(8 + i)] = static_cast<char>(size >> (24 - 8 * i) & 0xFF);
  return out + tail + "~Module signature appended~\n";
}

/// A bzImage around a payload, to which the build appends its unpacked size.
inline std::string make_bzimage(const std::string& version, const std::string& payload, uint32_t unpacked,
                                bool append_size = true) {
  std::string out(1024 + 512 * 3, '\0');  // boot sector and four sectors of set-up
  out.resize(512 * 5);
  const auto put = [&](size_t offset, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) out[offset + i] = static_cast<char>(value >> (8 * i) & 0xFF);
  };
  put(0x1F1, 4, 1);
  put(0x1FE, 0xAA55, 2);
  out.replace(0x202, 4, "HdrS");
  put(0x206, 0x20F, 2);
  const std::string text = version + " (x@y) #1 SMP" + std::string(1, '\0');
  out.replace(0x600, text.size(), text);
  put(0x20E, 0x600 - 512, 2);
  std::string whole = payload;
  if (append_size) append(whole, unpacked);
  put(0x248, 64, 4);
  put(0x24C, whole.size(), 4);
  return out + std::string(64, 'p') + whole + "trailer";
}

}  // namespace hull::vm
