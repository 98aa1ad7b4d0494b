#!/usr/bin/env python3
"""Writes OCI image layouts (image-spec 1.1, image-layout.md) byte for byte the same each time, with nothing but Python.

usage: make_demo_image.py --busybox FILE --files FOLDER --version VERSION OUTPUT

As a program it writes the image hull-demo: a static busybox with a link for each of its commands, and what FOLDER
holds. The tests import it to make their own images: write_layout(), make_tar(), entries.
"""

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import platform
import shutil
import subprocess
import tarfile

LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EPOCH = "1970-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture():
    """This machine's architecture in GOARCH terms."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def folder(name, mode=0o755, **more):
    return {"name": name, "type": tarfile.DIRTYPE, "mode": mode, **more}


def regular(name, content, mode=0o644, **more):
    return {"name": name, "type": tarfile.REGTYPE, "mode": mode, "content": content, **more}


def link(name, target, **more):
    return {"name": name, "type": tarfile.SYMTYPE, "mode": 0o777, "linkname": target, **more}


def make_tar(entries):
    """A tar archive (pax) of the entries, in their order. Keys: name, type, mode, uid, gid, mtime, linkname, content,
    devmajor, devminor, pax (a dictionary of pax headers)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry["name"])
            info.type = entry["type"]
            info.mode = entry["mode"]
            info.uid, info.gid = entry.get("uid", 0), entry.get("gid", 0)
            info.mtime = entry.get("mtime", 0)
            info.linkname = entry.get("linkname", "")
            info.devmajor, info.devminor = entry.get("devmajor", 0), entry.get("devminor", 0)
            info.pax_headers = entry.get("pax", {})
            content = entry.get("content", b"")
            if isinstance(content, str):
                content = content.encode()
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, "digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data), **more}


def write_layout(output, tars, config=None, names=("latest",), compression="none", history=None, labels=None):
    """Writes a layout with one image into the folder output (replaced if it exists) and returns its manifest digest.

    tars: the layers as uncompressed tar archives, lowest first. config: the image configuration's "config" member.
    names: values of org.opencontainers.image.ref.name. compression: none, gzip or zstd (the zstd program).
    """
    output = pathlib.Path(output)
    shutil.rmtree(output, ignore_errors=True)
    blobs = output / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(media_type, data, **more):
        described = descriptor(media_type, data, **more)
        (blobs / described["digest"].split(":")[1]).write_bytes(data)
        return described

    def canonical(document):
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    compressors = {
        "none": (LAYER_TAR, lambda data: data),
        "gzip": (LAYER_TAR + "+gzip", lambda data: gzip.compress(data, 6, mtime=0)),
        "zstd": (LAYER_TAR + "+zstd",
                 lambda data: subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout),
    }
    layer_type, compress = compressors[compression]
    layers = [put(layer_type, compress(tar)) for tar in tars]
    image = {
        "architecture": architecture(),
        "os": "linux",
        "created": EPOCH,
        "config": dict(config or {}, **({"Labels": labels} if labels else {})),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
        "history": history or [{"created": EPOCH, "created_by": f"layer {number}"} for number in range(len(tars))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(CONFIG, canonical(image)),
        "layers": layers,
    }
    described = put(MANIFEST, canonical(manifest))
    described["platform"] = {"architecture": architecture(), "os": "linux"}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [dict(described, annotations={"org.opencontainers.image.ref.name": name}) for name in names],
    }
    (output / "index.json").write_bytes(canonical(index))
    (output / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return described["digest"]


def busybox_entries(busybox):
    """The entries of a small Unix tree around a static busybox."""
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries = [folder(name) for name in ("bin", "dev", "etc", "proc", "root", "sys", "usr", "var")]
    entries += [folder("tmp", 0o1777), folder("var/tmp", 0o1777)]
    entries.append(regular("bin/busybox", pathlib.Path(busybox).read_bytes(), 0o755))
    entries += [link(f"bin/{applet}", "busybox") for applet in sorted(set(applets)) if applet != "busybox"]
    entries += [link("usr/bin", "../bin"), link("sbin", "bin"), link("usr/sbin", "../bin")]
    entries.append(regular("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
    entries.append(regular("etc/group", "root:x:0:\nnogroup:x:65534:\n"))
    return entries


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--busybox", required=True)
    parser.add_argument("--files", type=pathlib.Path, required=True)
    parser.add_argument("--version", default="latest")
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    entries = busybox_entries(arguments.busybox)
    entries.append(regular("bin/hull-demo", (arguments.files / "hull-demo").read_bytes(), 0o755))
    entries += [folder("www"), regular("www/index.html", (arguments.files / "index.html").read_bytes())]
    config = {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": ["/bin/hull-demo"],
        "WorkingDir": "/",
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"org.opencontainers.image.title": "hull-demo", "org.opencontainers.image.version": arguments.version},
    }
    write_layout(arguments.output, [make_tar(entries)], config, names=("hull-demo:latest",),
                 history=[{"created": EPOCH, "created_by": "busybox-static and the demonstration's files"}])


if __name__ == "__main__":
    main()
