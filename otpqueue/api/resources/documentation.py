"""`/docs`: the documentation, its search and its files."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.resources import files

import falcon
from jinja2 import Environment, PackageLoader, StrictUndefined

from otpqueue.api.documentation.library import (
    MEDIA_TYPES,
    DocumentationLibrary,
    SiteFile,
    make_tag,
)
from otpqueue.api.documentation.markdown import SITE, PageLink

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_ASSETS = ("docs.css", "docs.js", "icon.svg")
_MAX_QUERY = 100


@cache
def _load_templates() -> Environment:
    loader = PackageLoader("otpqueue.api.documentation", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["version"] = version("otpqueue")
    return environment


class Documentation:
    """`/docs` and every path below it that has no route of its own."""

    def __init__(self, library: DocumentationLibrary) -> None:
        self._library = library

    def on_get(self, req: falcon.Request, resp: falcon.Response, path: str = "index") -> None:
        """Show a page, or answer with a file of the documentation."""
        if path.startswith("assets/"):
            file = _read_asset(path.removeprefix("assets/"))
        else:
            file = self._library.find_file(path)
        if file:
            _write_cacheable(req, resp, file)
        elif (name := path.removesuffix(".md").removesuffix(".html")) != path:
            # `docs/limits.md`, as messages and comments write it.
            found = self._library.find_page(name)
            if not found:
                return self._show_missing(resp, path)
            location = SITE if name == "index" else f"{SITE}/{name}"
            raise falcon.HTTPMovedPermanently(location, headers={"Cache-Control": "no-cache"})
        else:
            self._show_page(req, resp, path)
        return None

    on_head = on_get

    def on_get_search(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the sections that match the query `q`."""
        query = (req.get_param("q") or "")[:_MAX_QUERY].strip()
        self._render(resp, "search.html", query=query, hits=self._library.find_sections(query))

    on_head_search = on_get_search

    def _show_page(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        page = self._library.find_page(name)
        if page is None:
            return self._show_missing(resp, name)
        url = SITE if name == "index" else f"{SITE}/{name}"
        before, after = _find_neighbours(url, self._library.read_contents())
        text = self._render_text("page.html", page=page, url=url, before=before, after=after)
        content = text.encode()
        _write_cacheable(req, resp, SiteFile(content, falcon.MEDIA_HTML, make_tag(content)))
        resp.set_header("Content-Security-Policy", _POLICY)
        return None

    def _show_missing(self, resp: falcon.Response, name: str) -> None:
        words = " ".join(name.replace("/", " ").replace("-", " ").split())[:_MAX_QUERY]
        resp.status = 404
        self._render(resp, "missing.html", query=words, hits=self._library.find_sections(words)[:5])

    def _render(self, resp: falcon.Response, template: str, **values: object) -> None:
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.text = self._render_text(template, **values)

    def _render_text(self, template: str, **values: object) -> str:
        contents = self._library.read_contents()
        return (
            _load_templates()
            .get_template(template)
            .render(**{"query": "", "url": "", "contents": contents, **values})
        )


def _read_asset(name: str) -> SiteFile | None:
    if name not in _ASSETS:
        return None
    content = (files("otpqueue.api.documentation") / "assets" / name).read_bytes()
    return SiteFile(content, MEDIA_TYPES[f".{name.rpartition('.')[2]}"], make_tag(content))


def _find_neighbours(
    url: str, contents: list[tuple[str, list[PageLink]]]
) -> tuple[PageLink | None, PageLink | None]:
    """Return the pages before and after a page, in the order of the contents."""
    pages = [link for _, links in contents for link in links]
    here = next((number for number, link in enumerate(pages) if link.target == url), None)
    if here is None:
        return None, pages[0] if url == SITE and pages else None
    return (pages[here - 1] if here else None), (pages[here + 1] if here + 1 < len(pages) else None)


def _write_cacheable(req: falcon.Request, resp: falcon.Response, file: SiteFile) -> None:
    """Answer with a file, or with 304 if the caller has it. Caches must ask whether it has changed."""
    resp.set_header("Cache-Control", "no-cache")
    resp.etag = file.tag
    if any(tag in ("*", file.tag) for tag in req.if_none_match or ()):
        resp.status = 304
        return
    resp.content_type = file.media_type
    resp.data = file.content
