"""Debian's cloud kernel for the bed: fetched once with apt-get download, unpacked into a folder, never installed."""

import fcntl
import os
import pathlib
import re
import shutil
import struct
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("HULL_CACHE", TOP / "build/cache"))


class Kernel:
    """A kernel package's parts: version, bzimage, vmlinux (uncompressed), and its modules by name."""

    def __init__(self, folder):
        self.folder = folder
        self.bzimage = next((folder / "boot").glob("vmlinuz-*"))
        self.version = self.bzimage.name.removeprefix("vmlinuz-")
        self.vmlinux = folder / "vmlinux"
        tree = next(path for path in (folder / "lib/modules", folder / "usr/lib/modules") if path.exists())
        self.modules = tree / self.version
        self.files = {path.stem.replace("-", "_"): path for path in self.modules.rglob("*.ko")}

    def module(self, name):
        return self.files[name.replace("-", "_")]

    def with_dependencies(self, names):
        """The modules and what they depend on, in loading order (by each file's own depends= record)."""
        order = []

        def visit(name):
            name = name.replace("-", "_")
            if name in order or name not in self.files:
                return
            for line in re.findall(rb"depends=([^\0]*)\0", self.files[name].read_bytes()):
                for needed in line.decode().split(","):
                    if needed:
                        visit(needed)
            order.append(name)

        for name in names:
            if name.replace("-", "_") not in self.files:
                raise KeyError(f"{self.version} has no module {name}")
            visit(name)
        return order


def unpack_bzimage(path):
    """The vmlinux inside an LZ4-compressed bzImage (Documentation/x86/boot.rst: payload_offset, payload_length)."""
    image = path.read_bytes()
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (image[0x1f1] + 1) * 512 + offset
    payload = image[start:start + length - 4]  # the last four bytes are the unpacked size
    done = subprocess.run(["lz4", "-dc"], input=payload, capture_output=True)
    if not done.stdout.startswith(b"\x7fELF"):
        raise RuntimeError(f"{path}: not an LZ4-compressed kernel: {done.stderr.decode()}")
    return done.stdout


def cloud_kernel():
    """The newest linux-image-*-cloud-amd64 of the configured Debian, from the cache folder when it is there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "kernel.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = sorted(CACHE.glob("linux-image-*-cloud-amd64_*.deb"), key=lambda path: path.stat().st_mtime)
        if not packages:
            depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True,
                                     check=True).stdout
            name = re.search(r"Depends: (linux-image-\S+)", depends).group(1)
            subprocess.run(["apt-get", "download", "-q", name], cwd=CACHE, check=True, capture_output=True)
            packages = list(CACHE.glob("linux-image-*-cloud-amd64_*.deb"))
        folder = CACHE / packages[-1].stem
        if not (folder / "vmlinux").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run(["dpkg", "-x", packages[-1], folder], check=True)
            kernel = Kernel(folder)
            temporary = folder / "vmlinux.tmp"
            temporary.write_bytes(unpack_bzimage(kernel.bzimage))
            temporary.rename(folder / "vmlinux")
    return Kernel(folder)
