#include "net/dns/main.h"

int main(int argc, char** argv) { return hull::net::dns::main(argc, argv); }
