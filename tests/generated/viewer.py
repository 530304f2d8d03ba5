"""Copy Scalar, the viewer of the API reference, from an npm folder into the package, with all licences.

npm install --prefix FOLDER @scalar/api-reference@VERSION
python -m tests.generated.viewer FOLDER
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any

PACKAGE = "@scalar/api-reference"
TARGET = Path(__file__).parents[2] / "otpqueue" / "api" / "viewer"
_SCALAR = """\
MIT License

Copyright (c) 2023-present Scalar

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE."""
"""The licence in Scalar's repository, which its npm packages do not contain."""


def copy_viewer(modules: Path) -> None:
    """Write the script, compressed, its version and hash, and the licences of all that is bundled in it."""
    folder = modules / PACKAGE
    script = (folder / "dist" / "browser" / "standalone.js").read_bytes()
    TARGET.mkdir(exist_ok=True)
    (TARGET / "scalar.js.gz").write_bytes(gzip.compress(script, 9, mtime=0))
    version, digest = _read_package(folder)["version"], sha256(script).hexdigest()
    facts = json.dumps({"package": PACKAGE, "version": version, "sha256": digest}, indent=1)
    (TARGET / "scalar.json").write_text(f"{facts}\n", encoding="utf-8")
    (TARGET / "LICENSES.txt").write_text(collect_licences(modules), encoding="utf-8")


def collect_licences(modules: Path) -> str:
    """Return the licence of each package that the script contains, according to its source map."""
    sources = json.loads((modules / PACKAGE / "dist" / "browser" / "standalone.js.map").read_text())[
        "sources"
    ]
    inside = (re.findall(r"node_modules/((?:@[^/]+/)?[^/]+)/", source) for source in sources)
    by_text: dict[str, list[str]] = defaultdict(list)
    by_text[_SCALAR].append(PACKAGE)
    for name in sorted({found[-1] for found in inside if found}):
        text = _find_licence(modules / name)
        by_text[text].append(name)
    parts = [f"{', '.join(names)}\n\n{text}\n" for text, names in by_text.items()]
    return f"\n{'-' * 80}\n".join(parts)


def _find_licence(folder: Path) -> str:
    for file in sorted(folder.iterdir()):
        if file.is_file() and re.match(r"licen[cs]e|copying", file.name, re.IGNORECASE):
            return "\n".join(line.rstrip() for line in file.read_text(encoding="utf-8").strip().splitlines())
    about = _read_package(folder)
    return f"Licence: {about['license']}, according to its package.json. Source: {about.get('repository')}"


def _read_package(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    return about


if __name__ == "__main__":
    copy_viewer(Path(sys.argv[1]) / "node_modules")
