"""The files of the documentation: pages, the contents in `index.md`, images and examples."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from otpqueue.api.documentation.markdown import (
    PageLink,
    PageSection,
    RenderedPage,
    read_lists,
    render_page,
    resolve_link,
)

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_TEXT = {".html", ".json", ".mjs", ".py", ".sh", ".toml", ".ts", ".txt", ".yaml", ".yml"}
"""Shown as plain text: a browser must not run an example."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MAX_WORDS, _MAX_FOUND = 8, 20


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A file below `docs/`, with its tag for HTTP caches."""

    content: bytes
    media_type: str
    tag: str


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A section that has all words of a query. `before`, `match` and `after` are an excerpt."""

    page: str
    section: str
    url: str
    before: str
    match: str
    after: str


class DocumentationLibrary:
    """The documentation in a folder. A page is rendered once, and again after its file has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def exists(self) -> bool:
        """Whether the folder has a table of contents."""
        return (self._folder / "index.md").is_file()

    def find_page(self, name: str) -> RenderedPage | None:
        """Return a page by its path below `docs/` without `.md`; None if there is none."""
        path = self._find_file(f"{name}.md")
        return _render(path, path.stat().st_mtime_ns, _folder_of(name)) if path else None

    def find_file(self, name: str) -> SiteFile | None:
        """Return an image or an example by its path below `docs/`; None if there is none."""
        suffix = PurePosixPath(name).suffix
        media_type = MEDIA_TYPES.get(suffix) or ("text/plain; charset=utf-8" if suffix in _TEXT else None)
        path = self._find_file(name) if media_type else None
        if path is None or media_type is None:
            return None
        content = path.read_bytes()
        if name.startswith("examples/") and not media_type.startswith("image/"):
            media_type = "text/plain; charset=utf-8"
        return SiteFile(content, media_type, make_tag(content))

    def read_contents(self) -> list[tuple[str, list[PageLink]]]:
        """Return the table of contents: `[(heading, pages), ...]`. Targets are URLs."""
        text = (self._folder / "index.md").read_text(encoding="utf-8")
        return [
            (heading, [PageLink(link.title, resolve_link(link.target), link.summary) for link in links])
            for heading, links in read_lists(text)
        ]

    def find_sections(self, query: str) -> list[SearchHit]:
        """Return the sections that have all words of a query, the best first."""
        words = query.lower().split()[:_MAX_WORDS]
        if not words:
            return []
        scored = [
            (_score(words, page, section), name, page, section)
            for name, page in self._pages()
            for section in page.sections
        ]
        best = sorted((one for one in scored if one[0] > 0), key=lambda one: -one[0])[:_MAX_FOUND]
        return [_make_hit(words[0], name, page, section) for _, name, page, section in best]

    def list_names(self) -> list[str]:
        """Return the names of all pages."""
        return sorted(
            path.relative_to(self._folder).as_posix().removesuffix(".md")
            for path in self._folder.rglob("*.md")
        )

    def _pages(self) -> Iterator[tuple[str, RenderedPage]]:
        for name in self.list_names():
            if page := self.find_page(name):
                yield name, page

    def _find_file(self, name: str) -> Path | None:
        """Return the path of a file; None for names that lead out of the folder or to hidden files."""
        parts = name.split("/")
        if len(name) > 200 or not all(_PART.fullmatch(part) for part in parts):
            return None
        path = self._folder.joinpath(*parts)
        try:
            is_inside = path.resolve().is_relative_to(self._folder.resolve())
            return path if is_inside and path.is_file() else None
        except OSError:
            return None


def make_tag(content: bytes) -> str:
    """Return an ETag for a response with this content."""
    return hashlib.sha256(content).hexdigest()[:32]


def locate_documentation() -> DocumentationLibrary:
    """Return the documentation of a checkout, or else the copy in the wheel."""
    package = Path(__file__).resolve().parents[2]
    checkout = DocumentationLibrary(package.parent / "docs")
    return checkout if checkout.exists else DocumentationLibrary(package / "_docs")


@lru_cache(maxsize=256)
def _render(path: Path, _changed_ns: int, folder: str) -> RenderedPage:
    return render_page(path.read_text(encoding="utf-8"), folder=folder)


def _folder_of(name: str) -> str:
    folder = PurePosixPath(name).parent.as_posix()
    return "" if folder == "." else folder


def _score(words: list[str], page: RenderedPage, section: PageSection) -> int:
    """Return how well a section matches; 0 if a word is in neither its text nor a heading."""
    heading, title, text = section.title.lower(), page.title.lower(), section.text.lower()
    score = 0
    for word in words:
        found = 20 * (word in heading) + 5 * (word in title) + min(text.count(word), 5)
        if not found:
            return 0
        score += found
    return score if any(word in heading or word in text for word in words) else 0


def _make_hit(word: str, name: str, page: RenderedPage, section: PageSection) -> SearchHit:
    text = section.text
    start = max(text.lower().find(word), 0)
    end = start + len(word) if word in text.lower() else start
    first = text.rfind(" ", 0, max(start - 60, 0)) + 1
    before = ("… " if first else "") + text[first:start]
    after = text[end : end + 140]
    url = resolve_link(f"{name}.md")
    is_page = section is page.sections[0]
    return SearchHit(
        page=page.title,
        section="" if is_page else section.title,
        url=url if is_page else f"{url}#{section.anchor}",
        before=before,
        match=text[start:end],
        after=after + (" …" if len(text) > end + 140 else ""),
    )
