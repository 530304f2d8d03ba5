"""Mentions of documentation pages in the console become links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otpqueue.api.documentation.library import locate_documentation
from otpqueue.console.documentation_links import link_mentions

MENTION = re.compile(r"(?<![\w/.-])docs/([a-z0-9-]+)\.md(?:#([\w-]+))?")


@pytest.mark.parametrize(
    ("html", "linked"),
    [
        ("See docs/limits.md.", 'See <a href="/docs/limits">docs/limits</a>.'),
        ("(docs/alerts.md#queue_age)", '(<a href="/docs/alerts#queue_age">docs/alerts</a>)'),
        ('<p title="docs/a.md">docs/b.md</p>', '<p title="docs/a.md"><a href="/docs/b">docs/b</a></p>'),
        ('<a href="/x">docs/<b>a</b> docs/b.md</a>', '<a href="/x">docs/<b>a</b> docs/b.md</a>'),
        ("https://example.com/docs/a.md mydocs/a.md", "https://example.com/docs/a.md mydocs/a.md"),
        ("docs/&lt;script&gt;.md", "docs/&lt;script&gt;.md"),
    ],
)
def test_mentions_become_links(html: str, linked: str) -> None:
    """Only text outside of tags and links changes."""
    assert link_mentions(html) == linked


def test_mentions_lead_to_pages(project: Path) -> None:
    """Each page that the package mentions is in docs/, and has the heading that is named."""
    mentions = {
        match.groups()
        for suffix in ("py", "html", "sql")
        for file in (project / "otpqueue").rglob(f"*.{suffix}")
        for match in MENTION.finditer(file.read_text(encoding="utf-8"))
    }

    assert len(mentions) > 5
    library = locate_documentation()
    for page, anchor in mentions:
        found = library.find_page(page)
        assert found is not None, page
        assert anchor is None or anchor in {section.anchor for section in found.sections}, (page, anchor)
