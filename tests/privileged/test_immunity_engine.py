"""Known attacks on container engines through images, flags and running containers, played against hull."""

import os
import stat
import subprocess

import pytest
from support import bundle as bundles

layout = bundles.layout
SECRET = "a secret of the host\n"


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    yield folder
    assert sorted(os.listdir(folder)) == ["secret"] and (folder / "secret").read_text() == SECRET


@pytest.fixture
def load(instance, tmp_path):
    """load(entries, config): an image of busybox with more files in a layer on top; returns its name."""
    count = 0

    def make(entries=(), config=None):
        nonlocal count
        count += 1
        folder, name = tmp_path / f"layout{count}", f"evil{count}:latest"
        bundles.busybox_image(folder, name=name, config=config, layers=[layout.make_tar(list(entries))])
        archive = tmp_path / f"evil{count}.tar"
        subprocess.run(["skopeo", "copy", "-q", "--insecure-policy", f"oci:{folder}:{name}", f"oci-archive:{archive}:{name}"],
                       check=True)
        instance.hull("load", "-i", archive)
        return name

    return make


def run(instance, *arguments, **more):
    return instance.hull("run", "--rm", "--network", "none", *arguments, **more)


def entries_below(path):
    for folder, folders, files in os.walk(path):
        yield from (os.path.join(folder, name) for name in folders + files)


def test_state_is_private(instance, load):
    """2021-41091, 2021-41103, 2024-25621: state folders that other users of the host can enter."""
    name = load()
    instance.hull("run", "-d", "--network", "none", name, "sleep", "100")
    for folder in (instance.root, instance.run_folder):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder


def test_no_abstract_sockets(instance, load):
    """containerd 2020-15257: abstract sockets can be reached from a container on the host's network."""
    name = load()
    instance.hull("run", "-d", "--network", "host", name, "sleep", "100")
    sockets = instance.in_netns(["cat", "/proc/net/unix"]).stdout
    assert not [line for line in sockets.splitlines() if " @" in line]


@pytest.mark.parametrize("command", ["run", "exec"])
def test_no_inheritable_capabilities(instance, load, command):
    name = load()
    if command == "run":
        done = run(instance, name, "grep", "CapInh", "/proc/self/status")
    else:
        identifier = instance.hull("run", "-d", "--network", "none", name, "sleep", "100").stdout.strip()
        done = instance.hull("exec", identifier, "grep", "CapInh", "/proc/self/status")
    assert done.stdout.split()[1] == "0000000000000000"


def test_cgroups_cannot_be_written(instance, load):
    """2023-25809: a cgroup file system that a container can write to."""
    done = run(instance, load(), "sh", "-c", "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/made 2>/dev/null && "
               "echo made $d; done; echo end")
    assert done.stdout == "end\n"


@pytest.mark.parametrize("user", ["4294967296", "-1", "1:4294967296", "99999999999999999999", "0x0", "1:-1"])
def test_user_numbers_are_strict(instance, load, user):
    """containerd 2024-40635, 2026-46680: a number that overflows becomes root."""
    done = run(instance, "-u", user, load(), "id", "-u", check=False)
    assert done.returncode != 0 and done.stdout == ""


@pytest.mark.parametrize("line", ["evil:x:4294967296:0::/:/bin/sh", "evil:x:-1:0::/:/bin/sh", "evil:x::0::/:/bin/sh",
                                  "evil:x:18446744073709551616:0::/:/bin/sh"])
def test_passwd_numbers_are_strict(instance, load, line):
    name = load([layout.folder("etc"), layout.regular("etc/passwd", line + "\n")])
    done = run(instance, "-u", "evil", name, "id", "-u", check=False)
    assert done.returncode != 0 and done.stdout == ""


