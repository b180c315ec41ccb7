"""The base image is pinned, `make` builds for one platform or several, and some releases are refused."""

import re
import subprocess
from pathlib import Path

import pytest

from infra.image import DOCKERFILES, ROOT, base_image, main, problems, resolve, update_base, with_digest
from service import __version__

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "f" * 64
BASE = f"python:3.13-slim-trixie@{DIGEST}"
IMAGE = f"registry.example/rowfleet:{__version__}"

DOCKER = """#!/bin/sh
echo "$*" >>"{log}"
case "$1" in
  buildx) {buildx} ;;
  pull) ;;
  image) echo "python@{digest}" ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository that is ready for a release."""
    root = tmp_path / "tree"
    for name in (*DOCKERFILES, "service/__init__.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    (root / "CHANGELOG.md").write_text(f"## [Unreleased]\n\n## [{__version__}] - 2026-12-01\n", "utf-8")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=x", "-c", "user.email=x@example", "commit", "--quiet", "-m", "x")
    git(root, "tag", f"v{__version__}")
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True)


def fake_docker(folder: Path, monkeypatch: pytest.MonkeyPatch, buildx: str, digest: str = DIGEST) -> Path:
    """Put a `docker` on the path that writes its arguments into the returned file."""
    log, command = folder / "log", folder / "bin" / "docker"
    command.parent.mkdir()
    command.write_text(DOCKER.format(log=log, buildx=buildx, digest=digest), "utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    return log


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_base_image_is_pinned(name: str) -> None:
    """Each Dockerfile names the tag and the digest of its base image, the same in all."""
    tag, digest = base_image((ROOT / name).read_text("utf-8"))
    assert re.fullmatch(r"python:3\.\d+-slim-trixie", tag)
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
    assert (tag, digest) == base_image((ROOT / DOCKERFILES[0]).read_text("utf-8"))


def test_update_base_pins_the_present_digest_of_the_tag(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both Dockerfiles get the digest that the registry states, and nothing else changes in them."""
    log = fake_docker(tmp_path, monkeypatch, f"echo {OTHER}")
    before = {name: (tree / name).read_text("utf-8") for name in DOCKERFILES}
    tag, old = base_image(before["Dockerfile"])
    assert update_base(tree) == f"{tag}@{OTHER}"
    assert log.read_text("utf-8").startswith(f"buildx imagetools inspect {tag} ")
    for name, text in before.items():
        assert (tree / name).read_text("utf-8") == text.replace(old, OTHER)


def test_without_buildx_the_digest_is_that_of_a_pulled_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag is pulled, and its digest is the one under which the registry has it."""
    log = fake_docker(tmp_path, monkeypatch, "exit 1")
    assert resolve("python:3") == DIGEST
    assert "pull --quiet python:3\n" in log.read_text("utf-8")


@pytest.mark.parametrize("said", ["", "sha256:12", "python:3.13"])
def test_an_answer_that_is_no_digest_changes_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """The Dockerfiles stay as they are."""
    fake_docker(tmp_path, monkeypatch, f"echo '{said}'")
    before = [(tree / name).read_text("utf-8") for name in DOCKERFILES]
    with pytest.raises(ValueError, match="is no digest"):
        update_base(tree)
    assert [(tree / name).read_text("utf-8") for name in DOCKERFILES] == before


def test_without_an_engine_update_base_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the reason; no traceback."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["update-base"]) == 1
    assert "nothing was changed" in capsys.readouterr().err


def test_a_tag_without_a_digest_gets_one() -> None:
    """A Dockerfile that is not pinned yet is pinned."""
    assert with_digest("ARG PYTHON_IMAGE=python:3\nFROM x\n", DIGEST) == (
        f"ARG PYTHON_IMAGE=python:3@{DIGEST}\nFROM x\n"
    )


def test_a_tree_that_is_ready(tree: Path) -> None:
    """Nothing stands against its release."""
    assert problems(tree, BASE, IMAGE) == []


@pytest.mark.parametrize(
    ("base", "image", "reason"),
    [
        ("python:3.13-slim-trixie", IMAGE, "has no digest"),
        ("python:3.13-slim-trixie@sha256:12", IMAGE, "has no digest"),
        (BASE, "rowfleet", "not tagged with the version"),
        (BASE, "registry.example:5000/rowfleet:9.9.9", "not tagged with the version"),
    ],
)
def test_a_release_is_refused_for_its_images(tree: Path, base: str, image: str, reason: str) -> None:
    """A base that can move, and an image whose tag is not the version."""
    (said,) = problems(tree, base, image)
    assert reason in said


def test_a_release_is_refused_for_its_tree(tree: Path) -> None:
    """A changelog without the version, changes that are not committed, and a commit without the tag."""
    (tree / "CHANGELOG.md").write_text("## [Unreleased]\n", "utf-8")
    git(tree, "tag", "--delete", f"v{__version__}")
    said = problems(tree, BASE, IMAGE)
    for word, line in zip(["CHANGELOG.md", "git status", "git tag"], said, strict=True):
        assert word in line


def made(*arguments: str) -> str:
    """The commands that `make` would run."""
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("platform", "begin"),
    [
        ("", "docker build"),
        ("linux/arm64", "docker build --platform linux/arm64"),
        ("linux/arm64,linux/amd64", "docker buildx build --push --platform linux/arm64,linux/amd64"),
    ],
)
def test_an_image_for_several_platforms_is_pushed(platform: str, begin: str) -> None:
    """An engine's store holds one platform of an image; no image gets attestations, which Lambda refuses."""
    said = " ".join(made("image", f"PLATFORM={platform}", "IMAGE=x").replace("\\\n", " ").split())
    assert said.startswith(f"BUILDX_NO_DEFAULT_ATTESTATIONS=1 {begin} ")
    assert " --tag x " in said


def test_the_labels_name_the_base_that_is_used() -> None:
    """The digest is that of the Dockerfile, or of another base image, or empty if that has none."""
    _, digest = base_image((ROOT / "Dockerfile").read_text("utf-8"))
    assert f"--build-arg BASE_DIGEST={digest} ." in made("image", "PYTHON_IMAGE=")
    assert f"--build-arg BASE_DIGEST={OTHER} ." in made("image", f"PYTHON_IMAGE=python:3@{OTHER}")
    assert "--build-arg BASE_DIGEST= ." in made("image", "PYTHON_IMAGE=python:3")
