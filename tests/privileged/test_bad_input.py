"""Broken and hostile input at the front doors: a clear error that names the thing, the documented exit code, nothing left."""

import json
import os
import pathlib
import subprocess
import uuid

import pytest
from support import bundle as bundles
from support import images
from support.instance import BIN, cgroup_folders


# hull-oci and its bundles

@pytest.fixture
def oci(tmp_path):
    """oci(*arguments) -> finished process of hull-oci with a state folder of its own."""
    def call(*arguments, **more):
        more.setdefault("timeout", 30)
        return subprocess.run([str(BIN / "hull-oci"), "--root", str(tmp_path / "state"), *map(str, arguments)],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)
    return call


def refused(oci, tmp_path, folder, *words):
    name = f"bad-{uuid.uuid4().hex[:8]}"
    done = oci("run", "--bundle", folder, name)
    assert done.returncode != 0
    for word in words:
        assert word in done.stderr, done.stderr
    assert "terminate called" not in done.stderr and "Aborted" not in done.stderr
    assert name not in oci("list", "-q").stdout
    assert not [path for path in cgroup_folders() if name in path]
    assert not [entry for entry in (tmp_path / "state").glob(f"*{name}*")]


@pytest.mark.parametrize("text,word", [
    ("", "config.json"), ("{", "config.json"), ("[]", "config.json"), ("null", "config.json"), ("{}", "ociVersion"),
    ('{"ociVersion": 1}', "ociVersion"), ('{"ociVersion":"9.0.0"}', "9.0.0"), ('{"ociVersion":"1.0.2","process":[]}', "process"),
    ("[" * 100000, "config.json"), ('{"ociVersion":"\\ud800"}', "config.json"), ("\xff\xfe", "config.json"),
])
def test_broken_documents(oci, tmp_path, bundle, text, word):
    folder = bundle()
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(oci, tmp_path, folder, word)


def change(document, path, value):
    at = document
    *parents, last = path.split(".")
    for part in parents:
        at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
    at[last] = value
    return document


