#include "runtime/command/commands.h"

int main(int argc, char** argv) { return hull::runtime::command::main(argc, argv); }
