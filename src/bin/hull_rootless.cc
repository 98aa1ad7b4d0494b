#include "rootless/keeper.h"

int main(int argc, char** argv) { return hull::rootless::main(argc, argv); }
