"""Names in the product."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path


def test_class_names_are_unique(project: Path) -> None:
    """A class name occurs once, so that a search for it finds one thing."""
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((project / "otpqueue").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                modules[node.name].append(str(path.relative_to(project)))

    assert len(modules) > 300
    assert {name: places for name, places in modules.items() if len(places) > 1} == {}


LONGEST = 300
"""Lines of a module that is not justified."""


def test_long_modules_are_justified(project: Path) -> None:
    """A long module says in its docstring why it is not split: `One module because ...`."""
    texts = {path: path.read_text(encoding="utf-8") for path in (project / "otpqueue").rglob("*.py")}

    long = {path: text for path, text in texts.items() if text.count("\n") > LONGEST}
    unjustified = [
        str(path.relative_to(project))
        for path, text in long.items()
        if "One module because" not in (ast.get_docstring(ast.parse(text)) or "")
    ]

    assert len(texts) > 300
    assert unjustified == []
