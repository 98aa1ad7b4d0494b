"""hull-oci-vm on bundles of busybox: a kernel installed once, a state folder and control groups of its own."""

import os
import pathlib
import subprocess
import tempfile

from .instance import BIN, remove_tree
from .runtime import Runtime
from .vm import install_kernel

MEMORY = 96 << 20


class DataRoot:
    """A data folder with a guest kernel."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hull-t-kernel-", dir="/tmp"))
        install_kernel(self.folder)
        self.environment = {**os.environ, "HULL_ROOT": str(self.folder)}

    def close(self):
        remove_tree(self.folder)


class VmRuntime(Runtime):
    def __init__(self, data, program="hull-oci-vm"):
        super().__init__(BIN / program)
        self.data = data
        self.environment = data.environment

    def bundle(self, args=("true",), prepare=None, edit=None, **changes):
        def with_size(document):
            document["linux"]["resources"].setdefault("memory", {"limit": MEMORY})
            if edit:
                edit(document)

        return super().bundle(args, prepare=prepare, edit=with_size, **changes)

    def call(self, *arguments, check=True, timeout=150, **more):
        more.setdefault("env", self.environment)
        return super().call(*arguments, check=check, timeout=timeout, **more)

    def spawn(self, *arguments, **more):
        """Starts hull-oci-vm with pipes."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(self.command(*arguments), env=self.environment, **options)

    def processes(self):
        """Host pids in this runtime's control groups."""
        found = set()
        for path in pathlib.Path("/sys/fs/cgroup").glob(f"**/{self.cgroup}/**/cgroup.procs"):
            try:
                found |= {int(line) for line in path.read_text().split()}
            except OSError:
                pass
        return found
