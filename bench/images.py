"""The images that the benchmark runs and pulls."""

import os
import pathlib
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests")]
from support import bundle as bundles  # noqa: E402

LAYERS = 4
LAYER_BYTES = 138 << 20
ROOTS = ("/usr/lib", "/usr/share", "/usr/bin", "/usr/include", "/usr/libexec", "/usr/sbin")


def files_of_this_machine():
    """(path, size) of what a big image is made of: programs, libraries and data of Debian packages, in a fixed order."""
    for root in ROOTS:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    size = os.lstat(path).st_size
                    if size < 32 << 20:
                        yield path, size


def make_big_layout(folder, layer_bytes=LAYER_BYTES):
    """An OCI layout of LAYERS gzip layers of about layer_bytes each, made once and kept: (folder, unpacked, files)."""
    folder = pathlib.Path(folder)
    stamp = folder / "made"
    if not stamp.exists():
        source = files_of_this_machine()
        tars, total, files = [], 0, 0
        for number in range(LAYERS):
            path = folder.parent / f"layer{number}.tar"
            path.parent.mkdir(parents=True, exist_ok=True)
            used = 0
            with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
                if number == 0:
                    archive.add(bundles.BUSYBOX, "bin/busybox")
                    for name in ("sh", "true"):
                        link = tarfile.TarInfo(f"bin/{name}")
                        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                        archive.addfile(link)
                for name, size in source:
                    archive.add(name, f"layer{number}{name}", recursive=False)
                    used += size
                    files += 1
                    if used >= layer_bytes:
                        break
            total += used
            tars.append(path.read_bytes())
            path.unlink()
        bundles.layout.write_layout(folder, tars, {"Cmd": ["true"], "Env": [bundles.PATH_ENV]}, names=("big:latest",),
                                    compression="gzip")
        stamp.write_text(f"{total} {files}")
    total, files = map(int, stamp.read_text().split())
    return folder, total, files


def gzip_layers(layout):
    """The gzip blobs of a layout, the largest first."""
    blobs = [path for path in (pathlib.Path(layout) / "blobs/sha256").iterdir() if path.read_bytes()[:2] == b"\x1f\x8b"]
    return sorted(blobs, key=lambda path: -path.stat().st_size)


def bench_bundle(folder, config):
    """Makes the bundle in which every OCI runtime runs `true`: busybox, and Docker's config.json with its paths ours."""
    folder = pathlib.Path(folder)
    bundles.rootfs(folder / "rootfs")
    config = dict(config)
    config["root"] = {"path": "rootfs"}
    config["process"] = dict(config["process"], args=["true"], terminal=False)
    config.pop("hooks", None)  # dockerd's own network set-up
    config["hostname"] = "bench"
    config["linux"] = dict(config["linux"], cgroupsPath="/hull-bench")
    mounts = []
    for mount in config["mounts"]:
        if mount["type"] == "bind":
            name = os.path.basename(mount["destination"])
            (folder / name).write_text("bench\n")
            target = folder / "rootfs" / mount["destination"].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
            mount = dict(mount, source=str(folder / name))
        mounts.append(mount)
    config["mounts"] = mounts
    return folder, config
