"""What the drills need of a machine: root on Debian, its mirror, a container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

from .isolation import obstacle

RELEASE = Path("/etc/os-release")
DISK = 8 * 2**30  # bytes, for images and what they are made of
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ENGINE = ("dockerd", "docker", "containerd", "runc")
_TOOLS = {"mmdebstrap": "mmdebstrap", "slirp4netns": "slirp4netns", "ip": "iproute2"}
# Debian 12's own engine can't build these Dockerfiles (no heredocs); Debian 13's runs on it.
_NEWER = "trixie"


class Skipped(Exception):
    """Why the drills can't run on this machine."""


def check(folder: Path) -> str:
    """Debian's mirror. folder: where images will be. Raises Skipped."""
    if os.geteuid() != 0:
        raise Skipped("they need root, for a container engine in a network of its own")
    if not RELEASE.exists() or _fact("ID") != "debian":
        raise Skipped("they need Debian, from whose packages the base images' stand-ins are made")
    denied = obstacle()
    if denied:
        raise Skipped(f"they need namespaces of their own ({denied})")
    free = shutil.disk_usage(folder).free
    if free < DISK:
        raise Skipped(
            f"they need {DISK / 2**30:.0f} GB of disk in {folder}; {free / 2**30:.1f} are free"
        )
    mirror = _mirror()
    try:
        urllib.request.urlopen(f"{mirror}/dists/bookworm/InRelease", timeout=20).close()
    except OSError as error:
        raise Skipped(f"Debian's mirror {mirror} can't be reached ({error})") from None
    return mirror


def install(mirror: str, work: Path) -> None:
    """Installs what is missing. Raises Skipped, with apt's own words."""
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool)]
    engine = not all(map(shutil.which, _ENGINE)) or not all(map(_has_plugin, ("compose", "buildx")))
    if not missing and not engine:
        return
    options = []
    if engine:
        names = ["docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd"]
        if _fact("VERSION_CODENAME") == "bookworm":
            options = _sources(mirror, work)
            missing += [f"{name}/{_NEWER}" for name in names] + ["runc/bookworm"]
        else:
            missing += [*names, "runc"]
    _apt(*options, "update", "-qq")
    _apt(*options, "install", "-y", "-qq", "--no-install-recommends", *missing)


def _sources(mirror: str, work: Path) -> list[str]:
    """apt's options for this machine's release and, for what is asked of it by name, a newer one.
    apt's own configuration stays as it is."""
    apt = work / "apt"
    (apt / "lists/partial").mkdir(parents=True)
    suites = ("bookworm", "bookworm-updates", _NEWER)
    lines = [f"deb [signed-by={_KEYRING}] {mirror} {suite} main\n" for suite in suites]
    (apt / "sources.list").write_text("".join(lines))
    (apt / "preferences").write_text(f"Package: *\nPin: release n={_NEWER}*\nPin-Priority: 100\n")
    chosen = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": apt / "lists",
        "Dir::Etc::preferences": apt / "preferences",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    return [word for name, value in chosen.items() for word in ("-o", f"{name}={value}")]


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise Skipped(f"apt-get can't install what they need:\n{done.stderr.strip()[-2000:]}")


def _mirror() -> str:
    """Where this machine gets its packages."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("http") and "security" not in line:
            return line.rstrip("/")
    return "http://deb.debian.org/debian"


def _fact(name: str) -> str:
    """What the machine says of its system."""
    found = re.search(rf'^{name}="?([^"\n]*)"?$', RELEASE.read_text(), re.MULTILINE)
    return found[1] if found else ""


def _has_plugin(name: str) -> bool:
    return subprocess.run(["docker", name, "version"], capture_output=True).returncode == 0
