"""Build sdist and wheel of the committed files into a folder: python .ci/release.py DIST [https://HOST/OWNER/NAME]

Without a folder, only check that the changelog is cut for the version.

A package index shows README.md without the checkout around it, so its links become absolute ones to the repository at
the tag of the version. Where no address is given and `origin` has none, links become text, and the picture is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?!https?://|#)(?P<path>[^)\s]+)\)")
PICTURE = re.compile(
    r"^!\[[^\]]*\]\((?!https?://)[^)\s]+\)\n\n(\*[^*\n](?:.+\n)+\n)?", re.MULTILINE
)  # with its caption
ORIGIN = re.compile(r"(?:https://|ssh://git@|git@)([\w.-]+)[:/]([\w./-]+?)(?:\.git)?/?")


def page(readme: str, address: str | None, version: str) -> str:
    """README as a package index can show it.

    Args:
        readme: Markdown with links relative to the checkout.
        address: Of the repository, as GitHub and GitLab lay it out; None if there is none.
        version: Its tag is this with a `v` in front.
    """
    if address is None:
        return LINK.sub(lambda link: link["text"], PICTURE.sub("", readme))
    kind = {"!": "raw", "": "blob"}
    return LINK.sub(
        lambda link: f"{link['image']}[{link['text']}]({address}/{kind[link['image']]}/v{version}/{link['path']})",
        readme,
    )


def metadata(configuration: str, address: str | None) -> str:
    """setup.cfg with the address of the repository in the package's metadata."""
    if address is None:
        return configuration
    return configuration.replace("[metadata]\n", f"[metadata]\nproject_urls =\n    Source = {address}\n", 1)


def uncut(changelog: str, version: str) -> str | None:
    """Reason why a changelog is not ready for the release of a version; None if it is."""
    sections = dict(re.findall(r"^## (\S+).*\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE))
    if sections.get("Unreleased", "").strip():
        return (
            "expected every change in the section of a version, found some under '## Unreleased'; "
            "rename it to '## VERSION (DATE)' and set that version in src/__init__.py and CITATION.cff, "
            f"or move them to '## {version}'"
        )
    if not sections.get(version, "").strip():
        return f"expected a section '## {version} (DATE)', the version in src/__init__.py, found none; write it first"
    return None


def origin() -> str | None:
    """The address of the remote `origin` as a browser takes it; None if it is no address or there is none."""
    done = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True)
    match = ORIGIN.fullmatch(done.stdout.strip())
    return f"https://{match[1]}/{match[2]}" if match else None


def copied(folder: Path) -> None:
    """Copy what git tracks."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())


def main(dist: str = "", given: str = "") -> None:
    """Check the changelog, and build."""
    address = given.rstrip("/") or origin()
    version = re.search(r'__version__ = "(.+)"', (ROOT / "src/__init__.py").read_text(encoding="utf-8"))
    assert version is not None
    if reason := uncut((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version[1]):
        sys.exit(f"error: CHANGELOG.md: {reason}")
    if not dist:
        return
    print(
        f"links of the package page: {address or 'left out, for want of an address: make release REPOSITORY=https://…'}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied(folder)
        for file, changed in (
            (folder / "README.md", lambda text: page(text, address, version[1])),
            (folder / "setup.cfg", lambda text: metadata(text, address)),
        ):
            file.write_text(changed(file.read_text(encoding="utf-8")), encoding="utf-8")
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(Path(dist).resolve()), str(folder)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
