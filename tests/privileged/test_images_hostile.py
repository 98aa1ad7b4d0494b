"""Pulling from a registry that lies, stalls, cuts, redirects and floods: a clear error or a way through, and nothing half
done in the store."""

import base64
import gzip
import json
import random
import re
import subprocess
import threading
import time

import pytest
from support.hostile_registry import HostileRegistry, Image, INDEX_TYPE, digest, tar_of
from support.instance import BIN

FAST = '[registry]\nstall_timeout = "1s"\nretries = 2\n'


@pytest.fixture
def registry():
    made = []

    def make(image=None):
        random.seed(7)
        made.append(HostileRegistry(image or Image([tar_of({"x": b"one\n"}), tar_of({"y": random.randbytes(3 << 20)})])))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def store(make_instance):
    return Store(make_instance(FAST))


class Store:
    def __init__(self, instance):
        self.instance = instance

    def images(self, *arguments, check=True, timeout=60, **more):
        environment = dict(self.instance.environment, **more.pop("environment", {}))
        done = subprocess.run([str(BIN / "hull-images"), *map(str, arguments)], capture_output=True, text=True,
                              env=environment, timeout=timeout, stdin=subprocess.DEVNULL, **more)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        assert "terminate called" not in done.stderr
        return done

    def refused(self, reference, *words, **more):
        """A pull that must fail, say these words, and leave nothing."""
        done = self.images("pull", reference, check=False, **more)
        assert done.returncode == 1, done.stdout + done.stderr
        for word in words:
            assert word in done.stderr, done.stderr
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.stderr), repr(done.stderr)
        self.clean()
        return done

    def clean(self):
        root = self.instance.root
        left = [path.name for path in (root / "layers").glob(".stage-*")]
        assert not left, left
        assert not list((root / "leases").iterdir())
        done = self.images("check", check=False)
        assert "missing" not in done.stdout, done.stdout

    def pulls(self, reference):
        done = self.images("pull", reference)
        self.images("check", "--deep")
        return done


def test_good_image(registry, store):
    one = registry()
    done = store.pulls(f"{one.host}/a/b:1")
    assert f"Digest: {digest(one.image.manifest)}" in done.stdout
    before = len(one.requests)
    again = store.pulls(f"{one.host}/a/b:1")
    assert "Image is up to date" in again.stdout
    assert not [path for path in one.paths()[before:] if "/blobs/" in path], "nothing is fetched twice"


@pytest.mark.parametrize("what", ["config", "layer", "manifest"])
def test_wrong_digest(registry, store, what):
    one = registry()
    data = {"config": one.image.config, "layer": one.image.layers[1], "manifest": one.image.manifest}[what]
    bad = data[:-1] + bytes([data[-1] ^ 1])
    if what == "manifest":
        one.hook("/manifests/", lambda h, m: h.answer(200, bad, Content_Type=one.manifest_type,
                                                      Docker_Content_Digest=digest(data)))
    else:
        one.hook(f"/blobs/{digest(data)}", lambda h, m: one.serve_bytes(h, bad))
    store.refused(f"{one.host}/a:1", "digest" if what != "layer" else "layer")


def test_wrong_diff_id(registry, store):
    image = Image([tar_of({"x": b"one"})])
    image.config = image.config.replace(digest(image.tars[0]).encode(), b"sha256:" + b"5" * 64)
    image.manifest = image.make_manifest()
    store.refused(f"{registry(image).host}/a:1", "diff")


def test_pull_by_wrong_digest(registry, store):
    one = registry()
    store.refused(f"{one.host}/a@sha256:{'1' * 64}", "its digest is")


@pytest.mark.parametrize("cut_at", [0, 1, 100, 100000])
def test_truncated_gzip(registry, store, cut_at):
    tar = tar_of({"y": random.randbytes(300000)})
    store.refused(f"{registry(Image([tar], lambda data: gzip.compress(data, 1)[:cut_at])).host}/a:1", "layer")


@pytest.mark.parametrize("size", ["shorter", "longer"])
def test_sizes_that_lie(registry, store, size):
    one = registry()
    layers = json.loads(one.image.manifest)["layers"]
    layers[1]["size"] += 1000 if size == "longer" else -1000
    one.image.manifest = one.image.make_manifest(layers=layers)
    store.refused(f"{one.host}/a:1", "layer", timeout=120)


def test_oversized_manifest(registry, store):
    one = registry()
    one.hook("/manifests/", lambda h, m: h.answer(200, b" " * (5 << 20), Content_Type=one.manifest_type))
    store.refused(f"{one.host}/a:1", "limit")


def test_endless_manifest(registry, store):
    one = registry()

    def endless(handler, match):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        block = b"10000\r\n" + b" " * 65536 + b"\r\n"
        while not one.released.is_set():
            handler.wfile.write(block)
        return True

    one.hook("/manifests/", endless)
    store.refused(f"{one.host}/a:1", "limit")


