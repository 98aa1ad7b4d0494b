"""Docker's flags of `run`, each seen from inside the container."""

import json
import os
import pathlib
import subprocess

import pytest


def run(hull, *arguments, command=("true",), network="none", **more):
    return hull.hull("run", "--rm", "--network", network, *arguments, "test", *command, **more)


def shell(hull, script, *arguments, **more):
    return run(hull, *arguments, command=("sh", "-c", script), **more).stdout.strip()


# Exit codes and streams

def test_exit_code_is_the_programs(hull):
    assert run(hull, command=("sh", "-c", "exit 37"), check=False).returncode == 37


def test_exit_code_of_a_signal(hull):
    # The kernel ignores a signal that the first process of a pid namespace sends itself; --init makes it another one.
    assert run(hull, "--init", command=("sh", "-c", "kill -9 $$"), check=False).returncode == 137


def test_exit_127_when_the_program_is_missing(hull):
    done = run(hull, command=("no-such-program",), check=False)
    assert done.returncode == 127 and "no-such-program" in done.stderr


def test_exit_126_when_it_cannot_be_executed(hull):
    done = run(hull, command=("/etc/passwd",), check=False)
    assert done.returncode == 126 and "/etc/passwd" in done.stderr


@pytest.mark.parametrize("arguments", [
    ["--no-such-flag"], ["--memory", "lots"], ["--network", "no-such-network"], ["--cap-add", "CAP_NOPE"],
    ["-v", "relative/path/../x:/x:bad"], ["-p", "99999:80"], ["--ulimit", "nofile"], ["--user", "no-such-user"],
    ["--isolation", "moon"], ["--mount", "type=bind,source=/no/such/folder,target=/x"], ["--workdir", "relative"],
    ["--security-opt", "seccomp=/no/such/file"], ["--device", "/dev/no-such-device"], ["--cpus", "-1"],
    ["--pids-limit", "x"], ["--sysctl", "kernel.panic=1"], ["--shm-size", "-5"], ["--stop-signal", "SIGNOPE"],
    ["--env-file", "/no/such/file"], ["--restart", "sometimes"],
])
def test_exit_125_and_a_clear_error(hull, arguments):
    done = hull.hull("run", "--rm", "--network", "none", *arguments, "test", "true", check=False)
    assert done.returncode == 125, (done.returncode, done.stderr)
    assert done.stderr.startswith("hull: ") and len(done.stderr.strip()) > 20
    assert hull.hull("ps", "-aq").stdout == ""


def test_exit_125_when_the_image_is_missing_and_pull_is_never(hull):
    done = hull.hull("run", "--pull", "never", "no-such-image", check=False)
    assert done.returncode == 125 and "no-such-image" in done.stderr


def test_streams_stay_apart(hull):
    done = run(hull, command=("sh", "-c", "echo out; echo err >&2"))
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_stdin_reaches_the_program(hull):
    assert run(hull, "-i", command=("cat",), input="one\ntwo\n").stdout == "one\ntwo\n"


def test_without_i_stdin_is_empty(hull):
    assert run(hull, command=("cat",), input="not for you").stdout == ""


def test_large_output_arrives_whole(hull):
    done = run(hull, command=("sh", "-c", "dd if=/dev/zero bs=64k count=160 2>/dev/null"), text=False)
    assert len(done.stdout) == 160 * 65536


def test_large_input_arrives_whole(hull):
    done = run(hull, "-i", command=("wc", "-c"), input=b"x" * 5_000_000, text=False)
    assert done.stdout.strip() == b"5000000"


# What runs

def test_entrypoint(hull):
    assert run(hull, "--entrypoint", "echo", command=("a", "b")).stdout == "a b\n"


def test_env_and_env_file(hull, tmp_path):
    (tmp_path / "env").write_text("# comment\nFROM_FILE=1\nBOTH=file\nPASSED\n")
    script = 'echo "$A|$FROM_FILE|$BOTH|$PASSED|$HOME|$HOSTNAME"'
    out = shell(hull, script, "-e", "A=x y", "--env-file", tmp_path / "env", "-e", "BOTH=flag", "--hostname", "box",
                environment={"PASSED": "through"})
    assert out == "x y|1|flag|through|/root|box"


def test_workdir_is_made(hull):
    assert shell(hull, "pwd", "-w", "/a/new/folder") == "/a/new/folder"


