"""hull-images against Debian's docker-registry, with skopeo as the other client: push, pull, login, TLS, archives, kill -9,
full disks."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import time

import pytest
from support import bundle as bundles
from support.hostile_registry import digest, tar_of
from support.instance import BIN, remove_tree


class Store:
    def __init__(self, instance):
        self.instance = instance
        instance.environment["DOCKER_CONFIG"] = str(instance.folder / "docker")

    def images(self, *arguments, check=True, timeout=120, **more):
        more.setdefault("stdin", None if "input" in more else subprocess.DEVNULL)
        if more["stdin"] is None:
            del more["stdin"]
        more.setdefault("text", True)
        environment = dict(self.instance.environment, **more.pop("environment", {}))
        done = subprocess.run([str(BIN / "hull-images"), *map(str, arguments)], capture_output=True, env=environment,
                              timeout=timeout, **more)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def whole(self):
        done = self.images("check", "--deep", check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def layers(self):
        folder = self.instance.root / "layers"
        return {path.stem for path in folder.glob("*.erofs")} if folder.exists() else set()


@pytest.fixture
def store(instance):
    return Store(instance)


@pytest.fixture
def other(make_instance):
    return Store(make_instance())


def skopeo(*arguments, **more):
    return subprocess.run(["skopeo", *map(str, arguments)], capture_output=True, text=True, check=True, **more).stdout


def remote_manifest(reference, *options):
    return json.loads(skopeo("inspect", "--raw", "--tls-verify=false", *options, f"docker://{reference}"))


def big_layout(folder, layers=3, size=4 << 20):
    random.seed(11)
    tars = [tar_of({f"layer{number}/{name}": random.randbytes(size // 8) for name in range(8)}) for number in range(layers)]
    bundles.layout.write_layout(folder, tars, {"Cmd": ["true"]}, names=("big:latest",), compression="gzip")
    return folder


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_pull_what_skopeo_pushed(store, make_registry, busybox_layout, compression):
    registry = make_registry()
    reference = registry.push_layout(busybox_layout, "busybox:latest", "team/busybox:1", compression=compression)
    done = store.images("pull", reference)
    assert f"Status: Downloaded newer image for {reference}" in done.stdout
    store.whole()
    assert store.images("pull", "-q", reference).stdout == reference + "\n"
    by_digest = skopeo("inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{reference}").strip()
    assert by_digest in done.stdout
    store.images("pull", f"{registry.host}/team/busybox@{by_digest}")


def test_all_tags(store, make_registry, busybox_layout):
    registry = make_registry()
    for tag in ("1", "2", "latest"):
        registry.push_layout(busybox_layout, "busybox:latest", f"bb:{tag}")
    done = store.images("pull", "--all-tags", f"{registry.host}/bb")
    for tag in ("1", "2", "latest"):
        assert f"{registry.host}/bb:{tag}\n" in done.stdout
    assert store.images("pull", "--all-tags", f"{registry.host}/bb:1", check=False).returncode == 1


def test_missing_things_are_named(store, make_registry, busybox_layout):
    registry = make_registry()
    registry.push_layout(busybox_layout, "busybox:latest", "bb:1")
    for reference in ("bb:2", "nothing:1"):
        done = store.images("pull", f"{registry.host}/{reference}", check=False)
        assert done.returncode == 1 and reference in done.stderr and "404" in done.stderr
    for bad in ("Upper/Case", "a//b", "x:y:z", "a@sha256:1"):
        assert store.images("pull", bad, check=False).returncode == 1


def test_push_mounts_keeps_and_packs(store, other, make_registry, tmp_path):
    registry, second = make_registry(), make_registry()
    reference = registry.push_layout(big_layout(tmp_path / "big"), "big:latest", "one/big:1")
    store.images("pull", reference)
    original = remote_manifest(reference)
    names = [f"{registry.host}/one/big:2", f"{registry.host}/two/big:1", f"{second.host}/three/big:1"]
    tag(store, reference, *names)
    assert store.images("push", names[0]).stdout.count("Layer already exists") == 3
    assert store.images("push", names[1]).stdout.count("Mounted from another repository") == 3
    assert remote_manifest(names[0]) == original == remote_manifest(names[1]), "the manifest stays as it was"
    assert store.images("push", names[2]).stdout.count("Pushed") == 3
    packed = remote_manifest(names[2])
    assert packed["config"] == original["config"]
    # Packing is deterministic, and known from now on.
    assert store.images("push", names[2]).stdout.count("Layer already exists") == 3
    assert remote_manifest(names[2]) == packed
    other.images("pull", names[2])
    other.whole()
    assert other.layers() == store.layers()


def tag(store, source, *names):
    """hull tag, through the program when it is there, else through an archive."""
    for name in names:
        store.instance.hull("tag", source, name)


def test_login_and_htpasswd(store, make_registry, busybox_layout):
    registry = make_registry(user="ada", password="pass:word ä")
    reference = registry.push_layout(busybox_layout, "busybox:latest", "bb:1")
    done = store.images("pull", reference, check=False)
    assert done.returncode == 1 and "hull login" in done.stderr
    wrong = store.images("login", "-u", "ada", "--password-stdin", registry.host, input="wrong\n", check=False)
    assert wrong.returncode == 1 and "wrong" in wrong.stderr
    assert not (store.instance.folder / "docker/config.json").exists()
    good = store.images("login", "-u", "ada", "--password-stdin", registry.host, input="pass:word ä\n")
    assert "Login Succeeded" in good.stdout and "unencrypted" in good.stderr
    config = store.instance.folder / "docker/config.json"
    assert config.stat().st_mode & 0o777 == 0o600
    store.images("pull", reference)
    tag(store, reference, f"{registry.host}/bb:2")
    store.images("push", f"{registry.host}/bb:2")
    assert "Removing" in store.images("logout", registry.host).stdout
    assert "Not logged in" in store.images("logout", registry.host).stdout
    assert store.images("pull", reference, check=False).returncode == 1


def test_credential_helper(store, make_registry, busybox_layout, tmp_path):
    registry = make_registry(user="ada", password="secret")
    reference = registry.push_layout(busybox_layout, "busybox:latest", "bb:1")
    helper = tmp_path / "bin/docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(f"""#!/bin/sh
