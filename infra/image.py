"""The base image of the container image, pinned by its digest, and the conditions of a release.

    python infra/image.py update-base
    python infra/image.py check-release --base IMAGE@DIGEST --image NAME:VERSION

`make update-base` and `make release-check` call it. It needs nothing but Python, git and docker.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILES = ("Dockerfile", "tests/container/endpoint.Dockerfile")

_BASE = re.compile(r"^ARG PYTHON_IMAGE=(?P<tag>[^@\s]+)(?:@(?P<digest>\S+))?$", re.MULTILINE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def base_image(dockerfile: str) -> tuple[str, str]:
    """Tag and digest of the base image in the text of a Dockerfile; "" for no digest."""
    found = _BASE.search(dockerfile)
    if found is None:
        raise ValueError("the Dockerfile has no line ARG PYTHON_IMAGE=…")
    return found["tag"], found["digest"] or ""


def with_digest(dockerfile: str, digest: str) -> str:
    """The text of a Dockerfile with another digest of the base image. Raises ValueError if it is none."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no digest")
    tag, _ = base_image(dockerfile)
    return _BASE.sub(f"ARG PYTHON_IMAGE={tag}@{digest}", dockerfile, count=1)


def resolve(tag: str) -> str:
    """The digest of a tag in its registry: that of the index, if the image has several platforms.

    Without buildx the image is pulled. Raises CalledProcessError.
    """
    try:
        return _output("docker", "buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}")
    except subprocess.CalledProcessError:
        _output("docker", "pull", "--quiet", tag)
        return _output("docker", "image", "inspect", "--format", "{{index .RepoDigests 0}}", tag).partition(
            "@"
        )[2]


def update_base(root: Path = ROOT) -> str:
    """Pin the base image of all Dockerfiles to the present digest of its tag. Return tag and digest."""
    files = [root / name for name in DOCKERFILES]
    tag, _ = base_image(files[0].read_text("utf-8"))
    digest = resolve(tag)
    # all texts before the first file is written: a digest that is none changes nothing
    texts = [with_digest(path.read_text("utf-8"), digest) for path in files]
    for path, text in zip(files, texts, strict=True):
        path.write_text(text, "utf-8")
    return f"{tag}@{digest}"


def version_of(root: Path) -> str:
    """The version of the service in `root`. Raises ValueError."""
    found = re.search(
        r'^__version__ = "(.+)"$', (root / "service/__init__.py").read_text("utf-8"), re.MULTILINE
    )
    if found is None:
        raise ValueError("service/__init__.py has no line __version__ = …")
    return found[1]


def problems(root: Path, base: str, image: str) -> list[str]:
    """Everything that stands against a release of the tree in `root`, each with its remedy."""
    version = version_of(root)
    found = []
    if not _DIGEST.fullmatch(base.partition("@")[2]):
        found.append(f"the base image {base} has no digest: make update-base, or PYTHON_IMAGE=NAME@sha256:…")
    if image.rpartition(":")[2] != version:
        found.append(f"the image {image} is not tagged with the version: IMAGE=NAME:{version}")
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no section: ## [{version}] - YYYY-MM-DD")
    if _output("git", "-C", str(root), "status", "--porcelain"):
        found.append("the tree has changes that are not committed: git status")
    if f"v{version}" not in _output("git", "-C", str(root), "tag", "--points-at", "HEAD").splitlines():
        found.append(f"the commit is not tagged: git tag v{version}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Return 0, or 1 if a release is refused or no digest could be had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("update-base")
    check = commands.add_parser("check-release")
    check.add_argument("--base", required=True)
    check.add_argument("--image", required=True)
    options = parser.parse_args(arguments)
    if options.command == "check-release":
        found = problems(ROOT, options.base, options.image)
        print("\n".join(found) or "ready for a release", file=sys.stderr if found else sys.stdout)
        return 1 if found else 0
    try:
        print(update_base())
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or "").strip()
        print(f"the digest could not be had, nothing was changed: {error} {said}", file=sys.stderr)
        return 1
    return 0


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
