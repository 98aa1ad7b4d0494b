"""What happens to workloads, images and volumes is on record, in Docker's form, whether or not anybody listens."""

import json
import os
import signal
import subprocess
import time

from support.instance import wait_until


def record(hull, *filters, since="1970-01-01"):
    flags = [word for one in filters for word in ("--filter", one)]
    done = hull.hull("events", "--since", since, "--until", "0s", "--format", "json", *flags)
    return [json.loads(line) for line in done.stdout.splitlines()]


def actions(events):
    return [event["Action"] for event in events]


def test_a_run_from_beginning_to_end(hull):
    hull.hull("run", "--rm", "--name", "evented", "--label", "tier=front", "--network", "none", "test", "sh", "-c", "exit 3",
              check=False)
    events = record(hull, "container=evented")
    assert actions(events) == ["create", "attach", "start", "die", "destroy"]
    die = events[3]
    assert die["Type"] == "container" and die["status"] == "die" and die["from"] == "test" and die["scope"] == "local"
    assert die["Actor"]["ID"] == die["id"] and len(die["id"]) == 64
    attributes = die["Actor"]["Attributes"]
    assert attributes["exitCode"] == "3" and attributes["name"] == "evented" and attributes["tier"] == "front"
    assert die["timeNano"] // 10**9 == die["time"]
    assert [e["timeNano"] for e in events] == sorted(e["timeNano"] for e in events)
    assert actions(record(hull, "label=tier=front", "event=die", "event=start")) == ["start", "die"]
    assert record(hull, "label=tier=back") == []


def test_what_is_done_to_a_running_one(hull):
    hull.hull("run", "-d", "--name", "busy", "--network", "none", "test", "sleep", "1000")
    for words in (["pause", "busy"], ["unpause", "busy"], ["top", "busy"], ["kill", "-s", "WINCH", "busy"],
                  ["restart", "-t", "0", "busy"], ["stop", "-t", "0", "busy"], ["start", "busy"], ["rm", "-f", "busy"]):
        hull.hull(*words)
    assert actions(record(hull, "container=busy")) == [
        "create", "start", "pause", "unpause", "top", "kill", "kill", "die", "stop", "start", "restart",
        "kill", "die", "stop", "start", "kill", "die", "destroy"]
    kills = record(hull, "container=busy", "event=kill")
    assert kills[0]["Actor"]["Attributes"]["signal"] == "28" and kills[1]["Actor"]["Attributes"]["signal"] == "9"


def test_volumes(hull):
    hull.hull("volume", "create", "cargo")
    hull.hull("run", "--rm", "-v", "cargo:/data", "--network", "none", "test", "true")
    hull.hull("volume", "rm", "cargo")
    events = record(hull, "volume=cargo")
    assert actions(events) == ["create", "mount", "unmount", "destroy"]
    assert events[1]["Actor"]["Attributes"]["destination"] == "/data"
    assert "status" not in events[0]


def test_images(hull):
    hull.hull("tag", "test", "other:1")
    hull.hull("rmi", "other:1")
    events = record(hull, "type=image")
    assert {"tag", "untag", "load"} <= set(actions(events))
    assert record(hull, "type=image", "event=tag")[-1]["Actor"]["Attributes"]["name"] == "other:1"


def test_following_until_it_is_time(hull):
    follower = hull.start("events", "--since", "0s", "--until", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6)), "--filter",
                          "event=die", "--format", "{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}",
                          stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    for code in range(3):
        hull.hull("run", "--rm", "--name", f"followed{code}", "--network", "none", "test", "sh", "-c", f"exit {code}", check=False)
    out, _ = follower.communicate(timeout=20)
    assert follower.returncode == 0
    assert out.splitlines() == ["followed0 0", "followed1 1", "followed2 2"]


def test_plain_lines_and_refusals(hull):
    hull.hull("volume", "create", "plainly")
    out = hull.hull("events", "--since", "10m", "--until", "0s", "--filter", "volume=plainly").stdout
    hull.hull("volume", "rm", "plainly")
    assert out.rstrip().endswith("volume create plainly (driver=local)")
    assert out[:2] == "20" and out[10] == "T"
    done = hull.hull("events", "--filter", "nonsense=1", check=False)
    assert done.returncode == 1 and "invalid filter 'nonsense'" in done.stderr
    assert hull.hull("events", "--since", "0s", "--until", "1h", check=False).returncode == 1
    assert hull.hull("events", "--format", "{{.Nothing}}", "--since", "1h", "--until", "0s", check=False).returncode == 1


def test_a_monitor_that_was_killed(hull):
    """Who cleans up after it tells the end."""
    hull.hull("run", "-d", "--name", "orphan", "--network", "none", "test", "sleep", "1000")
    identifier = hull.hull("inspect", "orphan", "--format", "{{.Id}}").stdout.strip()
    [monitor] = [pid for pid, words in hull.processes().items() if "hull-monitor" in words and identifier in words]
    os.kill(monitor, signal.SIGKILL)

    def told():
        hull.hull("ps", "-a")
        events = record(hull, "container=orphan")
        return events if "die" in actions(events) else None

    events = wait_until(told, "the end to be told")
    assert actions(events) == ["create", "start", "die"]
    assert events[-1]["Actor"]["Attributes"]["exitCode"] == "137"
    hull.hull("rm", "-f", "orphan")
