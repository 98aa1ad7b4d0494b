"""cp, diff, export, commit, rename, update: on running and stopped workloads, with Docker's rules, and against hostile ones."""

import io
import json
import os
import pathlib
import subprocess
import tarfile
import time

import pytest


@pytest.fixture(params=["running", "stopped"])
def box(request, hull):
    """A workload that has /work/{one,sub/two,link}, running or stopped."""
    name = f"box-{request.param}"
    hull.hull("run", "-d", "--name", name, "--network", "none", "-v", "boxes:/vol", "test", "sh", "-c",
              "mkdir -p /work/sub; echo one > /work/one; echo two > /work/sub/two; ln -s sub /work/link; chmod 640 /work/one;"
              "chown 33:44 /work/one; echo volume > /vol/in; echo ready; exec sleep 1000")
    deadline = time.monotonic() + 10
    while "ready" not in hull.hull("logs", name).stdout and time.monotonic() < deadline:
        time.sleep(0.02)
    if request.param == "stopped":
        hull.hull("stop", "-t", "0", name)
    yield name
    hull.hull("rm", "-f", "-v", name, check=False)
    hull.hull("volume", "rm", "-f", "boxes", check=False)


def inside(hull, box, path):
    """What a file of the workload holds, in its own words."""
    with tarfile.open(fileobj=io.BytesIO(hull.hull("cp", f"{box}:{path}", "-", text=False).stdout)) as archive:
        return archive.extractfile(archive.getmembers()[0]).read().decode()


def refused(hull, *words, said, **more):
    done = hull.hull(*words, check=False, **more)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert said in done.stderr, done.stderr


