#pragma once
// Small kernels for tests: ELF files with a PVH note around a piece of machine code. Included by tests only.

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace hull::vmm::samples {

struct Shape {
  Elf64_Ehdr header{};
  Elf64_Phdr note{}, load{};
  std::string note_bytes, code;

  /// A well-formed kernel whose code is loaded at `address` and entered there.
  static Shape good(std::string_view machine_code, uint64_t address = 0x100000) {
    Shape shape;
    std::memcpy(shape.header.e_ident, ELFMAG, SELFMAG);
    shape.header.e_ident[EI_CLASS] = ELFCLASS64;
    shape.header.e_ident[EI_DATA] = ELFDATA2LSB;
    shape.header.e_type = ET_EXEC;
    shape.header.e_machine = EM_X86_64;
    shape.header.e_phoff = sizeof(Elf64_Ehdr);
    shape.header.e_phentsize = sizeof(Elf64_Phdr);
    shape.header.e_phnum = 2;
    shape.set_entry(address);
    shape.code = machine_code;
    const uint64_t notes_at = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
    shape.note.p_type = PT_NOTE;
    shape.note.p_offset = notes_at;
    shape.note.p_filesz = shape.note.p_memsz = shape.note_bytes.size();
    shape.load.p_type = PT_LOAD;
    shape.load.p_offset = notes_at + shape.note_bytes.size();
    shape.load.p_paddr = address;
    shape.load.p_filesz = machine_code.size();
    shape.load.p_memsz = machine_code.size() + 4096;
    return shape;
  }
  void set_entry(uint64_t address) {
    const Elf64_Nhdr note_header{4, 8, 18};
    note_bytes.assign(reinterpret_cast<const char*>(&note_header), sizeof(note_header));
    note_bytes += std::string("Xen\0", 4);
    note_bytes.append(reinterpret_cast<const char*>(&address), 8);
  }
  std::string bytes() const {
    std::string out(reinterpret_cast<const char*>(&header), sizeof(header));
    out.append(reinterpret_cast<const char*>(&note), sizeof(note));
    out.append(reinterpret_cast<const char*>(&load), sizeof(load));
    return out + note_bytes + code;
  }
};

}  // namespace hull::vmm::samples
