"""Known attacks on OCI runtimes, played against hull-oci. THREATS.md lists the classes; each test names its cases."""

import ctypes
import hashlib
import json
import os
import shutil
import threading

import pytest
from support import instance as instances
from support.runtime import Runtime

SECRET = "a secret of the host\n"


@pytest.fixture
def outside(tmp_path):
    """A folder of the host with a secret in it; whatever an attack does, it must look the same afterwards."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    yield folder
    assert sorted(os.listdir(folder)) == ["secret"] and (folder / "secret").read_text() == SECRET
    assert not instances.mounts_under(tmp_path)


def sleeping(runtime, name, **more):
    bundle = runtime.bundle(["sleep", "1000"], **more)
    runtime.start(bundle, name)
    return bundle


def test_program_cannot_be_overwritten_from_inside(tmp_path):
    """2019-5736: a program of the image that is a link to /proc/self/exe makes the runtime execute itself inside, and
    the container writes to it through /proc/<pid>/exe."""
    program = tmp_path / "hull-oci"
    shutil.copy2(Runtime().program, program)
    before = hashlib.sha256(program.read_bytes()).hexdigest()
    runtime = Runtime(program)
    try:
        attack = """
        while :; do
          for p in /proc/[0-9]*; do
            case $(readlink $p/exe 2>/dev/null) in */busybox|'') continue;; esac
            exec 9<$p/exe 2>/dev/null || continue
            echo seen >> /seen
            for i in 1 2 3 4 5; do (echo overwritten > /proc/self/fd/9) 2>>/errors && echo yes > /written; done
            exec 9<&-
          done
        done"""

        def prepare(root):
            (root / "bin/evil").write_text("#!/proc/self/exe\n")
            (root / "bin/evil").chmod(0o755)
            os.symlink("/proc/self/exe", root / "bin/itself")

        bundle = runtime.bundle(["sh", "-c", attack], prepare=prepare)
        runtime.start(bundle, "attacker")
        for _ in range(20):
            runtime.call("exec", "attacker", "/bin/evil", check=False)
            runtime.call("exec", "attacker", "/bin/itself", "--version", check=False)
        assert not (bundle / "rootfs/written").exists()
        assert hashlib.sha256(program.read_bytes()).hexdigest() == before
    finally:
        runtime.close()


def test_no_descriptor_leaks(runtime, outside):
    """2016-9962, 2024-21626: descriptors of the host that the workload inherits."""
    leaked = os.open(outside, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    high = os.dup2(leaked, 700, inheritable=True)
    try:
        listing = "for f in /proc/self/fd/*; do echo ${f##*/} $(readlink $f); done"
        bundle = runtime.bundle(["sh", "-c", listing])
        done = runtime.run(bundle, pass_fds=(leaked, high))
        sleeping(runtime, "other")
        execed = runtime.call("exec", "other", "sh", "-c", listing, pass_fds=(leaked, high))
        for output in (done.stdout, execed.stdout):
            numbers = {int(line.split()[0]) for line in output.splitlines()}
            assert numbers <= {0, 1, 2, 3}, output  # 3 is the shell's own view of the folder
            assert "outside" not in output and "state" not in output
    finally:
        os.close(leaked)
        os.close(high)


@pytest.mark.parametrize("number", range(3, 16))
def test_working_directory_is_inside(runtime, outside, number):
    """2024-21626: a working directory that is a descriptor of the host, by name or through a link of the image."""
    held = os.open(outside, os.O_RDONLY)
    try:
        os.dup2(held, number + 500)
        for cwd in (f"/proc/self/fd/{number}", "/link"):
            def edit(document, cwd=cwd):
                document["process"]["cwd"] = cwd

            def prepare(root):
                os.symlink(f"/proc/self/fd/{number}", root / "link")

            bundle = runtime.bundle(["sh", "-c", "cat secret; ls ../../../../..; pwd -P"], prepare, edit)
            done = runtime.run(bundle, check=False)
            assert SECRET.strip() not in done.stdout
            assert done.returncode != 0 or "bin" in done.stdout  # refused, or inside the container's root
    finally:
        os.close(held)
        os.close(number + 500)


def test_exec_working_directory_is_inside(runtime, outside):
    sleeping(runtime, "inside", prepare=lambda root: os.symlink("/proc/self/fd/7", root / "link"))
    for cwd in ["/link", *(f"/proc/self/fd/{number}" for number in range(3, 12))]:
        done = runtime.call("exec", "--cwd", cwd, "inside", "sh", "-c", "cat secret; pwd -P", check=False)
        assert SECRET.strip() not in done.stdout and str(outside) not in done.stdout


@pytest.mark.parametrize("link", ["{outside}", "../../../../../../../..{outside}", "/proc/self/root{outside}",
                                  "/proc/1/root{outside}", "/proc/self/cwd/../../../../../../..{outside}"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind folder", "bind file", "below"])
def test_mount_destination_stays_inside(runtime, outside, tmp_path, link, kind):
    """2021-30465, 2024-45310, crun 2019-18837: a destination that is, or lies behind, a link to the host."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source-file").write_text("from the source\n")
    destination = "/place/new/deep" if kind == "below" else "/place"

    def edit(document):
        mount = {"destination": destination, "type": "tmpfs", "source": "tmpfs"}
        if kind.startswith("bind"):
            source = tmp_path / ("source" if kind == "bind folder" else "source-file")
            mount = {"destination": destination + ("/file" if kind == "bind file" else ""), "type": "bind",
                     "source": str(source), "options": ["rbind"]}
        document["mounts"].append(mount)

    bundle = runtime.bundle(["true"], lambda root: os.symlink(link.format(outside=outside), root / "place"), edit)
    runtime.run(bundle, check=False)  # inside the root, or refused; the fixture looks at the host


