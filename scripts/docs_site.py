"""What MkDocs calls while it builds the site: formulas become MathML, repository files come along.

mkdocs.yml names this file as a hook; the functions have the names that MkDocs looks for.
"""

import html
import re
from pathlib import Path
from posixpath import normpath
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
# A link out of docs/, to a file of the repository: right where the pages are read beside the code.
OUTSIDE = re.compile(r"\[([^\]]*)\]\((\.\./[^)\s#]+)(?:#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the repository's files that pages link to, below `repository/`."""
    pages = [file for file in files if file.is_documentation_page()]
    linked = {path for page in pages for _, path in OUTSIDE.findall(page.content_string)}
    for path in sorted(linked):
        source = (ROOT / "docs" / path).resolve()
        if not source.exists():
            raise SystemExit(f"docs: a page links to {path}, where there is nothing")
        if source.is_file():
            files.append(File.generated(config, site_name(path), abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links out of docs/ lead to the copies; one to a folder becomes its text."""

    def replace(link: re.Match[str]) -> str:
        is_folder = (ROOT / "docs" / link[2]).is_dir()
        return link[1] if is_folder else f"[{link[1]}]({site_name(link[2])})"

    return OUTSIDE.sub(replace, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Replace each formula by MathML, which browsers draw by themselves."""
    return FORMULA.sub(lambda found: mathml(found[2], found[1] == "div"), content)


def site_name(path: str) -> str:
    r"""`../SECURITY.md` -> `repository/SECURITY.md.txt`: shown as it is, not as a page."""
    name = normpath(path).removeprefix("../")
    return f"repository/{name}.txt" if name.endswith(".md") else f"repository/{name}"


def mathml(formula: str, is_block: bool) -> str:
    r"""MathML of `\(...\)` or `\[...\]`."""
    latex = html.unescape(formula).strip().removeprefix(r"\[").removeprefix(r"\(")
    latex = latex.removesuffix(r"\]").removesuffix(r"\)")
    return convert(latex.strip(), display="block" if is_block else "inline")
