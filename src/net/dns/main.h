#pragma once

namespace hull::net::dns {

/// hull-dns --run-dir DIR [--foreground]. Returns 0 when the server runs (in a process of its own) or ran already.
int main(int argc, char** argv);

}  // namespace hull::net::dns
