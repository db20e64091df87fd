"""The notebooks as pages: small enough for GitHub, and in nbconvert's HTML with all code whole, monospace, coloured."""

import ast
import importlib
import re
from pathlib import Path

import browser
import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter
from nbconvert import HTMLExporter

from lenet_lab.analysis.sources import show_source

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("student/*.ipynb")])
FIGURES = sorted(path for path in (ROOT / "MNIST_figures").iterdir() if path.is_file())
LINE_LENGTH = int(re.search(r"\nline-length = (\d+)\n", (ROOT / "notebooks" / "ruff.toml").read_text("utf-8"))[1])


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def cells(path, kind):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def shown_sources():
    """The objects whose source a committed notebook shows, by name."""
    shown = {}
    for path in PAGES:
        modules = {}
        for node in ast.walk(ast.parse("\n".join(cell.source for cell in cells(path, "code")))):
            if isinstance(node, ast.ImportFrom):
                modules |= {alias.name: node.module for alias in node.names}
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "show_source":
                names = [argument.id for argument in node.args]
                shown |= {name: getattr(importlib.import_module(modules[name]), name) for name in names}
    return shown


def too_long(text):
    return [line for line in text.splitlines() if len(line) > LINE_LENGTH]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_github_shows_a_notebook_of_this_size(path):
    assert path.stat().st_size < 600_000  # near a megabyte it gives up


@pytest.mark.parametrize("path", FIGURES, ids=name_of)
def test_a_committed_figure_is_small(path):
    assert path.stat().st_size < (1_000_000 if path.suffix == ".gif" else 150_000)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_line_of_code_in_a_notebook_is_too_long(path):
    fences = [fence for cell in cells(path, "markdown") for fence in re.findall("```.*?```", cell.source, re.DOTALL)]
    assert not too_long("\n".join([*(cell.source for cell in cells(path, "code")), *fences]))


def test_no_line_of_a_source_that_a_notebook_shows_is_too_long():
    shown = shown_sources()
    assert {"build_lenet5", "iterate", "SharpnessAware"} <= set(shown)
    assert not too_long(show_source(*shown.values()).data)


def add(a, b):
    """Add two numbers.

    Of a docstring, only the summary is shown.
    """
    return a + b


def test_a_source_is_a_fence_of_its_own_where_style_is_removed_as_on_github():
    lines = show_source(add, add).data.splitlines()
    assert [line for line in lines if line.startswith(("<", "```"))] == [lines[0], "```python", "```", "</div>"]
    fence = slice(lines.index("```python") - 1, lines.index("```") + 2)
    assert lines[fence][0] == lines[fence][-1] == ""  # else it would be part of the `div`, which is not Markdown
    assert [line for line in lines[fence] if "def add" in line] == ["def add(a, b):"] * 2
    assert lines.count('    """Add two numbers."""') == 2 and "only the summary" not in "".join(lines)


@pytest.fixture(scope="module")
def page(needs_browser, tmp_path_factory):
    """All code of the notebooks on one page: their cells, then the sources that they show."""
    notebook = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}})
    data, metadata = DisplayFormatter().format(show_source(*shown_sources().values()))
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
    shows = nbformat.v4.new_code_cell("show_source(...)", execution_count=1, outputs=[output])
    notebook.cells = [nbformat.v4.new_code_cell(cell.source) for path in PAGES for cell in cells(path, "code")]
    texts = [cell.source for path in PAGES for cell in cells(path, "markdown") if "```" in cell.source]
    notebook.cells += [*map(nbformat.v4.new_markdown_cell, texts), shows]
    html, _ = HTMLExporter().from_notebook_node(notebook)
    path = tmp_path_factory.mktemp("pages") / "notebook.html"
    path.write_text(html, "utf-8")
    with browser.page() as page:
        page.route("http*://**", lambda route: route.abort())  # MathJax, which code does not need
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        yield page


@pytest.mark.browser
def test_a_shown_source_is_highlighted_and_monospace(page):
    source = page.locator(".jp-OutputArea-output pre")
    assert "def build_lenet5(" in source.inner_text()
    keyword = source.locator("span.k", has_text="return").first
    style = "(element, name) => getComputedStyle(element)[name]"
    cell = page.locator(".jp-InputArea pre").first
    for name in ("fontFamily", "fontSize"):
        assert keyword.evaluate(style, name) == source.evaluate(style, name) == cell.evaluate(style, name)
    assert keyword.evaluate(style, "fontFamily").endswith("monospace")
    assert keyword.evaluate(style, "color") != source.evaluate(style, "color")


@pytest.mark.browser
@pytest.mark.parametrize("width", [960, 1200])
def test_no_line_of_code_is_cut_or_broken(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    blocks = page.locator("pre").evaluate_all(
        """blocks => blocks.map(block => ({
            text: block.textContent,
            hidden: block.scrollWidth - block.clientWidth,
            lines: block.textContent.replace(/\\n$/, "").split("\\n").length,
            seen: block.clientHeight / parseFloat(getComputedStyle(block).lineHeight),
        }))"""
    )
    assert len(blocks) > len(PAGES)
    for block in blocks:
        assert block["hidden"] <= 0, block["text"]
        assert block["seen"] == pytest.approx(block["lines"], abs=0.7), block["text"]
