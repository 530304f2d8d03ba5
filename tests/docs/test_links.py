"""Links between the pages of the documentation lead to a file and, where given, to a heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md")
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"\s+", " ", text)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def test_links_lead_somewhere(project: Path) -> None:
    """No page has a link to a missing file or heading."""
    pages = [page for pattern in PAGES for page in sorted(project.glob(pattern))]

    assert len(pages) > 15
    broken = {page.name: broken_links(page) for page in pages if broken_links(page)}
    assert broken == {}


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [("b.md", False), ("b.md#the-env-file", False), ("b.md#gone", True), ("c.md", True), ("#here", False)],
)
def test_broken_links_are_found(tmp_path: Path, link: str, is_broken: bool) -> None:
    """A link needs its file and its heading."""
    (tmp_path / "b.md").write_text("# B\n\n## The .env file\n", encoding="utf-8")
    page = tmp_path / "a.md"
    page.write_text(f"# Here\n\nSee [this]({link}).\n", encoding="utf-8")

    assert bool(broken_links(page)) == is_broken
