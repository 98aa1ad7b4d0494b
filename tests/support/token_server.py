"""A token server as registries use it (distribution's token and OAuth 2 specifications): it checks a name and password or
a refresh token, and signs which actions on which repository are allowed. The registry itself verifies the signature."""

import base64
import http.server
import json
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse

SERVICE, ISSUER = "hull-test-registry", "hull-test-tokens"


def plain(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """users: {name: password}; rights: {name: ("pull", "push")}; "" is anybody. With oauth it takes POST and gives refresh
    tokens, without it answers GET only. `asked` lists what was asked for: (method, user, scopes)."""

    def __init__(self, users, rights, oauth=True, lifetime_s=300):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hull-tokens-"))
        self.users, self.rights, self.oauth, self.lifetime_s = users, rights, oauth, lifetime_s
        self.asked, self.refresh_tokens = [], {}
        self.key, self.certificate = self.folder / "key", self.folder / "cert"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                        "/CN=Hull test tokens", "-keyout", self.key, "-out", self.certificate], check=True,
                       capture_output=True)
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                words = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                header = self.headers.get("Authorization", "")
                name, password = "", ""
                if header.startswith("Basic "):
                    name, _, password = base64.b64decode(header[6:]).decode().partition(":")
                owner.answer(self, "GET", name, password, None, words)

            def do_POST(self):
                size = int(self.headers.get("Content-Length", "0"))
                words = urllib.parse.parse_qs(self.rfile.read(size).decode())
                if not owner.oauth:
                    owner.send(self, 405, {"details": "use GET"})
                    return
                first = {key: values[0] for key, values in words.items()}
                owner.answer(self, "POST", first.get("username", ""), first.get("password", ""),
                             first.get("refresh_token"), words)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self.server.server_port}/token"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @staticmethod
    def send(request, status, document):
        body = json.dumps(document).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def answer(self, request, method, name, password, refresh, words):
        scopes = [scope for value in words.get("scope", []) for scope in value.split()]
        if refresh is not None:
            name = self.refresh_tokens.get(refresh)
            allowed = name is not None
        else:
            allowed = name == "" or self.users.get(name) == password
        self.asked.append((method, name, tuple(scopes)))
        if not allowed or words.get("service") != [SERVICE]:
            self.send(request, 401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong name or password"}]})
            return
        token = self.sign(name, scopes)
        document = {"token": token, "access_token": token, "expires_in": self.lifetime_s}
        if method == "POST" and words.get("access_type") == ["offline"]:
            document["refresh_token"] = f"refresh-{len(self.refresh_tokens)}"
            self.refresh_tokens[document["refresh_token"]] = name
        self.send(request, 200, document)

    def sign(self, name, scopes):
        access = []
        for scope in scopes:
            kind, repository, actions = scope.split(":")[0], ":".join(scope.split(":")[1:-1]), scope.split(":")[-1]
            wanted = [one for one in actions.split(",") if one in self.rights.get(name, ())]
            access.append({"type": kind, "name": repository, "actions": wanted})
        now = int(time.time())
        pem = self.certificate.read_text().split("-----")[2]
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split())]}
        claims = {"iss": ISSUER, "sub": name, "aud": SERVICE, "exp": now + self.lifetime_s, "nbf": now - 5, "iat": now,
                  "jti": f"{now}-{len(self.asked)}", "access": access}
        text = plain(json.dumps(header).encode()) + "." + plain(json.dumps(claims).encode())
        signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), check=True,
                                capture_output=True).stdout
        return f"{text}.{plain(signed)}"

    def registry_settings(self):
        """The lines of docker-registry's configuration."""
        return ["auth:", "  token:", f"    realm: {self.realm}", f"    service: {SERVICE}", f"    issuer: {ISSUER}",
                f"    rootcertbundle: {self.certificate}"]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)
