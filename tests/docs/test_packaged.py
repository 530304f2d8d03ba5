"""The documentation is in the wheel and in the image, so that every API serves it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from otpqueue.api.documentation.library import locate_documentation


@pytest.fixture
def included(project: Path) -> dict[str, str]:
    """Return the folders that the build copies into the wheel."""
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    targets = tomllib.loads(text)["tool"]["hatch"]["build"]["targets"]
    found: dict[str, str] = targets["wheel"]["force-include"]
    assert set(found) <= set(targets["sdist"]["include"])
    return found


def test_wheel_has_the_documentation(included: dict[str, str], project: Path) -> None:
    """The wheel has the folder `docs` where the API looks for it."""
    assert included["docs"] == "otpqueue/_docs"
    source = (project / "otpqueue/api/documentation/library.py").read_text(encoding="utf-8")
    assert '"_docs"' in source
    assert locate_documentation().exists


def test_image_is_built_with_all_folders(included: dict[str, str], project: Path) -> None:
    """The Dockerfile copies each folder that the build needs, and .dockerignore does not exclude it."""
    dockerfile = (project / "Dockerfile").read_text(encoding="utf-8")
    copied = set(re.findall(r"^COPY (\w+) \./\1$", dockerfile, re.MULTILINE))
    rules = (project / ".dockerignore").read_text(encoding="utf-8").split()

    assert set(included) <= copied
    for folder in included:
        assert folder not in rules
        assert "*" not in rules or f"!{folder}" in rules
