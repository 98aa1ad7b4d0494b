#pragma once
// Guests of a few dozen instructions for tests on real KVM. Each is machine code that a kernel of elf_sample.h carries:
// it is loaded at 1 MiB and entered there in 32-bit protected mode with paging off. They say what they saw on the
// serial port, one letter at a time, and switch the machine off. Included by one test only.

#include <string_view>

#define HULL_GUEST(name, code)                                                                                \
  asm(".pushsection .rodata\n.code32\nguest_" #name ":\n" HULL_GUEST_MACROS code "\nguest_" #name             \
      "_end:\n"                                                                                               \
      ".globl guest_" #name ", guest_" #name "_end\n.purgem say\n.purgem power_off\n.code64\n.popsection\n"); \
  extern "C" const char guest_##name[], guest_##name##_end[];                                                 \
  inline std::string_view name##_guest() {                                                                    \
    return {guest_##name, static_cast<size_t>(guest_##name##_end - guest_##name)};                            \
  }

// say: a letter to the serial port. power_off: ACPI's sleep control register.
#define HULL_GUEST_MACROS                                                            \
  ".macro say letter\n mov $0x3f8, %dx\n mov $\\letter, %al\n out %al, %dx\n.endm\n" \
  ".macro power_off\n mov $0x600, %dx\n mov $0x34, %al\n out %al, %dx\n1: hlt\n jmp 1b\n.endm\n"

// Checks what it was started with: PVH's magic number, and "RSD PTR " where start info points.
HULL_GUEST(start, R"(
  cmpl $0x336ec578, (%ebx)
  jne 2f
  say 'P'
  mov 32(%ebx), %eax
  cmpl $0x20445352, (%eax)
  jne 2f
  say 'A'
  mov 24(%ebx), %eax
  mov (%eax), %al
  mov $0x3f8, %dx
  out %al, %dx
2:
  power_off
)")

// Where nothing is, ports and addresses read as ones; writes are lost.
HULL_GUEST(nothing, R"(
  mov $0x1234, %dx
  in %dx, %eax
  cmp $0xffffffff, %eax
  jne 2f
  out %eax, %dx
  say 'p'
  mov $0xe0000000, %ebx
  mov (%ebx), %eax
  cmp $0xffffffff, %eax
  jne 2f
  mov %eax, (%ebx)
  say 'm'
2:
  power_off
)")

// Down to real mode, in which a stub at 0x8000 speaks and resets through the keyboard controller.
HULL_GUEST(real, R"(
  lgdt 9f - guest_real + 0x100000
  mov $0x8000, %edi
  mov $(5f - guest_real + 0x100000), %esi
  mov $(8f - 5f), %ecx
  cld
  rep movsb
  mov $0x10, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  ljmp $0x08, $0x8000
  .balign 8
7: .quad 0, 0x00009b000000ffff, 0x000093000000ffff
9: .word 23
  .long 7b - guest_real + 0x100000
  .code16
5: mov %cr0, %eax
  and $0xfe, %al
  mov %eax, %cr0
  ljmp $0, $(0x8000 + 6f - 5b)
6: xor %ax, %ax
  mov %ax, %ds
  mov %ax, %ss
  mov $0x7000, %sp
  mov $0x3f8, %dx
  mov $'R', %al
  out %al, %dx
  push %ax
  pop %bx
  cmp $'R', %bl
  jne 1f
  mov $'S', %al
  out %al, %dx
1: mov $0xfe, %al
  out %al, $0x64
  hlt
8:
  .code32
)")

// Up to long mode with 2 MiB pages for the first GiB, and one for the first memory above 4 GiB. Goes on behind it in
// 64-bit code; `self` is the guest's name.
#define HULL_ENTER_LONG(self)         \
  "  mov $0x200000, %edi\n"           \
  "  xor %eax, %eax\n"                \
  "  mov $0x1800, %ecx\n"             \
  "  cld\n"                           \
  "  rep stosl\n"                     \
  "  movl $0x201003, 0x200000\n"      \
  "  movl $0x202003, 0x201000\n"      \
  "  movl $0x203003, 0x201020\n"      \
  "  mov $0x202000, %edi\n"           \
  "  mov $0x83, %eax\n"               \
  "3: mov %eax, (%edi)\n"             \
  "  add $0x200000, %eax\n"           \
  "  add $8, %edi\n"                  \
  "  cmp $0x203000, %edi\n"           \
  "  jne 3b\n"                        \
  "  movl $0x83, 0x203000\n"          \
  "  movl $1, 0x203004\n"             \
  "  mov %cr4, %eax\n"                \
  "  or $0x20, %eax\n"                \
  "  mov %eax, %cr4\n"                \
  "  mov $0x200000, %eax\n"           \
  "  mov %eax, %cr3\n"                \
  "  mov $0xc0000080, %ecx\n"         \
  "  rdmsr\n"                         \
  "  or $0x100, %eax\n"               \
  "  wrmsr\n"                         \
  "  mov %cr0, %eax\n"                \
  "  or $0x80000000, %eax\n"          \
  "  mov %eax, %cr0\n"                \
  "  lgdt 9f - guest_" #self          \
  " + 0x100000\n"                     \
  "  ljmp $0x08, $(5f - guest_" #self \
  " + 0x100000)\n"                    \
  "  .balign 8\n"                     \
  "7: .quad 0, 0x00af9b000000ffff\n"  \
  "9: .word 15\n"                     \
  "  .long 7b - guest_" #self         \
  " + 0x100000\n"                     \
  "  .code64\n"                       \
  "5:\n"

// Uses a 64-bit register, and memory above the hole.
HULL_GUEST(long, HULL_ENTER_LONG(long) R"(
  movabs $0x123456789abcdef0, %rax
  mov %rax, %rbx
  shr $32, %rbx
  cmp $0x12345678, %ebx
  jne 2f
  say 'L'
  movabs $0x100000100, %rsi
  movabs $0x123456789abcdef0, %rax
  mov %rax, (%rsi)
  cmp (%rsi), %rax
  jne 2f
  say 'H'
2:
  power_off
  .code32
)")

// Persistent memory at 4 GiB: where the device says that it is, with the file's first bytes, and not to be written.
HULL_GUEST(persistent, R"(
  mov $0xd0000000, %ebx
  cmpl $27, 8(%ebx)
  jne 2f
  cmpl $0, 0x100(%ebx)
  jne 2f
  cmpl $1, 0x104(%ebx)
  jne 2f
  say 'D'
)" HULL_ENTER_LONG(persistent) R"(
  movabs $0x100000000, %rsi
  movabs $0x4d454d504c4c5548, %rax
  cmp (%rsi), %rax
  jne 2f
  say 'P'
  movabs $0x123456789abcdef0, %rax
  mov %rax, (%rsi)
  cmp (%rsi), %rax
  je 2f
  say 'R'
2:
  power_off
  .code32
)")

// The serial port's interrupt (an irqfd) through the IOAPIC, then the local APIC's timer, each into a handler. The
// handlers return without iret, which KVM can't emulate in protected mode.
HULL_GUEST(interrupts, R"(
  mov $0x300000, %esp
  lgdt 9f - guest_interrupts + 0x100000
  ljmp $0x08, $(6f - guest_interrupts + 0x100000)
  .balign 8
7: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
9: .word 23
  .long 7b - guest_interrupts + 0x100000
8: .word 0x7ff
  .long 0x400000
6: mov $0x10, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $(4f - guest_interrupts + 0x100000), %eax
  movw %ax, 0x400200
  movw $0x08, 0x400202
  movw $0x8e00, 0x400204
  shr $16, %eax
  movw %ax, 0x400206
  mov $(5f - guest_interrupts + 0x100000), %eax
  movw %ax, 0x400208
  movw $0x08, 0x40020a
  movw $0x8e00, 0x40020c
  shr $16, %eax
  movw %ax, 0x40020e
  lidt 8b - guest_interrupts + 0x100000
  movl $0x1ff, 0xfee000f0
  movl $0x18, 0xfec00000
  movl $0x40, 0xfec00010
  movl $0x19, 0xfec00000
  movl $0, 0xfec00010
  sti
  mov $0x3f9, %dx
  mov $2, %al
  out %al, %dx
2: cmpl $1, 0x500000
  je 3f
  hlt
  jmp 2b
3: movl $0x0b, 0xfee003e0
  movl $0x41, 0xfee00320
  movl $100000, 0xfee00380
2: cmpl $2, 0x500000
  je 3f
  hlt
  jmp 2b
3: power_off
4: mov $0x3f9, %dx
  xor %al, %al
  out %al, %dx
  say 'I'
  movl $1, 0x500000
  movl $0, 0xfee000b0
  pop %ecx
  add $4, %esp
  popf
  jmp *%ecx
5: say 'T'
  movl $2, 0x500000
  movl $0, 0xfee000b0
  pop %ecx
  add $4, %esp
  popf
  jmp *%ecx
)")

// Wakes all other processors with INIT and SIPI; each adds one to a counter; says how many there were in all.
HULL_GUEST(processors, R"(
  mov $(5f - guest_processors + 0x100000), %esi
  mov $0x8000, %edi
  mov $(6f - 5f), %ecx
  cld
  rep movsb
  movl $0, 0x9000
  movl $0x1ff, 0xfee000f0
  movl $0xc4500, 0xfee00300
  movl $0xc4608, 0xfee00300
  movl $0xc4608, 0xfee00300
  mov 0x7ff0, %ebx
3: pause
  mov 0x9000, %eax
  cmp %ebx, %eax
  jb 3b
  mov $0x3f8, %dx
  add $'1', %al
  out %al, %dx
  power_off
  .code16
5: xor %ax, %ax
  mov %ax, %ds
  lock incl 0x9000
4: cli
  hlt
  jmp 4b
6:
  .code32
)")

// A device's registers: magic number, version, device id as a letter, and features that were never offered.
HULL_GUEST(virtio, R"(
  mov $0xd0000000, %ebx
  cmpl $0x74726976, (%ebx)
  jne 2f
  cmpl $2, 4(%ebx)
  jne 2f
  say 'V'
  mov 8(%ebx), %eax
  add $'a', %al
  mov $0x3f8, %dx
  out %al, %dx
  movl $1, 0x70(%ebx)
  movl $3, 0x70(%ebx)
  movl $1, 0x24(%ebx)
  movl $0xffffffff, 0x20(%ebx)
  movl $0xb, 0x70(%ebx)
  testl $8, 0x70(%ebx)
  jnz 2f
  say 'r'
  movl $0, 0x70(%ebx)
  movl $3, 0x70(%ebx)
  movl $1, 0x24(%ebx)
  movl $1, 0x20(%ebx)
  movl $0xb, 0x70(%ebx)
  testl $8, 0x70(%ebx)
  jz 2f
  say 'f'
  movl $0, 0x30(%ebx)
  movl $4, 0x38(%ebx)
  movl $0x600000, 0x80(%ebx)
  movl $0x601000, 0x90(%ebx)
  movl $0x602000, 0xa0(%ebx)
  movl $1, 0x44(%ebx)
  movl $0x603000, 0x600000
  movl $0, 0x600004
  movl $64, 0x600008
  movw $2, 0x60000c
  movw $0, 0x601004
  movw $1, 0x601002
  movl $0xf, 0x70(%ebx)
  movl $0, 0x50(%ebx)
3: pause
  cmpw $1, 0x602002
  jne 3b
  cmpl $64, 0x602008
  jne 2f
  say 'q'
2:
  power_off
)")

// A disk that comes when the first slot says so, goes (no sectors left), and comes back: the first byte of each.
HULL_GUEST(late_disk, R"(
  mov $0xd0000000, %ebx
  say 'W'
  say '\n'
3: pause
  cmpb $1, 0xff000
  jne 3b
  cmpb $1, 0xff008
  jne 2f
  cmpl $0x74726976, (%ebx)
  jne 2f
  cmpl $2, 8(%ebx)
  jne 2f
  movl $1, 0x70(%ebx)
  movl $3, 0x70(%ebx)
  movl $1, 0x24(%ebx)
  movl $1, 0x20(%ebx)
  movl $0xb, 0x70(%ebx)
  movl $0, 0x30(%ebx)
  movl $4, 0x38(%ebx)
  movl $0x600000, 0x80(%ebx)
  movl $0x601000, 0x90(%ebx)
  movl $0x602000, 0xa0(%ebx)
  movl $1, 0x44(%ebx)
  movl $0x603000, 0x600000
  movl $16, 0x600008
  movl $0x10001, 0x60000c
  movl $0x604000, 0x600010
  movl $512, 0x600018
  movl $0x20003, 0x60001c
  movl $0x605000, 0x600020
  movl $1, 0x600028
  movl $2, 0x60002c
  movw $1, 0x601002
  movl $0xf, 0x70(%ebx)
  movl $0, 0x50(%ebx)
3: pause
  cmpw $1, 0x602002
  jne 3b
  mov $0x3f8, %dx
  mov 0x604000, %al
  out %al, %dx
  say '\n'
3: pause
  cmpl $0, 0x100(%ebx)
  jne 3b
  say 'G'
  say '\n'
3: pause
  cmpl $0, 0x100(%ebx)
  je 3b
  movw $2, 0x601002
  movl $0, 0x50(%ebx)
3: pause
  cmpw $2, 0x602002
  jne 3b
  mov $0x3f8, %dx
  mov 0x604000, %al
  out %al, %dx
2:
  power_off
)")

// No handler for anything: the third fault ends it.
HULL_GUEST(crash, R"(
  lidt 9f - guest_crash + 0x100000
  xor %ecx, %ecx
  div %ecx
9: .word 0
  .long 0
)")

// Never ends: touches some memory over and over.
HULL_GUEST(busy, R"(
  say 'B'
  mov $0x3f8, %dx
  mov $10, %al
  out %al, %dx
2: mov $0x200000, %edi
3: incl (%edi)
  add $4096, %edi
  cmp $0x1000000, %edi
  jb 3b
  jmp 2b
)")
