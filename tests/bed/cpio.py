"""Writes cpio archives in the kernel's "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst)."""

import pathlib
import stat


class Archive:
    """Collects files; bytes() is the archive. Folders that a path needs are made on the way."""

    def __init__(self):
        self.parts = []
        self.known = set()
        self.inode = 1

    def add(self, path, mode, content=b"", device=(0, 0)):
        name = path.strip("/").encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        self.inode += 1
        self.parts.append(pad(b"070701" + b"".join(b"%08X" % field for field in fields) + name))
        self.parts.append(pad(content))
        self.known.add(path.strip("/"))

    def folder(self, path, mode=0o755):
        path = path.strip("/")
        if not path or path in self.known:
            return
        self.folder(str(pathlib.PurePosixPath(path).parent).replace(".", ""))
        self.add(path, stat.S_IFDIR | mode)

    def file(self, path, content, mode=0o644):
        """content: bytes, text, or the path of a file to copy (with its mode's x bits)."""
        if isinstance(content, pathlib.Path):
            mode = content.stat().st_mode & 0o777
            content = content.read_bytes()
        if isinstance(content, str):
            content = content.encode()
        self.folder(str(pathlib.PurePosixPath("/" + path.strip("/")).parent))
        self.add(path, stat.S_IFREG | mode, content)

    def link(self, path, target):
        self.folder(str(pathlib.PurePosixPath("/" + path.strip("/")).parent))
        self.add(path, stat.S_IFLNK | 0o777, target.encode())

    def node(self, path, kind, major, minor, mode=0o600):
        self.folder(str(pathlib.PurePosixPath("/" + path.strip("/")).parent))
        self.add(path, kind | mode, device=(major, minor))

    def bytes(self):
        trailer = Archive()
        trailer.add("TRAILER!!!", 0)
        return b"".join(self.parts + trailer.parts)


def pad(data):
    return data + b"\0" * (-len(data) % 4)


def console_node(archive):
    """Without /dev/console PID 1 has no standard descriptors."""
    archive.node("dev/console", stat.S_IFCHR, 5, 1)
    archive.node("dev/null", stat.S_IFCHR, 1, 3, 0o666)
