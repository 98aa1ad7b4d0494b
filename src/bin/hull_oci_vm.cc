#include "runtime/command/commands.h"
#include "vm/descriptors.h"
#include "vm/files.h"
#include "vm/runtime.h"

int main(int argc, char** argv) {
  hull::vm::note_inherited_descriptors();
  namespace runtime = hull::runtime;
  const runtime::command::Program program{"hull-oci-vm",
                                          "vm",
                                          false,
                                          [](runtime::Options options) -> std::unique_ptr<runtime::OciRuntime> {
                                            return std::make_unique<hull::vm::Runtime>(std::move(options));
                                          },
                                          "files",
                                          hull::vm::files_command};
  return runtime::command::main(argc, argv, program);
}
