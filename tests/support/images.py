"""Images for tests that run workloads: busybox with a few users, folders and settings that flags act upon."""

from . import bundle as bundles

layout = bundles.layout

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001:Alice:/home/alice:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
GROUP = b"root:x:0:\nstaff:x:50:alice\nalice:x:1001:\nvideo:x:44:\n"


def load(instance, folder, name="test:latest", config=None, layers=()):
    """Makes an image and loads it into an instance; returns its name."""
    entries = [
        layout.folder("etc"), layout.regular("etc/passwd", PASSWD), layout.regular("etc/group", GROUP),
        layout.folder("home"), layout.folder("home/alice"),
        layout.folder("data"), layout.regular("data/seed", b"from the image\n"),
        layout.folder("work"),
    ]
    bundles.busybox_image(folder, name=name, config=config, layers=[layout.make_tar(entries), *layers])
    instance.hull("load", "--input", folder)
    return name
