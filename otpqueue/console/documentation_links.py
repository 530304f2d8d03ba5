"""Turns mentions of documentation pages in the console's pages into links."""

from __future__ import annotations

import re

_TAG = re.compile(r"(<[^>]*>)")
_MENTION = re.compile(r"(?<![\w/.-])docs/([a-z0-9-]+)\.md(#[\w-]+)?")


def link_mentions(html: str) -> str:
    """Return HTML with `docs/limits.md` in its text as a link to `/docs/limits`.

    Tags, and text that is in a link already, are not changed. Values in the text are escaped, so every `<`
    begins a tag.
    """
    parts = _TAG.split(html)
    is_link = False
    for number, part in enumerate(parts):
        if number % 2:
            is_link = part.startswith("<a ") or (is_link and part != "</a>")
        elif not is_link and "docs/" in part:
            parts[number] = _MENTION.sub(r'<a href="/docs/\1\2">docs/\1</a>', part)
    return "".join(parts)
