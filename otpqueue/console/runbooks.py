"""The runbooks: what to do about each alert, from the same text as docs/alerts.md.

They need no login: the text is public documentation and shows nothing of the deployment's state. A link in a
notification must open at once, also on a phone that was never logged in, and while Postgres is down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import falcon
from markupsafe import Markup, escape

import otpqueue
from otpqueue.console.layout import ConsolePage
from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alert_runbook import URGENT, todo
from otpqueue.domain.errors import RequestNotFound

HERE = "/console/runbooks"

_PACKAGE = Path(otpqueue.__file__).parent
_DOCUMENTS = (_PACKAGE / "_docs" / "alerts.md", _PACKAGE.parent / "docs" / "alerts.md")
"""In an installed package, and in a working copy."""

_SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_LABEL = re.compile(r"\*([A-Z][a-z ]+)\*: ")
_MARKS = re.compile(r"`([^`]+)`|\[([^\]]+)\]\([^)]+\)|\*([^*]+)\*")


@dataclass(frozen=True)
class RunbookParagraph:
    """A paragraph of a runbook."""

    label: str | None
    """`Causes`, `What to do` or `Tune`; None for what the alert means."""
    text: Markup


@cache
def read_runbooks() -> dict[str, tuple[RunbookParagraph, ...]]:
    """Return the sections of docs/alerts.md by name, empty if the document is not installed."""
    for path in _DOCUMENTS:
        if path.is_file():
            return parse_runbooks(path.read_text(encoding="utf-8"))
    return {}


def parse_runbooks(document: str) -> dict[str, tuple[RunbookParagraph, ...]]:
    """Return the paragraphs of each section with a heading of the third level."""
    return {
        name: tuple(_parse_paragraph(" ".join(one.split())) for one in text.strip().split("\n\n"))
        for name, text in _SECTION.findall(document)
    }


def _parse_paragraph(text: str) -> RunbookParagraph:
    label = _LABEL.match(text)
    text = text[label.end() :] if label else text
    return RunbookParagraph(label[1] if label else None, _mark_up(text[:1].upper() + text[1:]))


def _mark_up(text: str) -> Markup:
    """Return escaped HTML of a paragraph, with code and emphasis. The names of rules are links."""
    parts, position = [], 0
    for found in _MARKS.finditer(text):
        parts.append(escape(text[position : found.start()]))
        code, link, emphasis = (escape(group or "") for group in found.groups())
        if code and str(code) in RULES:
            parts.append(Markup('<a href="{}/{}"><code>{}</code></a>').format(HERE, code, code))
        elif code:
            parts.append(Markup("<code>{}</code>").format(code))
        else:
            parts.append(Markup("<em>{}</em>").format(emphasis) if emphasis else link)
        position = found.end()
    return Markup("").join([*parts, escape(text[position:])])


@dataclass(frozen=True, kw_only=True)
class RunbookListPage(ConsolePage):
    """`/console/runbooks`: every runbook."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - the router's names
        """Show the list."""
        others = [name for name in read_runbooks() if name not in RULES]
        self.layout.render(resp, "runbooks.html", rules=RULES, urgent=URGENT, others=others)


@dataclass(frozen=True, kw_only=True)
class RunbookPage(ConsolePage):
    """`/console/runbooks/{rule}`: the runbook of one rule, of otpqueue or of Prometheus."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, rule: str) -> None:  # noqa: ARG002
        """Show the runbook."""
        paragraphs = read_runbooks().get(rule, ())
        own = RULES.get(rule)
        if own is None and not paragraphs:
            self.layout.show_error(resp, RequestNotFound())
            return
        self.layout.render(
            resp,
            "runbook.html",
            name=rule,
            title=own.title if own else rule,
            urgent=rule in URGENT,
            known=own is not None,
            todo=todo(rule) if own else None,
            paragraphs=paragraphs,
        )