def test_out_of_a_workload(hull, box, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    hull.hull("cp", f"{box}:/work/one", str(tmp_path / "file"))  # a new name
    assert (tmp_path / "file").read_text() == "one\n"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640 and (tmp_path / "file").stat().st_uid == os.geteuid()
    hull.hull("cp", "-a", f"{box}:/work/one", str(there))  # into a folder
    assert ((there / "one").stat().st_uid, (there / "one").stat().st_gid) == (33, 44)
    hull.hull("cp", f"{box}:work", str(there))  # a folder into a folder; relative to the root
    assert (there / "work/sub/two").read_text() == "two\n" and os.readlink(there / "work/link") == "sub"
    hull.hull("cp", f"{box}:/work/.", str(there))  # what is in it
    assert (there / "sub/two").exists()
    hull.hull("cp", f"{box}:/work", str(tmp_path / "renamed"))  # a folder that is not there yet
    assert (tmp_path / "renamed/one").exists() and not (tmp_path / "renamed/work").exists()
    hull.hull("cp", f"{box}:/work/.", str(tmp_path / "again"))
    assert (tmp_path / "again/sub/two").exists()
    hull.hull("cp", f"{box}:/work/link", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "sub"
    hull.hull("cp", "-L", f"{box}:/work/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed/two").exists()
    (tmp_path / "empty").mkdir()
    hull.hull("cp", "-L", f"{box}:/work/link", str(tmp_path / "empty"))
    assert (tmp_path / "empty/link/two").exists()
    hull.hull("cp", f"{box}:/vol/in", str(tmp_path / "file"))  # over a file, out of a volume
    assert (tmp_path / "file").read_text() == "volume\n"


def test_refusals_out(hull, box, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(hull, "cp", f"{box}:/nothing", str(tmp_path), said="Could not find the file /nothing in container")
    refused(hull, "cp", f"{box}:/work", str(tmp_path / "file"), said="cannot copy directory")
    refused(hull, "cp", f"{box}:/work/one", str(tmp_path / "none") + "/", said="no such directory")
    refused(hull, "cp", f"{box}:/work/one", str(tmp_path / "no/such"), said="does not exist")
    refused(hull, "cp", "nobody:/x", str(tmp_path), said="No such container: nobody")
    refused(hull, "cp", f"{box}:/x", f"{box}:/y", said="copying between containers is not supported")
    refused(hull, "cp", "./x", "./y", said="must specify at least one container source")


def test_into_a_workload(hull, box, tmp_path):
    (tmp_path / "conf/deep").mkdir(parents=True)
    (tmp_path / "conf/deep/a").write_text("a\n")
    os.symlink("deep/a", tmp_path / "conf/link")
    (tmp_path / "conf/deep/a").chmod(0o600)
    os.chown(tmp_path / "conf/deep/a", 5, 6)
    (tmp_path / "file").write_text("file\n")
    hull.hull("cp", str(tmp_path / "file"), f"{box}:/work/new")
    assert inside(hull, box, "/work/new") == "file\n"
    hull.hull("cp", str(tmp_path / "file"), f"{box}:/work")
    assert inside(hull, box, "/work/file") == "file\n"
    hull.hull("cp", str(tmp_path / "conf"), f"{box}:/work")
    assert inside(hull, box, "/work/conf/deep/a") == "a\n"
    hull.hull("cp", str(tmp_path / "conf") + "/.", f"{box}:/work/sub")
    assert inside(hull, box, "/work/sub/deep/a") == "a\n" and inside(hull, box, "/work/sub/two") == "two\n"
    hull.hull("cp", str(tmp_path / "conf"), f"{box}:/work/other")
    assert inside(hull, box, "/work/other/deep/a") == "a\n"
    hull.hull("cp", str(tmp_path / "file"), f"{box}:/work/link")  # through the link, which is a folder
    assert inside(hull, box, "/work/sub/file") == "file\n"
    hull.hull("cp", "-L", str(tmp_path / "conf/link"), f"{box}:/work/real")
    assert inside(hull, box, "/work/real") == "a\n"
    hull.hull("cp", str(tmp_path / "file"), f"{box}:/vol/put")
    volume = hull.hull("volume", "inspect", "boxes", "--format", "{{.Mountpoint}}").stdout.strip()
    assert pathlib.Path(volume, "put").read_text() == "file\n"
    # Owners: as they are, or with -a the workload's user.
    owners = {}
    hull.hull("cp", "-a", str(tmp_path / "conf"), f"{box}:/work/owned")
    for folder in ("other", "owned"):
        data = hull.hull("cp", f"{box}:/work/{folder}", "-", text=False).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            owners[folder] = {m.uid for m in archive.getmembers() if m.name.endswith("deep/a")}
    assert owners == {"other": {5}, "owned": {0}}


def test_refusals_in(hull, box, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    refused(hull, "cp", str(tmp_path / "file"), f"{box}:/no/such/folder", said="Could not find the file /no/such")
    refused(hull, "cp", str(tmp_path / "file"), f"{box}:/none/", said="no such directory")
    refused(hull, "cp", str(tmp_path / "folder"), f"{box}:/work/one", said="cannot copy directory")
    refused(hull, "cp", str(tmp_path / "nothing"), f"{box}:/", said="No such file or directory")
    refused(hull, "cp", str(tmp_path / "file") + "/", f"{box}:/", said="ot a directory")
    refused(hull, "cp", "-", f"{box}:/work/one", said="must be a directory", input="")
    (tmp_path / "sub").write_text("a file where a folder is")
    refused(hull, "cp", str(tmp_path / "sub"), f"{box}:/work", said="cannot overwrite directory")


def test_archives_on_standard_streams(hull, box, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_text("b\n")
    packed = subprocess.run(["tar", "-C", str(tmp_path), "-c", "a"], capture_output=True, check=True).stdout
    hull.hull("cp", "-", f"{box}:/work", input=packed, text=False)
    assert inside(hull, box, "/work/a/b") == "b\n"
    out = hull.hull("cp", f"{box}:/work", "-", text=False).stdout
    listed = subprocess.run(["tar", "-t"], input=out, capture_output=True, check=True).stdout.decode().split()
    assert {"work/", "work/one", "work/sub/two", "work/link", "work/a/b"} <= set(listed)
    for compressor in ("gzip", "xz", "zstd"):
        (tmp_path / "a/b").write_text(compressor + "\n")
        small = subprocess.run(["tar", "-C", str(tmp_path), f"--{compressor}", "-c", "a"], capture_output=True, check=True).stdout
        hull.hull("cp", "-", f"{box}:/work", input=small, text=False)
        assert inside(hull, box, "/work/a/b") == compressor + "\n"
        done = hull.hull("cp", "-", f"{box}:/work", input=small[:-10], text=False, check=False)
        assert done.returncode == 1, f"{compressor}, cut off"
    done = hull.hull("cp", "-", f"{box}:/work", input=b"no archive at all" * 100, text=False, check=False)
    assert done.returncode == 1


def archive_with(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, link, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_hostile_archives_stay_inside(hull, box, tmp_path):
    """What an archive names by "..", absolute paths and links lands in the workload or nowhere."""
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    up = archive_with(("../../../../../../" + str(secret), tarfile.REGTYPE, "", b"gone"))
    done = hull.hull("cp", "-", f"{box}:/work", input=up, text=False, check=False)
    assert done.returncode == 1 and b"leads out" in done.stderr
    through = archive_with(("way", tarfile.SYMTYPE, str(tmp_path), b""), ("way/secret", tarfile.REGTYPE, "", b"gone"))
    hull.hull("cp", "-", f"{box}:/work", input=through, text=False, check=False)
    hard = archive_with(("hard", tarfile.LNKTYPE, str(secret), b""), ("hard", tarfile.REGTYPE, "", b"gone"))
    hull.hull("cp", "-", f"{box}:/work", input=hard, text=False, check=False)
    assert secret.read_text() == "untouched"


def test_a_hostile_workload_does_not_reach_the_host(hull, tmp_path):
    """Links and device nodes that a workload made do nothing on this machine."""
    hull.hull("run", "--name", "traps", "--network", "none", "test", "sh", "-c",
              "mkdir -p /out/d; ln -s /etc/hostname /out/abs; ln -s ../../../../../../etc /out/up; ln -s / /root-link;"
              f"ln -s {tmp_path} /out/victim; cp /bin/busybox /out/suid; chmod 4755 /out/suid")
    target = tmp_path / "target"
    target.mkdir()
    hull.hull("cp", "traps:/out/.", str(target))
    assert os.path.islink(target / "abs") and not (target / "suid").stat().st_mode & 0o4000
    # A name on this machine that is a link is replaced, not followed.
    (tmp_path / "precious").mkdir()
    os.symlink(tmp_path / "precious", target / "d2")
    hull.hull("cp", "traps:/out/d", str(tmp_path / "precious"))
    # In-root: the link to / is the workload's /.
    shown = hull.hull("cp", "traps:/root-link/etc/passwd", "-", text=False).stdout
    assert b"root:" in shown and shown != pathlib.Path("/etc/passwd").read_bytes()
    assert tarfile.open(fileobj=io.BytesIO(shown)).getmembers()[0].size != pathlib.Path("/etc/passwd").stat().st_size
    hull.hull("rm", "traps")
    hull.hull("run", "--name", "node", "--network", "none", "test", "sh", "-c", "mkdir /n; mknod /n/disk b 8 0; mkfifo /n/pipe; chmod 666 /n/disk")
    done = hull.hull("cp", "node:/n", str(tmp_path / "n"), check=False)
    assert done.returncode == 1 and "device node" in done.stderr
    assert not (tmp_path / "n/disk").exists()
    hull.hull("rm", "node")


@pytest.mark.parametrize("direction", ["in", "out"])
def test_copy_races(hull, tmp_path, direction):
    """A running workload swaps folders for links to the host's paths while it is copied (CVE-2018-15664 and its like)."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "secret").write_text("the host's secret")
    # The same path inside is a folder and a link by turns; the link's target exists on the host only.
    hull.hull("run", "-d", "--name", f"racer-{direction}", "--network", "none", "test", "sh", "-c",
              f"mkdir -p /race/real /race/spare; echo mine > /race/real/secret; ln -s {host} /race/evil; cd /race; echo up;"
              "while :; do mv real was; mv evil real; mv real evil; mv was real; done")
    try:
        for turn in range(40):
            if direction == "out":
                out = tmp_path / f"out{turn}"
                hull.hull("cp", f"racer-{direction}:/race/real/secret", str(out), check=False)
                assert not out.exists() or "host" not in out.read_text()
                stream = hull.hull("cp", f"racer-{direction}:/race", "-", check=False, text=False).stdout
                assert b"the host's secret" not in stream
            else:
                done = archive_with((f"real/planted{turn}", tarfile.REGTYPE, "", b"x" * 1000))
                hull.hull("cp", "-", f"racer-{direction}:/race", input=done, text=False, check=False)
                (tmp_path / "secret").write_text("planted")
                hull.hull("cp", str(tmp_path / "secret"), f"racer-{direction}:/race/real/secret", check=False)
                assert sorted(p.name for p in host.iterdir()) == ["secret"]
                assert (host / "secret").read_text() == "the host's secret"
    finally:
        hull.hull("rm", "-f", f"racer-{direction}")


def test_nothing_is_left_mounted(hull, box):
    hull.hull("cp", f"{box}:/work", "-", text=False)
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    assert str(hull.run_folder / "empty") not in mounts
    if box.endswith("stopped"):
        hull.hull("start", box)  # the lock is free again
        assert hull.hull("exec", box, "cat", "/work/one").stdout == "one\n"


def test_diff(hull):
    hull.hull("run", "--name", "changer", "--network", "none", "test", "sh", "-c",
              "echo x > /new; mkdir /folder; echo y > /folder/f; rm /etc/group; echo z >> /etc/passwd; mkdir -p /tmp/t; rm -r /tmp/t;"
              "rm -rf /root; mkdir /root", check=False)
    lines = set(hull.hull("diff", "changer").stdout.splitlines())
    assert {"A /new", "A /folder", "A /folder/f", "D /etc/group", "C /etc/passwd", "C /etc"} <= lines
    assert not any(line.endswith(("/proc", "/dev", "/sys", "/etc/hosts", "/etc/resolv.conf", "/tmp/t")) for line in lines)
    hull.hull("create", "--name", "untouched", "--network", "none", "test", "true")
    assert hull.hull("diff", "untouched").stdout == ""
    hull.hull("start", "-a", "untouched")
    assert hull.hull("diff", "untouched").stdout == ""
    hull.hull("rm", "changer", "untouched")
    refused(hull, "diff", "changer", said="No such container")


def test_export_and_import(hull, box, tmp_path):
    hull.hull("export", "-o", str(tmp_path / "all.tar"), box)
    with tarfile.open(tmp_path / "all.tar") as archive:
        names = archive.getnames()
        assert "work/one" in names and "bin/sh" in names and "vol" in names
        assert not any(name.startswith(("vol/", "proc/", "sys/", "dev/null")) for name in names)
        assert archive.getmember("work/one").uid == 33
    piped = subprocess.run(f"{' '.join(hull.command('export', box))} | {' '.join(hull.command('import', '-', 'flat:1'))}",
                           shell=True, env=hull.environment, capture_output=True, text=True)
    assert piped.returncode == 0, piped.stderr
    assert hull.hull("run", "--rm", "--network", "none", "flat:1", "cat", "/work/sub/two").stdout == "two\n"
    hull.hull("rmi", "flat:1")


def test_commit(hull, box):
    parent = json.loads(hull.hull("image", "inspect", "test").stdout)[0]
    identifier = hull.hull("commit", "-m", "with work", "-a", "Ada <ada@example.org>", "-c", 'CMD ["cat", "/work/one"]', "-c",
                           "ENV MODE=live", "-c", "LABEL tier=front", box, "made:1").stdout.strip()
    image = json.loads(hull.hull("image", "inspect", "made:1").stdout)[0]
    assert image["Id"] == identifier and image["Author"] == "Ada <ada@example.org>"
    assert image["RootFS"]["Layers"][:-1] == parent["RootFS"]["Layers"]
    assert image["Config"]["Labels"]["tier"] == "front" and "MODE=live" in image["Config"]["Env"]
    assert hull.hull("run", "--rm", "--network", "none", "made:1").stdout == "one\n"
    assert hull.hull("run", "--rm", "--network", "none", "made:1", "stat", "-c", "%u:%g %a", "/work/one").stdout == "33:44 640\n"
    assert hull.hull("run", "--rm", "--network", "none", "made:1", "ls", "/vol").stdout == ""
    assert "with work" in hull.hull("history", "made:1").stdout
    # It goes on running.
    status = hull.hull("inspect", box, "--format", "{{.State.Status}}").stdout.strip()
    assert status == ("running" if box.endswith("running") else "exited")
    hull.hull("rmi", "made:1")


def test_commit_keeps_deletions_and_nests(hull):
    hull.hull("run", "--name", "less", "--network", "none", "test", "sh", "-c", "rm /etc/group; echo more > /more")
    unnamed = hull.hull("commit", "less").stdout.strip()
    assert hull.hull("run", "--rm", "--network", "none", unnamed, "sh", "-c", "test -e /etc/group || cat /more").stdout == "more\n"
    hull.hull("tag", unnamed, "less:1")
    hull.hull("run", "--name", "lesser", "--network", "none", "less:1", "rm", "/more")
    hull.hull("commit", "lesser", "less:2")
    assert hull.hull("run", "--rm", "--network", "none", "less:2", "sh", "-c", "ls /more || echo gone").stdout == "gone\n"
    hull.hull("rm", "less", "lesser")
    refused(hull, "commit", "-c", "FROM nothing", "less", said="No such container")
    hull.hull("create", "--name", "less", "--network", "none", "test", "true")
    refused(hull, "commit", "-c", "FROM nothing", "less", said="FROM")
    refused(hull, "commit", "less", "UPPER/Case", said="lower case")
    hull.hull("rm", "less")
    hull.hull("rmi", "less:2", "less:1")


def test_commit_can_be_pushed(hull, make_registry):
    server = make_registry(netns=hull.netns)
    hull.hull("run", "--name", "pushable", "--network", "none", "test", "sh", "-c", "echo pushed > /pushed")
    name = f"{server.host}/team/made:1"
    hull.hull("commit", "pushable", name)
    hull.hull("push", name)
    hull.hull("rm", "pushable")
    hull.hull("rmi", name)
    hull.hull("pull", name)
    assert hull.hull("run", "--rm", "--network", "none", name, "cat", "/pushed").stdout == "pushed\n"
    hull.hull("rmi", name)


def test_rename(hull):
    hull.hull("create", "--name", "before", "--network", "none", "test", "true")
    hull.hull("create", "--name", "taken", "--network", "none", "test", "true")
    hull.hull("rename", "before", "after")
    assert hull.hull("inspect", "after", "--format", "{{.Name}}").stdout.strip() == "/after"
    refused(hull, "inspect", "before", said="before")
    refused(hull, "rename", "after", "taken", said="is already in use by container")
    refused(hull, "rename", "after", "after", said="same name")
    refused(hull, "rename", "after", "bad/name", said="Invalid container name")
    refused(hull, "rename", "nobody", "x", said="No such container")
    hull.hull("create", "--name", "before", "--network", "none", "test", "true")
    hull.hull("rm", "before", "after", "taken")


def limit_of(hull, name, path_v1, path_v2):
    for folder in hull.cgroups():
        for path in (path_v1, path_v2):
            file = pathlib.Path(folder, path)
            if file.exists() and name in folder:
                return file.read_text().strip()
    return None


def test_update(hull):
    identifier = hull.hull("run", "-d", "--name", "grown", "--memory", "64m", "--network", "none", "test", "sleep", "1000").stdout.strip()
    hull.hull("update", "--memory", "96m", "--memory-swap", "200m", "--pids-limit", "50", "--cpus", "0.5", "grown")
    document = json.loads(hull.hull("inspect", "grown").stdout)[0]["HostConfig"]
    assert document["Memory"] == 96 << 20 and document["PidsLimit"] == 50 and document["NanoCpus"] == 500_000_000
    assert limit_of(hull, identifier, "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    assert limit_of(hull, identifier, "pids.max", "pids.max") == "50"
    hull.hull("update", "--pids-limit", "-1", "grown")
    assert limit_of(hull, identifier, "pids.max", "pids.max") == "max"
    refused(hull, "update", "--memory", "1g", "grown", said="update the memoryswap at the same time")
    refused(hull, "update", "--cpu-quota", "50000", "grown", said="NanoCPUs has already been set")
    refused(hull, "update", "--memory", "1k", "--memory-swap", "2k", "grown", said="memory")
    done = hull.hull("update", "grown", check=False)
    assert done.returncode == 1 and "one or more flags" in done.stderr
    hull.hull("stop", "-t", "0", "grown")
    hull.hull("update", "--memory", "80m", "grown")  # for the next start
    hull.hull("start", "grown")
    assert limit_of(hull, identifier, "memory.limit_in_bytes", "memory.max") == str(80 << 20)
    hull.hull("rm", "-f", "grown")
    refused(hull, "update", "--memory", "80m", "grown", said="No such container")