@pytest.mark.parametrize("user,wanted", [
    ("alice", "1000:1001:1001 50"), ("1000", "1000:1001:1001 50"), ("1234", "1234:0:0"), ("1234:44", "1234:44:44"),
    ("alice:video", "1000:44:44"),
])
def test_user(hull, user, wanted):
    assert shell(hull, "echo $(id -u):$(id -g):$(id -G)", "-u", user) == wanted


def test_group_add(hull):
    groups = shell(hull, "id -G", "--group-add", "video", "--group-add", "777").split()
    assert {"44", "777"} <= set(groups)


def test_home_of_the_user(hull):
    assert shell(hull, "echo $HOME", "-u", "alice") == "/home/alice"


def test_hostname_and_domainname(hull):
    assert shell(hull, "hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname", "--hostname", "box",
                 "--domainname", "example.org").split() == ["box", "box", "example.org"]


def test_default_hostname_is_the_short_id(hull, tmp_path):
    out = shell(hull, "hostname", "--cidfile", tmp_path / "cid")
    identifier = (tmp_path / "cid").read_text().strip()
    assert len(identifier) == 64 and out == identifier[:12]


def test_init_reaps_and_forwards(hull):
    assert shell(hull, "cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$", "--init").splitlines()[-1] != "1"


def test_name_is_taken_once(hull):
    hull.hull("create", "--name", "taken", "test")
    done = hull.hull("create", "--name", "taken", "test", check=False)
    assert done.returncode != 0 and "taken" in done.stderr
    hull.hull("rm", "taken")


# Files

def test_bind_mount(hull, tmp_path):
    (tmp_path / "file").write_text("hello\n")
    assert shell(hull, "cat /m/file; echo new > /m/made", "-v", f"{tmp_path}:/m") == "hello"
    assert (tmp_path / "made").read_text() == "new\n"


def test_bind_mount_read_only(hull, tmp_path):
    done = run(hull, "-v", f"{tmp_path}:/m:ro", command=("touch", "/m/x"), check=False)
    assert done.returncode != 0 and "Read-only" in done.stderr


def test_bind_mount_of_a_file(hull, tmp_path):
    (tmp_path / "file").write_text("one file\n")
    assert shell(hull, "cat /etc/motd", "-v", f"{tmp_path}/file:/etc/motd:ro") == "one file"


def test_volume_makes_a_missing_host_folder(hull, tmp_path):
    run(hull, "-v", f"{tmp_path}/fresh:/m")
    assert (tmp_path / "fresh").is_dir()


def test_named_volume_is_filled_from_the_image_and_kept(hull):
    assert shell(hull, "cat /data/seed; echo more > /data/more", "-v", "seeded:/data") == "from the image"
    assert shell(hull, "cat /data/seed /data/more", "-v", "seeded:/data") == "from the image\nmore"
    hull.hull("volume", "rm", "seeded")


def test_volume_nocopy(hull):
    assert shell(hull, "ls /data", "--mount", "type=volume,source=empty,target=/data,volume-nocopy") == ""
    hull.hull("volume", "rm", "empty")


def test_anonymous_volume_goes_with_rm(hull):
    before = hull.hull("volume", "ls", "-q").stdout
    run(hull, "-v", "/data")
    assert hull.hull("volume", "ls", "-q").stdout == before


def test_mount_bind_and_tmpfs(hull, tmp_path):
    (tmp_path / "f").write_text("x")
    out = shell(hull, "cat /b/f; grep ' /t ' /proc/mounts", "--mount", f"type=bind,source={tmp_path},target=/b,readonly",
                "--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770")
    assert out.startswith("x") and "size=1024k" in out and "mode=1770" in out


def test_tmpfs(hull):
    out = shell(hull, "grep ' /t ' /proc/mounts", "--tmpfs", "/t:size=64k,mode=700")
    assert "size=64k" in out and "noexec" in out and "nosuid" in out


def test_read_only_root(hull):
    done = run(hull, "--read-only", "--tmpfs", "/tmp", command=("sh", "-c", "touch /tmp/ok && touch /x"), check=False)
    assert done.returncode != 0 and "Read-only" in done.stderr


def test_shm_size(hull):
    assert "size=1024k" in shell(hull, "grep ' /dev/shm ' /proc/mounts", "--shm-size", "1m")