@pytest.mark.parametrize("path,value,word", [
    ("process.args", [], "args"), ("process.args", "true", "args"), ("process.args", [1], "args"),
    ("process.cwd", "", "cwd"), ("process.cwd", "relative", "cwd"), ("process.user.uid", -1, "uid"),
    ("process.user.uid", 2**32, "uid"), ("process.user.uid", 1.5, "uid"), ("process.user.uid", "0", "uid"),
    ("process.rlimits", [{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}], "RLIMIT_NOPE"),
    ("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1}], "RLIMIT_NOFILE"),
    ("process.oomScoreAdj", 5000, "oom"), ("process.apparmorProfile", "no-such-profile", "pparmor"),
    ("process.selinuxLabel", "a:b:c:d", "inux"), ("process.scheduler", {"policy": "SCHED_NOPE"}, "SCHED_NOPE"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_NOPE", "priority": 1}, "IOPRIO_CLASS_NOPE"),
    ("root.path", "no-such-folder", "no-such-folder"), ("root.path", "config.json", "config.json"),
    ("mounts", [{"destination": "", "type": "tmpfs"}], "destination"),
    ("mounts", [{"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"]}], "/no/such/source"),
    ("mounts", [{"destination": "/x", "type": "no-such-fs", "source": "x"}], "no-such-fs"),
    ("linux.namespaces", [{"type": "moon"}], "moon"),
    ("linux.namespaces", [{"type": "uts"}, {"type": "mount"}, {"type": "mount"}], "mount"),
    ("linux.namespaces", [{"type": "uts"}, {"type": "mount"}, {"type": "network", "path": "/no/such/ns"}], "/no/such/ns"),
    ("linux.sysctl", {"kernel.panic": "1"}, "kernel.panic"), ("linux.sysctl", {"net/../../kernel/panic": "1"}, "sysctl"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOPE"}, "SCMP_ACT_NOPE"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOPE"]}, "SCMP_ARCH_NOPE"),
    ("linux.resources", {"memory": {"limit": "1"}}, "limit"), ("linux.resources", {"unified": {"../x": "1"}}, "../x"),
    ("linux.rootfsPropagation", "sideways", "sideways"), ("linux.devices", [{"path": "/dev/x", "type": "q"}], "devices[0]"),
    ("hostname", "x" * 300, "hostname"),
    ("linux.intelRdt", {"closID": "../x"}, "ntelRdt"), ("linux.personality", {"domain": "LINUX99"}, "LINUX99"),
])
def test_wrong_members(oci, tmp_path, bundle, path, value, word):
    refused(oci, tmp_path, bundle(document=change(bundles.config(), path, value)), word)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc", "x" * 2000, "a b", "a\nb", "\x1b[31m"])
def test_bad_ids(oci, tmp_path, bundle, name):
    done = oci("run", "--bundle", bundle(), "--", name)
    assert done.returncode != 0 and len(done.stderr) > 5
    assert "\x1b" not in done.stderr


def test_an_id_is_used_once(oci, bundle):
    folder = bundle(["sleep", "100"])
    created = subprocess.run([str(BIN / "hull-oci"), "--root", str(folder.parent / "state"), "create", "--bundle", str(folder),
                              "twice"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert created.returncode == 0
    done = oci("run", "--bundle", bundle(), "twice")
    oci("delete", "--force", "twice")
    assert done.returncode != 0 and "twice" in done.stderr and "exist" in done.stderr


@pytest.mark.parametrize("command", [["state"], ["start"], ["kill"], ["delete"], ["exec"], ["pause"], ["resume"], ["ps"],
                                     ["update"], ["events", "--stats"]])
def test_unknown_ids(oci, command):
    done = oci(*command, "no-such-id", *(["true"] if command == ["exec"] else []))
    assert done.returncode != 0 and "does not exist" in done.stderr


@pytest.mark.parametrize("links", [
    [("mnt", "mnt2"), ("mnt2", "mnt")], [("mnt", "../../../../../../tmp/escape")], [("mnt", "/tmp/escape")], [("mnt", "dangling")],
])
def test_links_at_mount_destinations_stay_inside(oci, tmp_path, bundle, links):
    mount = {"destination": "/mnt/inner", "type": "tmpfs", "source": "tmpfs"}
    folder = bundle(["sh", "-c", "grep -c inner /proc/mounts"], mounts=bundles.config()["mounts"] + [mount])
    for name, target in links:
        os.symlink(target, folder / "rootfs" / name)
    done = oci("run", "--bundle", folder, f"link-{uuid.uuid4().hex[:8]}")
    assert not pathlib.Path("/tmp/escape").exists()
    if links[0][1] == "mnt2":
        assert done.returncode != 0
    else:
        assert done.stdout.strip() == "1", done.stderr


# hull

@pytest.mark.parametrize("name", ["a b", "../x", "x/y", "-x", "\x1b[31mred", "ä", "x" * 300])
def test_bad_names(hull, name):
    done = hull.hull("create", f"--name={name}", "test", check=False)
    assert done.returncode != 0 and "name" in done.stderr and "\x1b" not in done.stderr


@pytest.mark.parametrize("reference", ["UPPER", "a//b", "a:b:c", "x@sha256:12", "../x", "a" * 300, "http://host/x", "x:\n", "-x:y z"])
def test_bad_references(hull, reference):
    done = hull.hull("run", "--rm", "--pull", "never", "--", reference, check=False)
    assert done.returncode == 125 and len(done.stderr) > 10


@pytest.mark.parametrize("settings,word", [
    ("nonsense = 1", "nonsense"), ("[registry", "hull.toml"), ('data_root = 5', "data_root"), ("[limits]\nmax_layer = 'x'", "max_layer"),
])
def test_bad_settings_name_the_key(make_instance, settings, word):
    done = make_instance(settings).hull("ps", check=False)
    assert done.returncode != 0 and word in done.stderr


def test_full_disk(make_instance, tmp_path):
    one = make_instance()
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    os.truncate(disk, 24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    one.root.mkdir(parents=True)
    subprocess.run(["mount", "-o", "loop", disk, one.root], check=True)
    try:
        images.load(one, tmp_path / "image")
        big = images.layout.make_tar([images.layout.regular("big", os.urandom(40 << 20))])
        bundles.busybox_image(tmp_path / "big", name="big:latest", layers=[big])
        done = one.hull("load", "--input", tmp_path / "big", check=False)
        assert done.returncode != 0 and "space" in done.stderr.lower()
        assert "big" not in one.hull("images").stdout
        subprocess.run(["dd", "if=/dev/zero", f"of={one.root}/filler", "bs=64k"], capture_output=True)
        done = one.hull("run", "--rm", "--network", "none", "test", "true", check=False)
        assert done.returncode == 0 or (done.returncode == 125 and "space" in done.stderr.lower())
        os.unlink(one.root / "filler")
        assert one.hull("run", "--rm", "--network", "none", "test", "echo", "again").stdout == "again\n"
        one.hull("system", "check")
    finally:
        for ref in one.hull("ps", "-aq", check=False).stdout.split():
            one.hull("rm", "-f", ref, check=False)
        for point in [str(one.root)]:
            subprocess.run(["umount", "-R", "-l", point])


def test_not_root_is_told(hull):
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", *hull.command("ps")[2:]], env=hull.environment,
                          capture_output=True, text=True)
    assert done.returncode != 0 and ("root" in done.stderr or "ermission" in done.stderr)


def test_broken_bundle_state_is_survived(hull):
    identifier = hull.hull("create", "--network", "none", "test", "true").stdout.strip()
    folders = [p for p in hull.root.glob(f"**/{identifier}") if p.is_dir()]
    assert folders
    for path in folders[0].glob("*.json"):
        path.write_text("{ broken")
    assert hull.hull("ps", "-a", check=False).returncode == 0
    hull.hull("system", "check", "--repair", check=False)
    hull.hull("rm", "-f", identifier, check=False)
    assert identifier[:12] not in hull.hull("ps", "-a").stdout
    assert json.loads(hull.hull("info", "--format", "{{json .}}").stdout)
