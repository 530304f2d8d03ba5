"""Renders a Markdown page of `docs/` as HTML for the site, and finds its headings and its plain text.

Headings get the ids that GitHub gives them, so that a link to a heading works on GitHub and on the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it.token import Token

SITE = "/docs"

_NO_SLUG = re.compile(r"[^\w\- ]")
_PICTURE = re.compile(r'<img src="([^"]+)"[^>]*>')
_CODE = re.compile(r'<code class="language-(?:sh|python|js|ini|yaml)">.*?</code>', re.DOTALL)
_COMMENT = re.compile(r"(?:^|(?<=>)) *(?:#|//) .*$", re.MULTILINE)
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_CODE_IN_TABLE = re.compile(r"<code>.*?</code>")
_EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PageSection:
    """A heading of a page, its anchor, and the plain text up to the next heading."""

    title: str
    anchor: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A page as HTML, with its title and its sections in order."""

    title: str
    html: Markup
    sections: tuple[PageSection, ...]


@dataclass(frozen=True, slots=True)
class PageLink:
    """An item of a list of links: `- [title](page.md): summary`."""

    title: str
    target: str
    summary: str


def render_page(text: str, *, folder: str = "") -> RenderedPage:
    """Return a page as HTML. Relative links are resolved from `folder`, the page's folder below `docs/`."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only the site needs it

    parser = MarkdownIt("commonmark", {"html": False, "xhtmlOut": False}).enable("table")
    tokens = parser.parse(text)
    sections = tuple(_mark_sections(tokens))
    for token in _walk(tokens):
        _rewrite_link(token, folder)
    html = parser.renderer.render(_wrap_tables(tokens), parser.options, {})
    # What scrolls must be reachable by keyboard. The text of a page has no tags: they are escaped.
    html = html.replace("<pre>", '<pre tabindex="0">')
    html = _CODE.sub(lambda code: _COMMENT.sub(r'<span class="comment">\g<0></span>', code[0]), html)
    # A picture of a page is small on a phone: its link shows it alone.
    html = _PICTURE.sub(r'<a href="\1">\g<0></a>', html)
    # A long name may break after an underscore. Otherwise it pushes the last columns out of sight.
    html = _TABLE.sub(
        lambda table: _CODE_IN_TABLE.sub(lambda code: code[0].replace("_", "_<wbr>"), table[0]), html
    )
    title = sections[0].title if sections else ""
    # Raw HTML in the pages is escaped; the pages are part of this package.
    return RenderedPage(title=title, html=Markup(html), sections=sections)  # noqa: S704


def read_lists(text: str) -> list[tuple[str, list[PageLink]]]:
    """Return the lists of links below each second-level heading: `[(heading, links), ...]`."""
    found: list[tuple[str, list[PageLink]]] = []
    for line in text.splitlines():
        if line.startswith("## "):
            found.append((line.removeprefix("## ").strip(), []))
        elif found and (match := re.match(r"- \[(.+?)\]\((\S+?)\)(?:: (.*))?$", line)):
            found[-1][1].append(PageLink(match[1], match[2], match[3] or ""))
    return [(heading, links) for heading, links in found if links]


def make_anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return _NO_SLUG.sub("", heading.lower()).strip().replace(" ", "-")


def _mark_sections(tokens: list[Token]) -> Iterator[PageSection]:
    """Give each heading an id, and yield the sections."""
    seen: dict[str, int] = {}
    title, anchor, level = "", "", 1
    words: list[str] = []
    started = False
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            if started:
                yield PageSection(title, anchor, level, " ".join(words))
            started, words = True, []
            title = _extract_text(tokens[position + 1])
            level = int(token.tag[1:])
            base = make_anchor(title)
            anchor = f"{base}-{seen[base]}" if base in seen else base
            seen[base] = seen.get(base, 0) + 1
            token.attrSet("id", anchor)
        elif token.type == "inline" and tokens[position - 1].type != "heading_open":
            words.append(_extract_text(token))
        elif token.type in {"fence", "code_block"}:
            words.append(token.content)
    if started:
        yield PageSection(title, anchor, level, " ".join(words))


def _extract_text(inline: Token) -> str:
    kept = {"text", "code_inline"}
    return "".join(
        one.content if one.type in kept else " " if one.type in {"softbreak", "hardbreak"} else ""
        for one in inline.children or ()
    )


def _walk(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or ())


def _rewrite_link(token: Token, folder: str) -> None:
    name = {"link_open": "href", "image": "src"}.get(token.type)
    if name is None:
        return
    target = str(token.attrGet(name) or "")
    token.attrSet(name, resolve_link(target, folder=folder))
    if name == "src":
        token.attrSet("loading", "lazy")


def resolve_link(target: str, *, folder: str = "") -> str:
    """Return a link of a page as a link of the site: `limits.md#windows` is `/docs/limits#windows`."""
    if _EXTERNAL.match(target) or target.startswith(("/", "#")):
        return target
    path, _, anchor = target.partition("#")
    resolved = posixpath.normpath(posixpath.join(folder, path)).removesuffix(".md")
    url = SITE if resolved == "index" else f"{SITE}/{resolved}"
    return f"{url}#{anchor}" if anchor else url


def _wrap_tables(tokens: list[Token]) -> list[Token]:
    """Put each table into a box of its own, which scrolls on a narrow screen."""
    from markdown_it.token import Token  # noqa: PLC0415 - only the site needs it

    wrapped: list[Token] = []
    for token in tokens:
        if token.type == "table_open":
            box = Token("box_open", "div", 1)
            box.attrs = {"class": "table", "tabindex": "0", "role": "group", "aria-label": "Table"}
            wrapped.append(box)
        wrapped.append(token)
        if token.type == "table_close":
            wrapped.append(Token("box_close", "div", -1))
    return wrapped