def test_mount_propagation(hull, tmp_path):
    out = shell(hull, "grep ' /m ' /proc/self/mountinfo", "-v", f"{tmp_path}:/m:rslave")
    assert "shared:" not in out
    out = shell(hull, "cut -d' ' -f5- /proc/self/mountinfo | grep '^/m '", "--mount",
                f"type=bind,source={tmp_path},target=/m,bind-propagation=rprivate")
    assert "master:" not in out and "shared:" not in out


# Rights

CAPS = "awk '/^CapEff/{print $2}' /proc/self/status"


def test_default_capabilities_are_dockers(hull):
    assert int(shell(hull, CAPS), 16) == 0x00000000A80425FB


def test_capabilities_of_another_user_are_none(hull):
    assert int(shell(hull, CAPS, "-u", "alice"), 16) == 0


def test_cap_add_and_drop(hull):
    assert int(shell(hull, CAPS, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN"), 16) == 1 << 12
    assert int(shell(hull, CAPS, "--cap-drop", "chown"), 16) == 0xA80425FA


def test_no_inheritable_capabilities(hull):
    assert int(shell(hull, "awk '/^CapInh/{print $2}' /proc/self/status"), 16) == 0


def test_seccomp_is_on_and_can_be_switched_off(hull):
    script = "awk '/^Seccomp:/{print $2}' /proc/self/status"
    assert shell(hull, script) == "2"
    assert shell(hull, script, "--security-opt", "seccomp=unconfined") == "0"


def test_seccomp_profile_from_a_file(hull, tmp_path):
    profile = {"defaultAction": "SCMP_ACT_ALLOW",
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    done = run(hull, "--security-opt", f"seccomp={tmp_path}/profile.json", command=("mkdir", "/x"), check=False)
    assert done.returncode != 0 and "Function not implemented" in done.stderr


def test_unshare_is_refused_by_the_default_profile(hull):
    assert run(hull, command=("unshare", "-U", "true"), check=False).returncode != 0


def test_no_new_privileges(hull):
    script = "awk '/^NoNewPrivs/{print $2}' /proc/self/status"
    assert shell(hull, script) == "0"
    assert shell(hull, script, "--security-opt", "no-new-privileges") == "1"


def test_masked_and_read_only_paths(hull):
    assert shell(hull, "cat /proc/kcore | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | wc -w").split() [0] == "0"
    assert run(hull, command=("sh", "-c", "echo x > /proc/sys/kernel/domainname"), check=False).returncode != 0


def test_privileged(hull):
    assert shell(hull, "awk '/^Seccomp:/{print $2}' /proc/self/status; test -w /proc/sys/kernel/domainname && echo w;"
                       "ls /dev | wc -l", "--privileged").split()[:2] == ["0", "w"]


def test_device(hull):
    # /dev/fuse: always there, not among the devices that every container has.
    device = ("--device", "/dev/fuse:/dev/other:r")
    assert shell(hull, "ls -l /dev/other | cut -c1; : < /dev/other && echo opened", *device).split() == ["c", "opened"]
    assert run(hull, *device, command=("sh", "-c", ": > /dev/other"), check=False).returncode != 0


def test_devices_are_closed_by_default(hull):
    done = run(hull, command=("sh", "-c", "mknod /disk b 254 0 && head -c 1 /disk"), check=False)
    assert done.returncode != 0 and "not permitted" in done.stderr


def test_sysctl(hull):
    assert shell(hull, "cat /proc/sys/net/ipv4/ip_local_port_range", "--sysctl",
                 "net.ipv4.ip_local_port_range=20000 20100").split() == ["20000", "20100"]


def test_ulimit(hull):
    assert shell(hull, "ulimit -n; ulimit -Hn", "--ulimit", "nofile=512:1024").split() == ["512", "1024"]


def test_oom_score_adj(hull):
    assert shell(hull, "cat /proc/self/oom_score_adj", "--oom-score-adj", "321") == "321"


# Limits: this machine's layout (v1, hybrid or v2) is found by the test itself

def cgroup_value(hull, arguments, v1, v2, translate=lambda v: v):
    identifier = hull.hull("run", "-d", "--network", "none", *arguments, "test", "sleep", "100").stdout.strip()
    try:
        pid = json.loads(hull.hull("inspect", identifier).stdout)[0]["State"]["Pid"]
        controller, name = v1
        for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return pathlib.Path(f"/sys/fs/cgroup/{controller}{path}/{name}").read_text().strip()
        path = pathlib.Path(f"/proc/{pid}/cgroup").read_text().split("::")[1].strip()
        return translate(pathlib.Path(f"/sys/fs/cgroup{path}/{v2}").read_text().strip())
    finally:
        hull.hull("rm", "-f", identifier)


def test_memory(hull):
    assert cgroup_value(hull, ["-m", "64m"], ("memory", "memory.limit_in_bytes"), "memory.max") == str(64 << 20)


def test_cpus(hull):
    value = cgroup_value(hull, ["--cpus", "0.5"], ("cpu", "cpu.cfs_quota_us"), "cpu.max", lambda v: v.split()[0])
    assert value == "50000"


def test_cpu_shares(hull):
    value = cgroup_value(hull, ["--cpu-shares", "512"], ("cpu", "cpu.shares"), "cpu.weight",
                         lambda v: "512" if int(v) < 100 else v)
    assert value == "512"


def test_cpuset(hull):
    assert cgroup_value(hull, ["--cpuset-cpus", "0"], ("cpuset", "cpuset.cpus"), "cpuset.cpus") == "0"


def test_pids_limit(hull):
    assert cgroup_value(hull, ["--pids-limit", "42"], ("pids", "pids.max"), "pids.max") == "42"


def test_out_of_memory_is_told(hull):
    name = "oom"
    done = hull.hull("run", "--name", name, "--network", "none", "-m", "16m", "--memory-swap", "16m", "test", "sh", "-c",
                     "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}", check=False)
    state = json.loads(hull.hull("inspect", name).stdout)[0]["State"]
    hull.hull("rm", "-f", name)
    assert done.returncode == 137 and state["OOMKilled"] is True


# Namespaces

def namespace(kind):
    return os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize("flag,kind", [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")])
def test_host_namespaces(hull, flag, kind):
    assert shell(hull, f"readlink /proc/self/ns/{kind}", flag, "host") == namespace(kind)
    if flag != "--cgroupns":
        assert shell(hull, f"readlink /proc/self/ns/{kind}") != namespace(kind)


def test_namespaces_of_another_container(hull):
    first = hull.hull("run", "-d", "--network", "none", "--ipc", "shareable", "test", "sleep", "100").stdout.strip()
    try:
        script = "for n in pid ipc net; do readlink /proc/self/ns/$n; done"  # busybox takes one name
        out = hull.hull("run", "--rm", "--pid", f"container:{first}", "--ipc", f"container:{first}", "--network",
                        f"container:{first}", "test", "sh", "-c", script).stdout
        assert out == hull.hull("exec", first, "sh", "-c", script).stdout
    finally:
        hull.hull("rm", "-f", first)


# Labels and files about it

def test_labels_annotations_and_inspect(hull, tmp_path):
    (tmp_path / "labels").write_text("file=yes\n")
    identifier = hull.hull("create", "--network", "none", "--label", "a=b", "--label-file", tmp_path / "labels", "--annotation",
                           "k=v", "--stop-signal", "SIGUSR1", "--stop-timeout", "3", "test").stdout.strip()
    document = json.loads(hull.hull("inspect", identifier).stdout)[0]
    hull.hull("rm", identifier)
    assert document["Config"]["Labels"] == {"a": "b", "file": "yes"}
    assert document["HostConfig"]["Annotations"] == {"k": "v"}
    assert document["Config"]["StopSignal"] == "SIGUSR1" and document["Config"]["StopTimeout"] == 3


def test_cidfile_must_not_exist(hull, tmp_path):
    (tmp_path / "cid").write_text("")
    done = run(hull, "--cidfile", tmp_path / "cid", check=False)
    assert done.returncode == 125 and "cid" in done.stderr


def test_add_host_and_dns(hull):
    out = shell(hull, "cat /etc/hosts /etc/resolv.conf", "--add-host", "db:10.1.2.3", "--dns", "10.9.8.7", "--dns-search",
                "example.org", network="bridge")
    assert "10.1.2.3\tdb" in out and "nameserver 10.9.8.7" in out and "search example.org" in out


def test_terminal(hull):
    script = subprocess.run(["script", "-qec", " ".join(hull.command("run", "--rm", "-it", "--network", "none", "test",
                                                                     "sh", "-c", "'test -t 0 && test -t 1 && tty'")),
                             "/dev/null"], env=hull.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                            timeout=30)
    assert "/dev/pts/0" in script.stdout, script.stdout + script.stderr
