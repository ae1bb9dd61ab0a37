"""What mkdocs is told beyond mkdocs.yml.

The site has the folders of the repository, so that a relative link leads to the same place in the
site and on GitHub.
"""

import logging
import re
from html import unescape
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE",
    "requirements.lock", "docs/**/*", "examples/**/*", "benchmarks/RESULTS.md",
    "benchmarks/results/*", "agents/pretrained/README.md",
)  # fmt: skip
"""Pages, pictures and files that pages lead to."""
logger = logging.getLogger("mkdocs.hooks")
"""What it warns of fails the strict build."""


def on_files(files: Files, config: Any) -> Files:
    """Put ``SOURCES`` in the place of what mkdocs found below docs/."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        if path.is_file() and path != Path(__file__) and "__pycache__" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show the name of the file that a block of code is to be kept in, ``file=`` in the sources."""
    return re.sub(r"^```(\w+) file=(\S+)$", r'```\1 title="\2"', markdown, flags=re.MULTILINE)


def on_page_content(html: str, page: Any, **_: Any) -> None:
    """Warn of what mkdocstrings shows without a docstring."""
    for name in undocumented(html):
        logger.warning("%s: %s has no docstring", page.file.src_uri, name)


def undocumented(html: str) -> list[str]:
    """Names of the objects of a page whose contents are empty."""
    parts = re.split(r'<h\d id="([^"]+)" class="doc doc-heading">', html)[1:]
    empty = r'<div class="doc doc-contents[^"]*">\s*(</div>|<div class="doc doc-children">)'
    return [
        unescape(name)
        for name, contents in zip(parts[::2], parts[1::2], strict=True)
        if re.search(empty, contents)
    ]


class OwnAffairs(griffe.Extension):
    """Hides dunder methods, type variables, and undocumented attributes that a method sets.

    Also functions of other modules that a class has as methods: they are shown where they are.
    """

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Called by griffe for every function it has found."""
        if func.name.startswith("__") and func.name != "__init__":
            func.public = False

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called by griffe for every attribute it has found."""
        methods = attr.parent.functions.values() if attr.parent.is_class else ()
        is_set_by_method = any(each.lineno <= attr.lineno <= each.endlineno for each in methods)
        is_type_variable = str(attr.value).startswith("TypeVar(")
        is_taken = bool(re.fullmatch(r"(property\()?[a-z_]\w*\.[a-z_]\w*\)?", str(attr.value)))
        if not attr.docstring and (is_set_by_method or is_type_variable or is_taken):
            attr.public = False
