"""The documentation below `/docs`: every page and link works, caches can ask, and nothing else is served."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from falcon.testing import TestClient

from otpqueue.api.documentation.library import DocumentationLibrary, locate_documentation
from otpqueue.api.documentation.markdown import make_anchor, render_page, resolve_link
from tests.api.conftest import Caller
from tests.api.test_pages import Page, safe


@pytest.fixture
def library(tmp_path: Path) -> DocumentationLibrary:
    """Return a small documentation."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "index.md").write_text(
        "# Contents\n\n## Start\n\n- [First](first.md): a summary\n- [Deep](deep/page.md)\n"
    )
    (tmp_path / "first.md").write_text("# First page\n\nApples.\n\n## Pears & plums\n\nSome *ripe* pears.\n")
    (tmp_path / "examples" / "shop.py").write_text("print('hello')\n")
    (tmp_path / "examples" / "shop.js").write_text("console.log('hello')\n")
    (tmp_path / ".hidden.md").write_text("# Hidden\n")
    (tmp_path / "secret.key").write_text("x")
    return DocumentationLibrary(tmp_path)


def test_every_page_and_link(caller: Caller) -> None:
    """Every page is served without a key; every link leads to a page and, if given, to its heading."""
    caller.key = None
    names = locate_documentation().list_names()
    urls = {"/docs" if name == "index" else f"/docs/{name}" for name in names}
    # The API reference has the policy of its viewer.
    pages = {url: safe(caller.get(url)) for url in urls - {"/docs/api"}}
    pages["/docs/api"] = Page(caller.get("/docs/api").text)
    checked = 0

    for url, page in list(pages.items()):
        assert len(page.ids) == len(set(page.ids)), url
        for link in page.links:
            path, _, anchor = link.partition("#")
            if path.startswith(("http://", "https://")):
                continue
            target = pages.get(path or url)
            if target is None:
                # Not all files are text, which `caller` expects.
                assert TestClient(caller.app).simulate_get(path).status_code == 200, (url, link)
                pages.setdefault(path, Page(""))
            elif anchor:
                assert anchor in target.ids, (url, link)
            checked += 1

    assert checked > 500


def test_contents_have_every_page(caller: Caller, project: Path) -> None:
    """The contents, which are the site's menu, list every page once; so does the menu of the static site."""
    contents = locate_documentation().read_contents()
    listed = [link.target for _, links in contents for link in links]
    pages = [f"/docs/{name}" for name in locate_documentation().list_names() if name != "index"]
    menu = (project / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]

    assert sorted(listed) == sorted(pages)
    for heading, links in contents:
        assert f"- {heading}:\n" in menu
        for link in links:
            assert f"- {link.title}: {link.target.removeprefix('/docs/')}.md\n" in menu
    assert menu.count(".md\n") == len(listed) + 1  # and index.md
    shown = safe(caller.get("/docs")).links
    assert set(listed) <= set(shown)


def test_caches_are_asked(caller: Caller) -> None:
    """A page has an ETag; a caller that has this version gets a 304 without a body; HEAD has no body."""
    for path in ("/docs", "/docs/settings", "/docs/assets/docs.css", "/docs/images/flow.svg"):
        full = caller.get(path)
        again = caller.get(path, headers={"If-None-Match": full.headers["ETag"]})
        other = caller.get(path, headers={"If-None-Match": '"other"'})
        head = caller.call("HEAD", path)

        assert (full.status_code, again.status_code, other.status_code, head.status_code) == (
            200,
            304,
            200,
            200,
        )
        assert full.headers["Cache-Control"] == "no-cache"
        assert (again.content, head.content) == (b"", b"")
        assert head.headers["ETag"] == full.headers["ETag"]


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/docs/limits.md", "/docs/limits"),
        ("/docs/limits.html", "/docs/limits"),
        ("/docs/index.md", "/docs"),
    ],
)
def test_other_names_of_a_page(caller: Caller, path: str, location: str) -> None:
    """A page's file name, as messages write it, leads to the page."""
    moved = caller.get(path)

    assert moved.status_code == 301
    assert moved.headers["Location"] == location


@pytest.mark.parametrize(
    "path",
    [
        "/docs/no-such-page",
        "/docs/no-such-page.md",
        "/docs/../pyproject.toml",
        "/docs/..%2fpyproject.toml",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/docs/images/../../README.md",
        "/docs/.hidden",
        "/docs/assets/../library.py",
        "/docs/a%00b",
        "/docs/" + "a" * 500,
        "/docs/images",
    ],
)
def test_no_other_files(caller: Caller, path: str) -> None:
    """Other paths get a page with status 404 that leads on; no file outside the folder is served."""
    answer = caller.get(path)

    assert answer.status_code == 404
    assert "<h1>Page not found</h1>" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_missing_page_suggests_sections(caller: Caller) -> None:
    """The page for an unknown address shows sections that have its words."""
    answer = caller.get("/docs/delivery-reports")

    assert answer.status_code == 404
    assert "/docs/provider#delivery-reports" in Page(answer.text).links