def test_mount_destination_race(runtime, outside, tmp_path):
    """2021-30465: the destination is swapped for a link while the runtime resolves it."""
    (tmp_path / "source").mkdir()
    bundle = runtime.bundle(
        ["true"], lambda root: ((root / "place").mkdir(), os.symlink(str(outside), root / "swap")),
        lambda document: document["mounts"].append(
            {"destination": "/place/made/here", "type": "bind", "source": str(tmp_path / "source"),
             "options": ["rbind"]}))
    library = ctypes.CDLL(None, use_errno=True)
    first, second = (os.fsencode(bundle / "rootfs" / name) for name in ("place", "swap"))
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            library.renameat2(-100, first, -100, second, 2)  # RENAME_EXCHANGE

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(60):
            runtime.run(bundle, check=False)
            assert not (outside / "made").exists()
    finally:
        stop.set()
        thread.join()


def test_sysctl_goes_to_the_real_proc(runtime, tmp_path):
    """2019-16884, 2019-19921, 2023-27561, 2023-28642, 2025-52881: a fake /proc swallows labels and sysctls."""
    fake = tmp_path / "fake-proc/sys/net/ipv4"
    fake.mkdir(parents=True)
    (fake / "ip_forward").write_text("untouched\n")

    def edit(document):
        document["mounts"] = [one for one in document["mounts"] if one["destination"] != "/proc"]
        document["mounts"].insert(0, {"destination": "/proc", "type": "bind", "source": str(tmp_path / "fake-proc"),
                                      "options": ["rbind"]})
        document["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}

    runtime.run(runtime.bundle(["true"], edit=edit), check=False)
    assert (fake / "ip_forward").read_text() == "untouched\n"


def test_proc_behind_a_link(runtime, outside):
    def prepare(root):
        (root / "proc").rmdir()
        os.symlink(str(outside), root / "proc")

    done = runtime.run(runtime.bundle(["ls", "/proc"], prepare), check=False)
    assert "secret" not in done.stdout


@pytest.mark.parametrize("target", ["/secret-of-the-image", "/proc/sysrq-trigger"])
def test_masks_are_not_taken_from_the_image(runtime, target):
    """2025-31133: /dev/null of the image is a link, and the mask becomes a mount of its target."""
    def prepare(root):
        (root / "secret-of-the-image").write_text("shown\n")
        (root / "hidden").write_text("hidden\n")
        (root / "hidden-folder").mkdir()
        (root / "hidden-folder/file").write_text("hidden\n")
        os.symlink(target, root / "dev/null")

    def edit(document):
        document["mounts"] = [one for one in document["mounts"] if not one["destination"].startswith("/dev")]
        document["linux"]["maskedPaths"] = ["/hidden", "/hidden-folder"]

    done = runtime.run(runtime.bundle(["sh", "-c", "cat /hidden /hidden-folder/* 2>/dev/null; echo end"], prepare, edit),
                       check=False)
    assert "hidden" not in done.stdout and "shown" not in done.stdout


@pytest.mark.parametrize("link", ["{outside}", "../../../../../..{outside}"])
def test_dev_of_the_image_is_a_link(runtime, outside, link):
    """2026-41579, crun 2026-47766: devices are made where the image's /dev points."""
    def prepare(root):
        (root / "dev").rmdir()
        os.symlink(link.format(outside=outside), root / "dev")

    runtime.run(runtime.bundle(["true"], prepare), check=False)

    def without_dev(document):
        document["mounts"] = [one for one in document["mounts"] if not one["destination"].startswith("/dev")]
        document["linux"]["devices"] = [{"path": "/dev/made", "type": "c", "major": 1, "minor": 3}]

    runtime.run(runtime.bundle(["true"], prepare, without_dev), check=False)


def test_no_inheritable_capabilities(runtime):
    """2022-29162 and others: a non-empty inheritable set that nobody asked for."""
    def edit(document):
        some = ["CAP_CHOWN", "CAP_KILL"]
        document["process"]["capabilities"] = {"bounding": some, "effective": some, "permitted": some}

    bundle = runtime.bundle(["grep", "CapInh", "/proc/self/status"], edit=edit)
    assert runtime.run(bundle).stdout.split()[1] == "0000000000000000"
    held = runtime.bundle(["sleep", "1000"], edit=edit)
    runtime.start(held, "caps")
    for extra in ([], ["--cap", "CAP_NET_RAW"]):
        done = runtime.call("exec", *extra, "caps", "grep", "CapInh", "/proc/self/status", check=False)
        assert done.returncode != 0 or done.stdout.split()[1] == "0000000000000000"


@pytest.mark.parametrize("member, value", [("uid", 1 << 32), ("uid", -1), ("gid", 1 << 32), ("uid", "0"), ("uid", 0.5),
                                           ("additionalGids", [1 << 32]), ("umask", 1 << 40)])
def test_numbers_that_do_not_fit_are_refused(runtime, member, value):
    """containerd 2024-40635, crun 2026-30892: a uid that overflows becomes 0."""
    def edit(document):
        document["process"]["user"][member] = value

    done = runtime.run(runtime.bundle(["id", "-u"], edit=edit), check=False)
    assert done.returncode != 0 and "0\n" not in done.stdout
    assert member in done.stderr


@pytest.mark.parametrize("user", ["4294967296", "-1", "0x0", "1e3", " 1", "1:4294967296", "+1"])
def test_exec_user_is_strict(runtime, user):
    sleeping(runtime, "strict")
    assert runtime.call("exec", "--user", user, "strict", "id", "-u", check=False).returncode != 0


def test_state_is_private(runtime):
    """2021-41091 and others: state that other users can read."""
    sleeping(runtime, "private")
    state = runtime.folder / "state"
    assert state.stat().st_mode & 0o077 == 0
    for path in state.rglob("*"):
        if path.is_dir():
            assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 1 << 24])
