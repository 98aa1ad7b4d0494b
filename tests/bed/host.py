"""This machine's folders for a bed to see, read-only: /usr and /etc, and whichever else a test needs, over virtiofs."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"

# In a mount namespace of its own: a tree of read-only views, and the daemon that gives it away. $1: the mount point, $2:
# the descriptor that listens, then the folders.
SERVE = f"""set -e
top=$1 listener=$2; shift 2
mount -t tmpfs hull-bed $top
for folder; do
  mkdir -p $top$folder
  mount --bind $folder $top$folder
  mount -o remount,bind,ro $top$folder
done
exec {VIRTIOFSD} -f --fd=$listener --rlimit-nofile=0 --thread-pool-size=8 -o source=$top \
  -o sandbox=chroot,cache=always,no_flock,no_posix_lock,no_xattr,log_level=warn
"""


class HostFolder:
    """Serves /usr, /etc and the named folders to one bed."""

    def __init__(self, folders=()):
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="hull-bed-host."))
        self.folders = folders
        self.top = self.place / "top"
        self.top.mkdir()
        self.socket = self.place / "socket"
        self.log = self.place / "log"
        self.process = None

    def start(self):
        """A daemon for the next bed: each serves one."""
        self.end_process()
        self.socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.socket))
        listener.listen(1)
        # Debian 12's virtiofsd dies of its own filter when the C library counts processors (for its arenas).
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "slave", "sh", "-c", SERVE, "sh", str(self.top), str(listener.fileno()),
                 "/usr", "/etc", *map(str, self.folders)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[listener.fileno()], env={"MALLOC_ARENA_MAX": "4", "PATH": os.environ["PATH"]})
        listener.close()

    def arguments(self, memory_mib):
        """What QEMU needs for it: memory that the daemon can map."""
        return ["-object", f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on", "-machine", "memory-backend=memory",
                "-chardev", f"socket,id=host,path={self.socket}", "-device", "vhost-user-fs-pci,chardev=host,tag=host-folder"]

    def end_process(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self):
        self.end_process()
        shutil.rmtree(self.place, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