case $1 in
get) read -r server; [ -f {tmp_path}/kept ] && cat {tmp_path}/kept || {{ echo 'credentials not found in native keychain'; exit 1; }};;
store) cat > {tmp_path}/kept;;
erase) rm -f {tmp_path}/kept;;
esac
""")
    helper.chmod(0o755)
    folder = store.instance.folder / "docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "test"}, "other": [1]}))
    path = {"PATH": f"{helper.parent}:{os.environ['PATH']}"}
    assert store.images("pull", reference, check=False, environment=path).returncode == 1
    store.images("login", "-u", "ada", "--password-stdin", registry.host, input="secret", environment=path)
    assert json.loads((tmp_path / "kept").read_text())["Secret"] == "secret"
    config = json.loads((folder / "config.json").read_text())
    assert config["other"] == [1] and "secret" not in json.dumps(config)
    store.images("pull", reference, environment=path)
    store.images("logout", registry.host, environment=path)
    assert not (tmp_path / "kept").exists()
    (folder / "config.json").write_text(json.dumps({"credsStore": "not-there"}))
    done = store.images("pull", reference, check=False)
    assert done.returncode == 1 and "docker-credential-not-there" in done.stderr


def test_tls(make_instance, make_registry, busybox_layout):
    registry = make_registry(tls=True)
    reference = registry.push_layout(busybox_layout, "busybox:latest", "bb:1")
    strict = Store(make_instance(f'[registry."{registry.host}"]\ninsecure = false\n'))
    done = strict.images("pull", reference, check=False)
    assert done.returncode == 1 and "not trusted" in done.stderr and "hull.toml" in done.stderr
    Store(make_instance(f'[registry."{registry.host}"]\nca = "{registry.ca}"\n')).images("pull", reference)
    Store(make_instance(f'[registry."{registry.host}"]\ninsecure = true\n')).images("pull", reference)


@pytest.mark.parametrize("oauth", [True, False])
def test_tokens_that_the_registry_verifies(store, make_registry, make_token_server, busybox_layout, oauth):
    tokens = make_token_server({"ada": "secret", "eve": "eve"}, {"": (), "ada": ("pull", "push"), "eve": ("pull",)}, oauth)
    registry = make_registry(tokens=tokens, user="ada", password="secret")
    reference = registry.push_layout(busybox_layout, "busybox:latest", "team/bb:1")
    tokens.asked.clear()
    refused = store.images("pull", reference, check=False)
    assert refused.returncode == 1 and "hull login" in refused.stderr
    assert set(tokens.asked) == {("GET", "", ("repository:team/bb:pull",))}
    wrong = store.images("login", "-u", "ada", "--password-stdin", registry.host, input="guess", check=False)
    assert wrong.returncode == 1 and "wrong name or password" in wrong.stderr
    store.images("login", "-u", "ada", "--password-stdin", registry.host, input="secret")
    kept = json.loads((store.instance.folder / "docker/config.json").read_text())["auths"][registry.host]
    # A registry that gives refresh tokens has one kept in place of the password.
    assert ("identitytoken" in kept) == oauth
    tokens.asked.clear()
    store.images("pull", reference)
    method = "POST" if oauth else "GET"
    assert (method, "ada", ("repository:team/bb:pull",)) in tokens.asked
    tag(store, reference, f"{registry.host}/other/bb:2")
    tokens.asked.clear()
    store.images("push", f"{registry.host}/other/bb:2")
    asked = {scope for _, _, scopes in tokens.asked for scope in scopes}
    assert "repository:other/bb:pull,push" in asked or "repository:other/bb:push,pull" in asked, tokens.asked
    assert remote_manifest(f"{registry.host}/other/bb:2", "--creds", "ada:secret")["layers"]
    store.images("login", "-u", "eve", "--password-stdin", registry.host, input="eve")
    store.images("pull", reference)
    refused = store.images("push", f"{registry.host}/other/bb:2", check=False)
    assert refused.returncode == 1 and "other/bb" in refused.stderr


def test_tokens_that_end_are_asked_for_again(store, make_registry, make_token_server, tmp_path):
    """The registry counts the seconds itself: a push of some layers outlives a token of two."""
    tokens = make_token_server({"ada": "secret"}, {"ada": ("pull", "push")}, lifetime_s=2)
    registry = make_registry(tokens=tokens, user="ada", password="secret")
    big_layout(tmp_path / "layout")
    store.images("login", "-u", "ada", "--password-stdin", registry.host, input="secret")
    store.images("load", "--input", tmp_path / "layout")
    for number in range(3):
        tag(store, "big:latest", f"{registry.host}/big:{number}")
        store.images("push", f"{registry.host}/big:{number}")
        time.sleep(1)
    assert remote_manifest(f"{registry.host}/big:2", "--creds", "ada:secret")["layers"]


def test_client_certificates(make_instance, make_registry, busybox_layout, tmp_path):
    registry = make_registry(tls=True, client_certificates=True)
    reference = registry.push_layout(busybox_layout, "busybox:latest", "bb:1")
    certificate, key = registry.folder / "client/client.cert", registry.folder / "client/client.key"
    trust = f'[registry."{registry.host}"]\nca = "{registry.ca}"\n'
    refused = Store(make_instance(trust)).images("pull", reference, check=False)
    assert refused.returncode == 1 and registry.host in refused.stderr
    Store(make_instance(f'{trust}client_cert = "{certificate}"\nclient_key = "{key}"\n')).images("pull", reference)
    # Docker's layout, seen by this one command only.
    shutil.copytree(registry.folder / "client", tmp_path / "docker/certs.d" / registry.host)
    store = Store(make_instance(f'[registry."{registry.host}"]\ninsecure = false\n'))
    script = 'mkdir -p /etc/docker && mount --bind "$1" /etc/docker && shift && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path / "docker", BIN / "hull-images", "pull", reference]
    subprocess.run(command, check=True, env=store.instance.environment, stdin=subprocess.DEVNULL)
    assert store.layers()


def test_default_registry_and_mirror(make_instance, make_registry, busybox_layout):
    registry = make_registry()
    registry.push_layout(busybox_layout, "busybox:latest", "library/busybox:latest")
    registry.push_layout(busybox_layout, "busybox:latest", "short:latest")
    default = Store(make_instance(f'[registry]\ndefault = "{registry.host}"\n'))
    assert f"{registry.host}/short:latest" in default.images("pull", "short").stdout
    mirrored = Store(make_instance(f'[registry."docker.io"]\nmirrors = ["http://{registry.host}"]\n'))
    assert "docker.io/library/busybox:latest" in mirrored.images("pull", "busybox").stdout


@pytest.mark.parametrize("settings,word", [
    ("[registry]\ndefault = 5", "registry.default"), ("[registry]\nnonsense = 1", "unknown key"),
    ('[registry."a b"]\ninsecure = true', "not a registry host"), ('[registry."x:1"]\nmirrors = ["file:///x"]', "mirrors"),
    ('[limits]\nmax_layer_bytes = "lots"', "max_layer_bytes"), ("[limits]\nmax_ratio = 0", "max_ratio"),
    ("[registry]\nretries = 99", "retries"), ('[registry]\nstall_timeout = "1ms"', "stall_timeout"), ("registry = 1", "registry"),
    ("[registry", "hull.toml:"),
], ids=range(10))
def test_bad_settings(make_instance, settings, word):
    done = Store(make_instance(settings)).images("pull", "127.0.0.1:1/x", check=False)
    assert done.returncode == 1 and word in done.stderr and "hull.toml" in done.stderr


# Archives

def test_save_and_load_round_trip(store, other, make_registry, tmp_path, busybox_layout):
    registry = make_registry()
    one = registry.push_layout(busybox_layout, "busybox:latest", "bb:1")
    two = registry.push_layout(big_layout(tmp_path / "big"), "big:latest", "big:1")
    store.images("pull", one)
    store.images("pull", two)
    for name, options in (("docker.tar", []), ("oci.tar", ["--format", "oci-archive"])):
        path = tmp_path / name
        store.images("save", "-o", path, *options, one, two)
        again = tmp_path / f"again-{name}"
        store.images("save", "-o", again, *options, one, two)
        assert path.read_bytes() == again.read_bytes(), "the same images, the same bytes"
        done = other.images("load", "-i", path)
        assert f"Loaded image: {one}" in done.stdout and f"Loaded image: {two}" in done.stdout
        other.whole()
        assert other.layers() == store.layers()
        other.instance.hull("image", "prune", "--all", "--force")
        assert not other.layers()
        packed = subprocess.run(["gzip", "-1", "-c", str(path)], capture_output=True, check=True).stdout
        other.images("load", "-q", input=packed, text=False)
        assert other.layers() == store.layers()
        other.instance.hull("image", "prune", "--all", "--force")


def test_skopeo_reads_what_is_saved(store, make_registry, tmp_path, busybox_layout):
    reference = make_registry().push_layout(busybox_layout, "busybox:latest", "bb:1")
    store.images("pull", reference)
    store.images("save", "-o", tmp_path / "d.tar", reference)
    store.images("save", "--format", "oci-archive", "-o", tmp_path / "o.tar", reference)
    configs = set()
    for source in (f"docker-archive:{tmp_path}/d.tar:{reference}", f"oci-archive:{tmp_path}/o.tar"):
        configs.add(json.dumps(json.loads(skopeo("inspect", "--config", source)), sort_keys=True))
    assert len(configs) == 1


def test_load_what_skopeo_wrote(store, tmp_path, busybox_layout):
    sources = {
        "d.tar": f"docker-archive:{tmp_path}/d.tar:example/bb:7",
        "o.tar": f"oci-archive:{tmp_path}/o.tar:example/bb:8",
    }
    for name, target in sources.items():
        skopeo("copy", "-q", "--insecure-policy", f"oci:{busybox_layout}:busybox:latest", target)
    assert "Loaded image: example/bb:7" in store.images("load", "-i", tmp_path / "d.tar").stdout
    assert "Loaded image: example/bb:8" in store.images("load", "-i", tmp_path / "o.tar").stdout
    assert "Loaded image: busybox:latest" in store.images("load", "-i", busybox_layout).stdout
    with open(tmp_path / "d.tar", "rb") as archive:
        store.images("load", stdin=archive)
    store.whole()


def archive_of(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, tuple):
                info.type, info.linkname = data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


LAYER = tar_of({"x": b"hello"})
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(LAYER)]}}).encode()


def docker_manifest(config="c.json", layers=("l.tar",), tags=("a:1",)):
    return json.dumps([{"Config": config, "RepoTags": list(tags), "Layers": list(layers)}]).encode()


@pytest.mark.parametrize("members,word", [
    ([], "neither manifest.json"), ([("x", b"1")], "neither"),
    ([("manifest.json", b"{}")], "expected a list"), ([("manifest.json", b"[]")], "no image"),
    ([("manifest.json", b"[" * 5000)], "nested"), ([("manifest.json", b"[{}]")], "Config"),
    ([("manifest.json", docker_manifest())], "c.json"),
    ([("manifest.json", docker_manifest()), ("c.json", CONFIG)], "l.tar"),
    ([("manifest.json", docker_manifest(layers=())), ("c.json", CONFIG)], "layers"),
    ([("manifest.json", docker_manifest()), ("c.json", CONFIG), ("l.tar", LAYER[:700])], "layer"),
    ([("manifest.json", docker_manifest()), ("c.json", CONFIG), ("l.tar", tar_of({"y": b"no"}))], "layer"),
    ([("manifest.json", docker_manifest(layers=("a",))), ("c.json", CONFIG), ("a", (tarfile.SYMTYPE, "b")),
      ("b", (tarfile.SYMTYPE, "a"))], "circle"),
    ([("manifest.json", docker_manifest(layers=("a",))), ("c.json", CONFIG), ("a", (tarfile.SYMTYPE, "../../etc/passwd"))], "member"),
    ([("manifest.json", docker_manifest(config="../../../etc/passwd"))], "passwd"),
    ([("manifest.json", docker_manifest(tags=("BAD NAME",))), ("c.json", CONFIG), ("l.tar", LAYER)], "BAD NAME"),
    ([("index.json", b"{}")], "schemaVersion"), ([("index.json", b'{"schemaVersion":2,"manifests":[]}')], "no image"),
], ids=range(17))
def test_bad_archives(store, tmp_path, members, word):
    done = store.images("load", "-i", archive_of(tmp_path / "a.tar", members), check=False)
    assert done.returncode == 1 and word in done.stderr, done.stderr
    assert not store.layers()
    store.whole()


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f\x8b\x08", b"\x1f\x8b\x08\x00" + b"z" * 900, b"\x28\xb5\x2f\xfd" + b"q" * 500, b"text " * 900],
                         ids=range(6))
def test_what_is_no_archive(store, tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    done = store.images("load", "-i", tmp_path / "a", check=False)
    assert done.returncode == 1 and "archive" in done.stderr, done.stderr


def test_old_docker_archive_with_links(store, tmp_path):
    path = archive_of(tmp_path / "a.tar", [("id1/layer.tar", LAYER), ("id2/layer.tar", (tarfile.SYMTYPE, "../id1/layer.tar")),
                                           ("c.json", CONFIG), ("manifest.json", docker_manifest(layers=("id2/layer.tar",)))])
    assert "Loaded image: a:1" in store.images("load", "-i", path).stdout


def test_import(store, tmp_path):
    tar = tmp_path / "t.tar"
    tar.write_bytes(tar_of({"hello": b"world"}))
    done = store.images("import", "-c", 'CMD ["a","b"]', "-c", "ENV X=1 Y='2 3'", "-c", "label k=v", "-c", "EXPOSE 80 53/udp",
                        "-c", "WORKDIR /w", "-c", "VOLUME /v", "-c", "USER 5", "-c", "ENTRYPOINT run it", "-c", "ONBUILD RUN make",
                        "-c", "HEALTHCHECK --interval=30s --retries=2 CMD test -f /ok", "-c", 'SHELL ["/bin/ash","-ec"]',
                        "-m", "said", tar, "im:1")
    identifier = done.stdout.strip()
    assert identifier.startswith("sha256:")
    config = json.loads((store.instance.root / "blobs/sha256" / identifier[7:]).read_text())
    assert config["config"] == {"User": "5", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Env": ["X=1", "Y=2 3"],
                                "Entrypoint": ["/bin/sh", "-c", "run it"], "Cmd": ["a", "b"], "Volumes": {"/v": {}},
                                "WorkingDir": "/w", "Labels": {"k": "v"}, "Shell": ["/bin/ash", "-ec"],
                                "OnBuild": ["RUN make"], "Healthcheck": {
                                    "Test": ["CMD-SHELL", "test -f /ok"], "Interval": 30 * 10**9, "Retries": 2}}
    assert config["history"][0]["comment"] == "said"
    store.images("import", "-", input=subprocess.run(["gzip", "-c", str(tar)], capture_output=True).stdout, text=False)
    other = store.images("import", "-c", 'SHELL ["/bin/ash","-ec"]', "-c", "CMD run it", "-c", "HEALTHCHECK NONE", tar)
    config = json.loads((store.instance.root / "blobs/sha256" / other.stdout.strip()[7:]).read_text())["config"]
    assert config["Cmd"] == ["/bin/ash", "-ec", "run it"] and config["Healthcheck"] == {"Test": ["NONE"]}
    for change in ("HEALTHCHECK CMD", "HEALTHCHECK --interval=1us CMD x", "HEALTHCHECK --often=1s CMD x", "SHELL sh",
                   "HEALTHCHECK --retries=2x CMD x", "ONBUILD ONBUILD RUN x", "ONBUILD FROM x", "NONSENSE x", "EXPOSE 0", "EXPOSE 99999", "ENV", "CMD [1]", "WORKDIR rel", "LABEL 'x"):
        bad = store.images("import", "-c", change, tar, check=False)
        assert bad.returncode == 1 and "change" in bad.stderr
    assert store.images("import", tmp_path / "none", check=False).returncode == 1
    store.whole()


# Crashes, crowds and full disks

def test_killed_anywhere(store, make_registry, tmp_path):
    registry = make_registry()
    reference = registry.push_layout(big_layout(tmp_path / "big", layers=5, size=6 << 20), "big:latest", "big:1")
    begin = time.monotonic()
    store.images("pull", reference)
    whole_pull = time.monotonic() - begin
    remove_tree(store.instance.root)
    random.seed()
    rounds = int(os.environ.get("HULL_KILL_ROUNDS", "40"))
    for number in range(rounds):
        process = subprocess.Popen([str(BIN / "hull-images"), "pull", reference], env=store.instance.environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _, err = process.communicate(timeout=random.uniform(0, whole_pull))
            assert process.returncode == 0, err
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        if number % 5 == 4:
            # What is visible is whole; what is left over is found and removed.
            store.images("check", "--deep", "--repair")
            store.whole()
            remove_tree(store.instance.root)
    store.images("pull", reference)
    store.images("check", "--repair")
    store.whole()
    assert not list((store.instance.root / "leases").iterdir())
    assert len(store.layers()) == 5


def test_many_pulls_and_prunes_at_once(store, make_registry, tmp_path):
    registry = make_registry()
    big = registry.push_layout(big_layout(tmp_path / "big"), "big:latest", "big:1")
    running = []
    for number in range(6):
        running.append(subprocess.Popen([str(BIN / "hull-images"), "pull", big], env=store.instance.environment,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        running.append(store.instance.start("image", "prune", "--all", "--force", stdout=subprocess.PIPE,
                                            stderr=subprocess.STDOUT, text=True))
    for process in running:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
    store.images("pull", big)
    store.whole()


def test_full_disk(make_instance, make_registry, tmp_path):
    registry = make_registry()
    reference = registry.push_layout(big_layout(tmp_path / "big", layers=3, size=16 << 20), "big:latest", "big:1")
    store = Store(make_instance())
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(disk)], check=True)
    store.instance.root.mkdir()
    subprocess.run(["mount", "-o", "loop", str(disk), str(store.instance.root)], check=True)
    try:
        done = store.images("pull", reference, check=False)
        assert done.returncode == 1 and "space" in done.stderr.lower(), done.stderr
        assert "terminate called" not in done.stderr
        assert not list((store.instance.root / "layers").glob(".stage-*"))
        checked = store.images("check", "--repair")
        store.whole()
        assert reference not in checked.stdout
    finally:
        for point in [*subprocess.run(["findmnt", "-rno", "TARGET"], capture_output=True, text=True).stdout.split()][::-1]:
            if point.startswith(str(store.instance.folder)):
                subprocess.run(["umount", "-l", point])


def test_deep_check_finds_a_flipped_byte(store, make_registry, tmp_path):
    registry = make_registry()
    reference = registry.push_layout(big_layout(tmp_path / "big"), "big:latest", "big:1")
    store.images("pull", reference)
    assert store.instance.hull("system", "check", "--deep").returncode == 0
    victim = max((store.instance.root / "layers").glob("*.erofs"), key=lambda path: path.stat().st_size)
    with open(victim, "r+b") as file:
        file.seek(victim.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    done = store.images("check", "--deep", check=False)
    assert done.returncode == 1 and victim.stem[:12] in done.stdout
    # hull's own check repairs: what is damaged leaves the index, and a pull brings it back.
    repaired = store.instance.hull("system", "check", "--deep")
    assert victim.stem[:12] in repaired.stdout and "repaired" in repaired.stdout
    assert not list(store.instance.run_folder.glob("verify-*"))
    store.images("pull", reference)
    store.whole()