def test_long_messages_are_bounded(runtime, size):
    """2021-43784: lengths that overflow in the message from the runtime to the init process."""
    def edit(document):
        document["process"]["env"] += [f"V{number}=" + "x" * min(size, 100000) for number in range(size // 100000 + 1)]
        document["linux"]["namespaces"][0]["path"] = "/" + "p" * size

    done = runtime.run(runtime.bundle(["true"], edit=edit), check=False)
    assert done.returncode > 0 and done.stderr


def test_process_document_is_bounded(runtime, tmp_path):
    """2022-31030, 2026-47262: an exec document of any size."""
    sleeping(runtime, "bounded")
    huge = tmp_path / "process.json"
    with open(huge, "w") as file:
        file.truncate(3 << 30)
    done = runtime.call("exec", "--process", huge, "bounded", check=False, timeout=60)
    assert done.returncode > 0 and done.stderr
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 1000000)
    assert runtime.call("exec", "--process", deep, "bounded", check=False).returncode > 0


@pytest.mark.parametrize("name", ["../escape", "/abs", "a/b", "", ".", "..", "x" * 2000, "-flag", "new\nline"])
def test_container_names_are_no_paths(runtime, name):
    bundle = runtime.bundle(["true"])
    done = runtime.call("run", "--bundle", bundle, name, check=False)
    assert done.returncode != 0
    assert not (runtime.folder / "escape").exists()


def test_hook_sees_no_container_file(runtime):
    """Programs of the host run with the host's libraries: nothing is loaded after the container's root is entered."""
    marker = runtime.folder / "hook-ran"

    def edit(document):
        document["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {marker}"]}]}

    runtime.run(runtime.bundle(["true"], edit=edit))
    assert json.loads(marker.read_text())["status"] in ("creating", "created")