def test_search(caller: Caller) -> None:
    """A search finds sections that have all words, best first, and escapes what was entered."""
    hits = safe(caller.get("/docs/search", params={"q": "delivery REPORTS"}))
    nothing = caller.get("/docs/search", params={"q": "<script>alert(1)</script>"})
    empty = caller.get("/docs/search")

    found = [link for link in hits.links if "#" in link and link.startswith("/docs/")]
    assert "/docs/provider#delivery-reports" in found[:3]
    assert (nothing.status_code, empty.status_code) == (200, 200)
    assert "<script>alert" not in nothing.text
    assert "No section has all words" in nothing.text


def test_setting_can_be_searched(caller: Caller) -> None:
    """The name of a setting leads to the page of the settings."""
    assert "/docs/settings" in caller.get("/docs/search", params={"q": "OTPQUEUE_DAILY_CAP"}).text


def test_sections(library: DocumentationLibrary) -> None:
    """A hit names page and heading, with the text around the word."""
    hit = library.find_sections("pears")[0]

    assert (hit.page, hit.section, hit.url) == ("First page", "Pears & plums", "/docs/first#pears--plums")
    assert (hit.before, hit.match, hit.after) == ("Some ripe ", "pears", ".")
    assert library.find_sections("pears apples") == []
    assert library.find_sections("   ") == []


def test_changed_page_is_rendered_again(library: DocumentationLibrary, tmp_path: Path) -> None:
    """A writer sees a change without a restart."""
    before = library.find_page("first")
    (tmp_path / "first.md").write_text("# Second title\n")
    os.utime(tmp_path / "first.md", ns=(1, 1))
    after = library.find_page("first")

    assert before is not None
    assert after is not None
    assert (before.title, after.title) == ("First page", "Second title")


def test_examples_are_text(library: DocumentationLibrary) -> None:
    """A browser shows an example and does not run it; files of other types are not served."""
    for name in ("examples/shop.py", "examples/shop.js"):
        file = library.find_file(name)
        assert file is not None
        assert file.media_type == "text/plain; charset=utf-8"
    assert library.find_file("secret.key") is None
    assert library.find_page(".hidden") is None


def test_link_out_of_the_folder(library: DocumentationLibrary, tmp_path: Path) -> None:
    """A symbolic link does not lead out of the folder."""
    (tmp_path / "out.md").symlink_to("/etc/hostname")

    assert library.find_page("out") is None


def test_markdown() -> None:
    """Headings get distinct anchors, links lead to the site, long names break, and HTML is escaped."""
    page = render_page(
        "# A & B\n\n## Twice\n\n## Twice\n\n[x](limits.md#windows) [y](https://example.com) [z](#twice)\n\n"
        "![flow](images/flow.svg)\n\n| a |\n|---|\n| `B_C` |\n\n<script>alert(1)</script>\n\n"
        "```sh\na\n# b <c>\necho # d\n```\n"
    )

    assert page.title == "A & B"
    assert [section.anchor for section in page.sections] == ["a--b", "twice", "twice-1"]
    html = str(page.html)
    assert '\n<span class="comment"># b &lt;c&gt;</span>\necho # d\n' in html
    assert 'href="/docs/limits#windows"' in html
    assert 'href="https://example.com"' in html
    assert 'href="#twice"' in html
    assert '<a href="/docs/images/flow.svg"><img src="/docs/images/flow.svg"' in html
    assert '<div class="table"' in html
    assert "<code>B_<wbr>C</code>" in html
    assert "<script>" not in html


@pytest.mark.parametrize(
    ("target", "folder", "url"),
    [
        ("index.md", "", "/docs"),
        ("../limits.md#a", "examples", "/docs/limits#a"),
        ("shop.py", "examples", "/docs/examples/shop.py"),
        ("/console", "", "/console"),
        ("mailto:a@example.com", "", "mailto:a@example.com"),
    ],
)
def test_links(target: str, folder: str, url: str) -> None:
    """A link in a page is resolved from the page's folder."""
    assert resolve_link(target, folder=folder) == url


def test_anchor() -> None:
    """An anchor is GitHub's."""
    assert make_anchor("The `.env` file") == "the-env-file"
