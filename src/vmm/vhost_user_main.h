#pragma once

namespace hull::vmm {

/// `hull-vmm --vhost-user KIND (--socket PATH | --listen-fd N) ...`: one virtio device for one vhost-user front end
/// (QEMU), until that goes away. Exit code 0 then, 1 when something failed, 2 for wrong arguments.
int vhost_user_main(int argc, char** argv);

}  // namespace hull::vmm
