"""hull-oci on bundles of busybox, with a state folder of its own."""

import os
import pathlib
import subprocess
import tempfile
import uuid

from . import bundle as bundles
from .instance import BIN, cgroup_folders, remove_tree


class Runtime:
    def __init__(self, program=None):
        self.program = str(program or os.environ.get("HULL_OCI") or BIN / "hull-oci")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hull-t-oci-", dir="/tmp"))
        self.cgroup = f"hull-t-oci-{uuid.uuid4().hex[:8]}"
        self.made = []

    def bundle(self, args=("true",), prepare=None, edit=None, **changes):
        """A bundle with a cgroup of its own. prepare(rootfs) changes the files, edit(document) the config."""
        folder = self.folder / f"bundle{len(self.made)}"
        document = bundles.config(args, **changes)
        document["linux"].setdefault("cgroupsPath", f"/{self.cgroup}/{len(self.made)}")
        if edit:
            edit(document)
        bundles.bundle(folder, document=document)
        if prepare:
            prepare(folder / "rootfs")
        self.made.append(folder)
        return folder

    def command(self, *arguments):
        return [self.program, "--root", str(self.folder / "state"), *map(str, arguments)]

    def call(self, *arguments, check=True, timeout=30, **more):
        """Runs hull-oci; output goes through files, because what it starts may outlive it and keep a pipe open."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            more.setdefault("stdin", subprocess.DEVNULL)
            done = subprocess.run(self.command(*arguments), stdout=output, stderr=errors, timeout=timeout, **more)
            output.seek(0)
            errors.seek(0)
            done.stdout, done.stderr = (file.read().decode(errors="replace") for file in (output, errors))
        if check:
            assert done.returncode == 0, f"hull-oci {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def run(self, bundle, check=True, **more):
        return self.call("run", "--bundle", bundle, f"t{uuid.uuid4().hex[:12]}", check=check, **more)

    def start(self, bundle, name):
        self.call("run", "--detach", "--bundle", bundle, name)

    def close(self):
        done = self.call("list", "--quiet", check=False)
        for name in done.stdout.split():
            self.call("delete", "--force", name, check=False)
        for path in cgroup_folders():
            if f"/{self.cgroup}" in path:
                try:
                    os.rmdir(path)
                except OSError:
                    pass
        remove_tree(self.folder)
