"""hull kube: pods of Kubernetes YAML; hull context: folders by name."""

import json
import os
import subprocess

import pytest
from support import instance as instances

PODS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello, page.html: "a page\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {token: czNjcjN0}
stringData: {plain: text}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
    - {name: prepare, image: test, command: [sh, -c, "echo prepared > /work/state"], volumeMounts: [{name: work, mountPath: /work}]}
  containers:
    - name: server
      image: test
      command: [sh, -c, 'cat /etc/settings/page.html > /work/index.html; exec busybox httpd -f -p 80 -h /work']
      volumeMounts: [{name: work, mountPath: /work}, {name: settings, mountPath: /etc/settings}, {name: disk, mountPath: /disk}]
    - name: side
      image: test
      command: [sleep]
      args: ["$(SECONDS_TO_SLEEP)"]
      env:
        - {name: SECONDS_TO_SLEEP, value: "1000"}
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
      envFrom: [{configMapRef: {name: settings}, prefix: CM_}]
      resources: {limits: {memory: 64Mi, cpu: 500m}}
      securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true}
      volumeMounts: [{name: keys, mountPath: /keys, readOnly: true}]
  volumes:
    - {name: work, emptyDir: {}}
    - {name: settings, configMap: {name: settings}}
    - {name: keys, secret: {secretName: keys, defaultMode: 0444, items: [{key: token, path: deep/token}]}}
    - {name: disk, persistentVolumeClaim: {claimName: disk}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 2
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec: {terminationGracePeriodSeconds: 0, restartPolicy: Never, containers: [{name: c, image: test, command: [sleep, "1000"]}]}
"""


@pytest.fixture
def played(hull, tmp_path):
    path = tmp_path / "app.yaml"
    path.write_text(PODS)
    hull.hull("kube", "play", path, timeout=120)
    yield path
    hull.hull("kube", "down", "--force", path, timeout=120, check=False)


def states(hull):
    rows = hull.hull("ps", "-a", "--format", "json").stdout.splitlines()
    return {row["Names"]: row["State"] for row in map(json.loads, rows)}


def test_pods_from_play_to_down(hull, played):
    assert states(hull) == {"web-infra": "running", "web-prepare": "exited", "web-server": "running", "web-side": "running",
                            "many-pod-infra": "running", "many-pod-c": "running", "many-pod-2-infra": "running",
                            "many-pod-2-c": "running"}
    side = lambda *words: hull.hull("exec", "web-side", *words).stdout
    assert side("sh", "-c", "echo $POD $TOKEN $CM_greeting; id -u; cat /keys/deep/token") == "web s3cr3t hello\n1000\ns3cr3t"
    # One network for the pod.
    instances.wait_until(lambda: hull.hull("exec", "web-side", "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/",
                                           check=False).stdout == "a page\n", "the pod's server")
    assert hull.hull("exec", "many-pod-c", "busybox", "wget", "-q", "-O", "-", "http://front/").stdout == "a page\n"
    assert hull.hull("exec", "web-server", "cat", "/work/state").stdout == "prepared\n"
    details = json.loads(hull.hull("inspect", "web-side").stdout)[0]["HostConfig"]
    assert details["Memory"] == 64 << 20 and details["NanoCpus"] == 500_000_000
    hull.hull("exec", "web-server", "touch", "/disk/kept")
    done = hull.hull("kube", "play", played, check=False)
    assert done.returncode == 1 and "add --replace" in done.stderr
    hull.hull("kube", "play", "--replace", played, timeout=120)
    assert hull.hull("exec", "web-server", "ls", "/disk").stdout == "kept\n"
    hull.hull("kube", "down", played)
    assert states(hull) == {}
    assert hull.hull("volume", "ls", "-q").stdout.split() == ["disk"]
    assert "hull-kube" not in hull.hull("network", "ls", "--format", "{{.Name}}").stdout


def test_what_is_generated_can_be_played(hull, tmp_path):
    hull.hull("run", "-d", "--name", "source", "--init", "-e", "A=$(x) b", "-m", "64m", "-v", "store:/store", "-p", "127.0.0.1:18090:80", "-w", "/work",
              "test", "sleep", "1000")
    text = hull.hull("kube", "generate", "source", "-s").stdout
    hull.hull("rm", "-f", "source")
    path = tmp_path / "generated.yaml"
    path.write_text(text)
    hull.hull("kube", "play", path)
    assert states(hull) == {"source-pod-infra": "running", "source-pod-source": "running"}
    assert hull.hull("exec", "source-pod-source", "sh", "-c", "echo $A; pwd").stdout == "$(x) b\n/work\n"
    again = hull.hull("kube", "generate", "source-pod").stdout
    assert "18090" in again and "claimName: store" in again
    hull.hull("stop", "-t", "0", "source-pod-source")
    hull.hull("kube", "down", "--force", path)
    assert states(hull) == {}


@pytest.mark.parametrize("text, message", [
    ("kind: Pod\n", "apiVersion or kind is missing"),
    ("apiVersion: v1\nkind: Job\nmetadata: {name: x}\n", "kind Job is not understood"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n    - {name: a, imgae: b}\n", "wrong.yaml:6: spec.containers[0].imgae: unknown key (did you mean \"image\"?)"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: X_1}\nspec: {containers: [{name: a, image: test}]}\n", "a name has lower-case letters"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: test, volumeMounts: [{name: v, mountPath: /v}]}]}\n", "there is no volume \"v\""),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: test, resources: {limits: {memory: lots}}}]}\n", "is no quantity"),
    ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: '!'}\n", "not base64"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {../a: b}\n", "can't be the name of a file"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: test}], volumes: [{name: c, configMap: {name: gone}}]}\n", "there is no ConfigMap \"gone\""),
    ("a: [\n", "not valid YAML"),
])
def test_wrong_files_change_nothing(hull, tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    done = hull.hull("kube", "play", "wrong.yaml", cwd=tmp_path, check=False)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert states(hull) == {}


def test_contexts(hull, tmp_path):
    environment = {key: value for key, value in hull.environment.items() if not key.startswith("HULL_")}
    environment["HOME"] = str(tmp_path)

    def run(*words, check=True, **more):
        done = subprocess.run(hull.command(*words), env=dict(environment, **more), capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done

    assert run("context", "show").stdout == "default\n"
    run("context", "create", "lab", "--root", tmp_path / "data", "--run-root", tmp_path / "run", "--description", "for tests")
    assert run("context", "ls", "-q").stdout.split() == ["default", "lab"]
    assert run("context", "use", "lab").stdout == "lab\n" and run("context", "show").stdout == "lab\n"
    assert json.loads(run("context", "inspect").stdout)[0]["Root"] == str(tmp_path / "data")
    run("volume", "create", "here")
    assert (tmp_path / "data").is_dir() and run("volume", "ls", "-q").stdout == "here\n"
    # Variables count before the chosen one, a flag before both.
    assert run("volume", "ls", "-q", HULL_ROOT=str(hull.root), HULL_RUN=str(hull.run_folder)).stdout != "here\n"
    assert run("-c", "lab", "volume", "ls", "-q", HULL_ROOT=str(hull.root)).stdout == "here\n"
    assert "is in use" in run("context", "rm", "lab", check=False).stderr
    for words, message in ((["create", "far", "--docker", "host=ssh://there"], "without a daemon"),
                           (["create", "lab"], "is there already"), (["create", "../x"], "is no name of a context"),
                           (["create", "half", "--root", "/x"], "belong together"), (["use", "gone"], "there is no context"),
                           (["rm", "default"], "can't be removed")):
        done = run("context", *words, check=False)
        assert done.returncode == 1 and message in done.stderr, done.stderr
    # Another user's file is not used.
    file = tmp_path / ".config/hull/contexts/lab.json"
    os.chown(file, 1000, 1000)
    done = run("volume", "ls", check=False)
    assert done.returncode == 125 and "not a file of the user" in done.stderr
    os.chown(file, 0, 0)
    run("context", "rm", "--force", "lab")
    assert run("context", "show").stdout == "default\n"