def test_headers_without_end(registry, store):
    one = registry()

    def flood(handler, match):
        handler.send_response(200)
        for number in range(100000):
            handler.wfile.write(b"X-%d: y\r\n" % number)
        return True

    one.hook("/manifests/", flood)
    store.refused(f"{one.host}/a:1")


def test_html(registry, store):
    one = registry()
    page = b"<!doctype html><html><head><title>Please \x1b[31mlog in</title></head></html>"
    one.hook("/manifests/", lambda h, m: h.answer(200, page, Content_Type="text/html"))
    store.refused(f"{one.host}/a:1", "HTML")
    one.hooks.clear()
    one.hook("/manifests/", lambda h, m: h.answer(502, page, Content_Type="text/html"))
    store.refused(f"{one.host}/a:1", "502", "HTML")


def test_redirect_circle(registry, store):
    one = registry()
    one.hook("/manifests/", lambda h, m: h.answer(302, Location=h.path))
    store.refused(f"{one.host}/a:1", "circle")
    one.hooks.clear()
    one.hook("/manifests/|/hop", lambda h, m: h.answer(307, Location=f"/hop{len(one.requests)}"))
    store.refused(f"{one.host}/a:1", "redirects")


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://user:secret@127.0.0.1/x", "gopher://x"], ids=range(4))
def test_redirect_to_other_schemes(registry, store, target):
    one = registry()
    one.hook("/manifests/", lambda h, m: h.answer(302, Location=target))
    done = store.refused(f"{one.host}/a:1", "address")
    assert "secret" not in done.stderr


def with_login(store, host, user="ada", password="secret"):
    folder = store.instance.folder / "docker"
    folder.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    store.instance.environment["DOCKER_CONFIG"] = str(folder)


def test_credentials_stay_with_their_host(registry, store):
    one, other = registry(), registry()
    with_login(store, one.host)

    def basic(handler, match):
        if "Authorization" in handler.headers:
            return False
        return handler.answer(401, WWW_Authenticate='Basic realm="r"')

    one.hook("/v2/", basic)
    one.hook(r"/blobs/(.*)", lambda h, m: h.answer(307, Location=f"http://{other.host}/v2/x/blobs/{m.group(1)}"))
    store.pulls(f"{one.host}/a:1")
    assert other.requests
    assert not [headers for _, _, headers in other.requests if "Authorization" in headers]
    assert [headers for _, _, headers in one.requests if "Authorization" in headers]


def test_token_authentication_and_expiry(registry, store):
    one = registry()
    with_login(store, one.host)
    issued = []

    def token(handler, match):
        assert "repository:a/b:pull" in handler.path.replace("%3A", ":").replace("%2F", "/")
        assert handler.headers["Authorization"].startswith("Basic ")
        issued.append(f"token{len(issued)}")
        return handler.answer(200, json.dumps({"token": issued[-1], "expires_in": 60}).encode())

    def bearer(handler, match):
        # Every token is good for three requests, then it is refused.
        given = handler.headers.get("Authorization", "")
        uses = [h for _, p, h in one.requests if h.get("Authorization") == given and "/v2/" in p]
        if issued and given == "Bearer " + issued[-1] and len(uses) <= 3:
            return False
        return handler.answer(401, WWW_Authenticate=f'Bearer realm="http://{one.host}/token",service="s",scope="x"')

    one.hook("/token", token)
    one.hook("/v2/", bearer)
    store.pulls(f"{one.host}/a/b:1")
    assert len(issued) >= 2


def test_401_loop(registry, store):
    one = registry()
    with_login(store, one.host)
    one.hook("/token", lambda h, m: h.answer(200, b'{"token":"t"}'))
    one.hook("/v2/", lambda h, m: h.answer(401, WWW_Authenticate=f'Bearer realm="http://{one.host}/token",service="s"'))
    store.refused(f"{one.host}/a:1", "401", "log in")
    assert len(one.requests) < 20


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token":""}', b'{"token":5}', b'{"token":"a\\r\\nX-Evil: 1"}',
                                  b'{"token":"' + b"a" * 200000 + b'"}', b"<html>", b"[" * 100000], ids=range(9))
def test_bad_token_answers(registry, store, body):
    one = registry()
    one.hook("/token", lambda h, m: h.answer(200, body))
    one.hook("/v2/", lambda h, m: h.answer(401, WWW_Authenticate=f'Bearer realm="http://{one.host}/token"'))
    store.refused(f"{one.host}/a:1", "token")
    assert not [h for _, _, h in one.requests if "X-Evil" in h]