@pytest.mark.parametrize("file", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize("kind", ["link to the host", "fifo", "device", "folder", "huge"])
def test_account_files_are_regular_and_small(instance, load, tmp_path, file, kind):
    """podman 2026-55686 and others: account files that lead out of the root, block, or never end."""
    host = tmp_path / "host-accounts"
    host.write_text("evil:x:0:0::/:/bin/sh\n")
    bad = {
        "link to the host": layout.link(file, f"../../../../../../..{host}"),
        "fifo": {"name": file, "type": b"6", "mode": 0o644},
        "device": {"name": file, "type": b"3", "mode": 0o644, "devmajor": 1, "devminor": 5},
        "folder": layout.folder(file),
        "huge": layout.regular(file, b"a:x:1:1::/:\n" * (4 << 20)),
    }[kind]
    name = load([layout.folder("etc"), bad])
    user = "evil" if file == "etc/passwd" else "0:evil"
    done = run(instance, "-u", user, name, "id", "-u", check=False, timeout=30)
    assert done.returncode != 0 and done.stdout == "" and done.stderr


@pytest.mark.parametrize("link", ["{outside}/made", "../../../../../../../..{outside}/made", "/proc/self/cwd/../../..{outside}/made"])
def test_working_directory_is_made_inside(instance, load, outside, link):
    """2022-23648, buildah 2024-9676: WORKDIR behind a link is made on the host."""
    name = load([layout.link("work", link.format(outside=outside))], {"WorkingDir": "/work/deep"})
    run(instance, name, "true", check=False)
    run(instance, "-w", "/work/other", name, "true", check=False)


@pytest.mark.parametrize("link", ["{outside}", "../../../../../../../../..{outside}"])
def test_volume_is_not_filled_from_the_host(instance, load, outside, link):
    """containerd 2022-23648: the image's volume path is a link, and the volume is filled from the host."""
    name = load([layout.link("data", link.format(outside=outside))], {"Volumes": {"/data": {}, "/data/../data": {}}})
    for options in ([], ["-v", "named:/data"]):
        done = run(instance, *options, name, "sh", "-c", "cat /data/secret /data/*/secret", check=False)
        assert SECRET.strip() not in done.stdout
    volumes = [path for path in entries_below(instance.root) if path.endswith("/secret")]
    assert not volumes, "the host's file was copied into a volume"


@pytest.mark.parametrize("target", ["etc/hosts", "etc/resolv.conf", "etc/hostname"])
def test_engine_files_are_not_written_through_links(instance, load, outside, target):
    name = load([layout.folder("etc"), layout.link(target, f"../../../../../..{outside}/secret")])
    run(instance, name, "true", check=False)


def test_layers_cannot_write_outside(instance, load, outside):
    """2021-32760, 2025-47290, umoci 2021-29136: archive entries with '..', absolute names, links as parents."""
    hostile = [
        layout.regular(f"../../../../../../..{outside}/one", "x"),
        layout.regular(f"{outside}/two", "x"),
        layout.link("up", f"../../../../../../../../..{outside}"),
        layout.regular("up/three", "x"),
        {"name": "hard", "type": b"1", "mode": 0o644, "linkname": f"../../../../../..{outside}/secret"},
        {"name": "hard2", "type": b"1", "mode": 0o644, "linkname": "up/secret"},
    ]
    for entry in hostile:
        try:
            name = load([layout.link("up", str(outside)), entry])
        except AssertionError as refused:
            assert "Traceback" not in str(refused)
            continue
        done = run(instance, name, "sh", "-c", "cat /hard /hard2 /up/secret 2>/dev/null", check=False)
        assert SECRET.strip() not in done.stdout


def test_masked_and_fixed_paths(instance, load):
    done = run(instance, load(), "sh", "-c",
               "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l; "
               "for f in /proc/sys/kernel/sysrq /proc/sysrq-trigger /proc/irq/default_smp_affinity; do "
               "  echo 1 > $f 2>/dev/null && echo wrote $f; done; echo end")
    assert done.stdout.split() == ["0", "0", "end"]


def test_descriptors_of_the_engine_stay_outside(instance, load):
    """2024-21626: what the workload and an exec see of the descriptors around them."""
    name = load()
    listing = ["sh", "-c", "for f in /proc/self/fd/*; do echo ${f##*/}; done"]
    identifier = instance.hull("run", "-d", "--network", "none", name, "sleep", "100").stdout.strip()
    for done in (run(instance, name, *listing), instance.hull("exec", identifier, *listing)):
        assert set(done.stdout.split()) <= {"0", "1", "2", "3"}, done.stdout


def test_labels_and_annotations_are_never_executed(instance, load, tmp_path):
    """2026-53488: labels of an image that an engine takes for orders."""
    marker = tmp_path / "executed"
    name = load(config={"Labels": {
        "io.containerd.log-uri": f"binary:///bin/touch?{marker}", "run.oci.hooks.stdout": str(marker),
        "org.opencontainers.image.stopSignal": f"$(touch {marker})", "run.oci.handler": "krun",
        "io.kubernetes.cri.container-type": "sandbox", "hull.log": f"|touch {marker}"}})
    run(instance, name, "true")
    assert not marker.exists()


def test_published_ports_stand_in_a_table_of_our_own(instance, load):
    """2025-54388, 54410: rules lost when a firewall reloads others'. Other tables come and go without ours."""
    name = load()
    instance.hull("run", "-d", "-p", "127.0.0.1:8099:80", name, "sh", "-c",
                  "mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www")
    fetch = ["curl", "-s", "--noproxy", "*", "--retry", "30", "--retry-connrefused", "--retry-delay", "0",
             "--retry-max-time", "10", "http://127.0.0.1:8099/"]
    assert instance.in_netns(fetch).stdout == "page\n"
    tables = instance.in_netns(["nft", "list", "tables"]).stdout
    assert all("hull" in line for line in tables.splitlines()), tables
    instance.in_netns(["nft", "flush ruleset"])
    assert instance.in_netns(fetch).stdout == "page\n", "a flush of everything takes our rules with it"
    assert instance.hull("run", "--rm", "-p", "127.0.0.1:8098:80", name, "true").returncode == 0
    assert instance.in_netns(fetch).stdout == "page\n", "the ports of running workloads are not put back"
