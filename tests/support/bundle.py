"""OCI bundles and images of busybox, made on the spot."""

import importlib.util
import json
import os
import pathlib
import subprocess

SOURCE = pathlib.Path(os.environ.get("HULL_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
BUSYBOX = next((path for path in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(path)), "/bin/busybox")

_spec = importlib.util.spec_from_file_location("make_demo_image", SOURCE / "cmake/make_demo_image.py")
layout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layout)

PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def busybox_layer(*more):
    """A layer with busybox, and more entries of layout.folder(), layout.regular(), layout.link()."""
    return layout.make_tar(layout.busybox_entries(BUSYBOX) + list(more))


def busybox_image(folder, name="busybox:latest", compression="gzip", config=None, layers=()):
    """Writes an OCI layout of busybox (and layers on top of it, as tar bytes); returns its manifest digest."""
    merged = {"Env": [PATH_ENV], "Cmd": ["sh"], **(config or {})}
    return layout.write_layout(folder, [busybox_layer(), *layers], merged, names=(name,), compression=compression)


def docker_archive(folder, path, name="busybox:latest"):
    """Writes the busybox image as a docker-archive that `docker load` and `podman load` take."""
    layout_folder = pathlib.Path(folder) / "layout"
    busybox_image(layout_folder, name=name)
    subprocess.run(["skopeo", "copy", "-q", "--insecure-policy", f"oci:{layout_folder}:{name}",
                    f"docker-archive:{path}:{name}"], check=True)


def rootfs(folder):
    """Unpacks busybox into a folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=busybox_layer(), check=True)
    return folder


def config(args=("true",), **changes):
    """A small config.json: five namespaces, /proc, /dev, no terminal. changes replace members of the top level."""
    document = {
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": list(args), "env": [PATH_ENV], "cwd": "/"},
        "root": {"path": "rootfs"},
        "hostname": "bundle",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }
    document.update(changes)
    return document


def bundle(folder, args=("true",), document=None, **changes):
    """Makes a bundle in a folder and returns its path."""
    folder = pathlib.Path(folder)
    rootfs(folder / "rootfs")
    (folder / "config.json").write_text(json.dumps(document or config(args, **changes)))
    return folder