@pytest.mark.parametrize("challenge", ["", "Bearer", "Bearer realm=\"ftp://x\"", "Digest realm=\"x\"", "Bearer realm=\"" + "a" * 9000], ids=range(5))
def test_challenges_that_help_nobody(registry, store, challenge):
    one = registry()
    one.hook("/v2/", lambda h, m: h.answer(401, WWW_Authenticate=challenge))
    store.refused(f"{one.host}/a:1", "authentication")


def test_cut_connections_are_resumed(registry, store):
    one = registry()
    target = one.image.layers[1]
    cuts = []

    def cutting(handler, match):
        if len(cuts) >= 4:
            return False
        cuts.append(handler.headers.get("Range"))
        return one.serve_bytes(handler, target, stop_after=400000)

    one.hook(f"/blobs/{digest(target)}", cutting)
    store.pulls(f"{one.host}/a:1")
    assert len(cuts) == 4
    starts = [int(re.match(r"bytes=(\d+)-", text).group(1)) for text in cuts[1:]]
    assert starts == sorted(starts) and starts[0] >= 300000, "each went on where the last was cut"


def test_cut_connections_without_ranges(registry, store):
    one = registry()
    one.ranges = False
    target = one.image.layers[1]
    cuts = []

    def cutting(handler, match):
        if len(cuts) >= 2:
            return False
        cuts.append(1)
        return one.serve_bytes(handler, target, stop_after=700000 * len(cuts))

    one.hook(f"/blobs/{digest(target)}", cutting)
    store.pulls(f"{one.host}/a:1")


def test_resets_give_up_in_the_end(registry, store):
    one = registry()
    one.hook(f"/blobs/{digest(one.image.layers[1])}", lambda h, m: h.cut())
    store.refused(f"{one.host}/a:1", "layer")
    assert len(one.paths(digest(one.image.layers[1]))) <= 12


def test_stall_is_noticed_and_resumed(registry, store):
    one = registry()
    target = one.image.layers[1]
    stalls = []

    def stalling(handler, match):
        if stalls:
            return False
        stalls.append(1)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(target)))
        handler.end_headers()
        handler.wfile.write(target[:500000])
        handler.wfile.flush()
        one.released.wait(20)
        return handler.cut()

    one.hook(f"/blobs/{digest(target)}", stalling)
    begin = time.monotonic()
    store.pulls(f"{one.host}/a:1")
    assert time.monotonic() - begin < 15


def test_stall_for_ever(registry, store):
    one = registry()
    one.hook("/manifests/", lambda h, m: one.released.wait(30) and h.cut())
    begin = time.monotonic()
    store.refused(f"{one.host}/a:1", "stall")
    assert time.monotonic() - begin < 25


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retry_after(registry, store, status):
    one = registry()
    times = []

    def busy(handler, match):
        times.append(time.monotonic())
        return len(times) < 3 and handler.answer(status, Retry_After="1")

    one.hook("/manifests/", busy)
    store.pulls(f"{one.host}/a:1")
    assert len(times) == 3 and times[1] - times[0] >= 0.95 and times[2] - times[1] >= 0.95


def test_large_layers_come_in_ranges(registry, store):
    one = registry(Image([tar_of({"big": random.randbytes(40 << 20)})]))
    store.pulls(f"{one.host}/a:1")
    ranges = [h.get("Range") for _, p, h in one.requests if digest(one.image.layers[0]) in p]
    assert len(ranges) >= 4 and all(ranges)


@pytest.mark.parametrize("how", ["ignored", "other", "late"])
def test_ranges_that_lie(registry, store, how):
    one = registry(Image([tar_of({"big": random.randbytes(30 << 20)})]))
    target = one.image.layers[0]

    def lie(handler, match):
        first = int(re.match(r"bytes=(\d+)-", handler.headers.get("Range", "bytes=0-")).group(1))
        if how == "ignored" or (how == "late" and first > 0):
            one.ranges = False
            done = one.serve_bytes(handler, target)
            one.ranges = True
            return done
        if how == "other" and "Range" in handler.headers:
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 5-104/{len(target)}")
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.write(target[5:105])
            return True
        return False

    one.hook(f"/blobs/{digest(target)}", lie)
    store.pulls(f"{one.host}/a:1")


def test_schema_1_is_refused(registry, store):
    one = registry()
    one.image.manifest = b'{"schemaVersion":1,"name":"a","tag":"1","fsLayers":[],"history":[]}'
    one.manifest_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    store.refused(f"{one.host}/a:1", "schema 1")


def test_foreign_layers_are_refused(registry, store):
    one = registry()
    layers = json.loads(one.image.manifest)["layers"]
    layers[0]["urls"] = ["http://127.0.0.1:1/x"]
    one.image.manifest = one.image.make_manifest(layers=layers)
    store.refused(f"{one.host}/a:1", "foreign")


