"""A registry that lies, stalls, cuts and redirects, on loopback. It serves one good image; a test replaces what it needs."""

import gzip
import hashlib
import http.server
import io
import json
import re
import socket
import struct
import tarfile
import threading

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(files):
    """A tar archive of {name: bytes}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Image:
    """Layers, config and manifest; attributes may be changed before rebuild()."""

    def __init__(self, tars, compress=lambda tar: gzip.compress(tar, 1, mtime=0)):
        self.tars = tars
        self.layers = [compress(tar) for tar in tars]
        self.config = json.dumps({
            "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "config": {"Cmd": ["/x"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]}}).encode()
        self.manifest = self.make_manifest()

    def make_manifest(self, **changes):
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest(self.config), "size": len(self.config)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": digest(one), "size": len(one)} for one in self.layers]}
        document.update(changes)
        return json.dumps(document).encode()

    def blobs(self):
        return {digest(data): data for data in [self.config, *self.layers]}


class HostileRegistry:
    """hooks: {regular expression of the path: function(handler, match) -> True when it has answered}."""

    def __init__(self, image):
        self.image = image
        self.hooks = []
        self.requests = []
        self.ranges = True
        self.manifest_type = MANIFEST_TYPE
        self.lock = threading.Lock()
        self.released = threading.Event()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except (ConnectionError, BrokenPipeError):
                    self.close_connection = True

            def do_GET(self):
                with registry.lock:
                    registry.requests.append((self.command, self.path, dict(self.headers)))
                for pattern, hook in list(registry.hooks):
                    match = re.search(pattern, self.path)
                    if match and hook(self, match):
                        return
                registry.serve(self)

            do_HEAD = do_GET
            do_POST = do_GET

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                headers = {name.replace("_", "-"): value for name, value in headers.items()}
                headers.setdefault("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                return True

            def cut(self, hard=True):
                """Ends the connection, with a reset when hard."""
                if hard:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.wfile.flush()
                self.close_connection = True
                try:
                    self.connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                return True

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def hook(self, pattern, function):
        self.hooks.append((pattern, function))

    def paths(self, pattern=""):
        return [path for _, path, _ in self.requests if re.search(pattern, path)]

    def serve(self, handler):
        path = handler.path
        if path == "/v2/":
            return handler.answer(200, b"{}")
        if "/manifests/" in path:
            body = self.image.manifest
            return handler.answer(200, body, Content_Type=self.manifest_type, Docker_Content_Digest=digest(body))
        match = re.search(r"/blobs/(sha256:[0-9a-f]{64})$", path)
        data = self.image.blobs().get(match.group(1)) if match else None
        if data is None:
            return handler.answer(404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}',
                                  Content_Type="application/json")
        return self.serve_bytes(handler, data)

    def serve_bytes(self, handler, data, stop_after=None):
        """With a Range when asked and allowed; cuts the connection after stop_after bytes of the body."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", "")) if self.ranges else None
        first, last = 0, len(data) - 1
        handler.send_response(206 if wanted else 200)
        if wanted:
            first, last = int(wanted.group(1)), min(last, int(wanted.group(2) or last))
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        part = data[first:last + 1]
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        if stop_after is not None and stop_after < len(part):
            handler.wfile.write(part[:stop_after])
            return handler.cut(hard=False)
        handler.wfile.write(part)
        return True

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
