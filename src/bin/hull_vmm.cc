// hull-vmm: runs one machine on KVM, as its description says. docs/man/hull-vmm.8
#include "vmm/command.h"

int main(int argc, char** argv) { return hull::vmm::run_command(argc, argv); }