def test_ambiguous_manifest_is_refused(registry, store):
    one = registry()
    one.image.manifest = one.image.make_manifest(manifests=[])
    store.refused(f"{one.host}/a:1", "ambiguous")


def test_index_of_indexes(registry, store):
    one = registry()
    entry = {"mediaType": INDEX_TYPE, "digest": "", "size": 0, "platform": {"os": "linux", "architecture": "amd64"}}
    inner, bodies = one.image.manifest, {}
    for _ in range(6):
        entry = dict(entry, digest=digest(inner), size=len(inner))
        bodies[digest(inner)] = inner
        inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}).encode()

    def serve(handler, match):
        body = bodies.get(match.group(1), inner)
        return handler.answer(200, body, Content_Type=INDEX_TYPE if b"manifests" in body else one.manifest_type)

    one.hook("/manifests/(.*)", serve)
    store.refused(f"{one.host}/a:1", "nested")


def test_platforms(registry, store):
    one = registry()
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
        {"mediaType": one.manifest_type, "digest": digest(one.image.manifest), "size": len(one.image.manifest),
         "platform": {"os": "linux", "architecture": "s390x"}}]}).encode()
    one.hook("/manifests/1$", lambda h, m: h.answer(200, index, Content_Type=INDEX_TYPE))
    store.refused(f"{one.host}/a:1", "s390x", "no image for platform")
    done = store.images("pull", "--platform", "linux/s390x", f"{one.host}/a:1")
    assert digest(index) in done.stdout


def test_bomb_is_bounded(registry, make_instance):
    store = Store(make_instance(FAST + '[limits]\nmax_layer_bytes = "20MiB"\n'))
    one = registry(Image([tar_of({"zeros": bytes(40 << 20)})]))
    store.refused(f"{one.host}/a:1", "layer")


def test_too_many_bytes_announced(registry, make_instance):
    store = Store(make_instance(FAST + '[limits]\nmax_image_bytes = "1MiB"\n'))
    store.refused(f"{registry().host}/a:1", "max_image_bytes")


def test_tags_without_end(registry, store):
    one = registry()
    one.hook("/tags/list", lambda h, m: h.answer(200, b'{"tags":["1"]}', Link=f'<{h.path}>; rel="next"'))
    done = store.images("pull", "--all-tags", f"{one.host}/a", check=False)
    assert done.returncode == 1 and "does not end" in done.stderr


def test_refused_connection(store):
    done = store.images("pull", "127.0.0.1:1/a:1", check=False)
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr


def test_mirror_with_fallback(registry, make_instance):
    bad, good = registry(), registry()
    bad.hook("/blobs/", lambda h, m: h.answer(200, b"nonsense"))
    store = Store(make_instance(FAST + f'[registry."{good.host}"]\nmirrors = ["http://{bad.host}"]\n'))
    done = store.images("pull", f"{good.host}/a:1")
    assert "Mirror" in done.stdout and good.paths("/blobs/")
    calls = len(good.requests)
    bad.hooks.clear()
    store.images("pull", f"{good.host}/b:1")
    assert len(good.requests) == calls, "the mirror was enough"


def test_two_commands_fetch_a_layer_once(registry, store):
    one = registry()
    target = digest(one.image.layers[1])
    begun, go_on = threading.Event(), threading.Event()

    def slow(handler, match):
        begun.set()
        go_on.wait(20)
        return False

    one.hook(f"/blobs/{target}", slow)
    command = [str(BIN / "hull-images"), "pull"]
    first = subprocess.Popen([*command, f"{one.host}/a:1"], env=store.instance.environment, stdout=subprocess.PIPE)
    assert begun.wait(20)
    second = subprocess.Popen([*command, f"{one.host}/b:1"], env=store.instance.environment, stdout=subprocess.PIPE, text=True)
    seen = ""
    while "Waiting" not in seen:
        line = second.stdout.readline()
        assert line, seen
        seen += line
    go_on.set()
    first.communicate(timeout=30)
    seen += second.communicate(timeout=30)[0]
    assert first.returncode == 0 and second.returncode == 0, seen
    assert "Already exists" in seen
    assert len(one.paths(target)) == 1


def test_interrupt_ends_cleanly(registry, store):
    one = registry()
    begun = threading.Event()

    def stall(handler, match):
        begun.set()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(one.image.layers[1])))
        handler.end_headers()
        handler.wfile.write(one.image.layers[1][:100000])
        handler.wfile.flush()
        one.released.wait(20)
        return handler.cut()

    one.hook(f"/blobs/{digest(one.image.layers[1])}", stall)
    process = subprocess.Popen([str(BIN / "hull-images"), "pull", f"{one.host}/a:1"], env=store.instance.environment,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert begun.wait(20)
    process.send_signal(2)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130 and "interrupted" in err
    store.clean()
    one.hooks.clear()
    store.pulls(f"{one.host}/a:1")
