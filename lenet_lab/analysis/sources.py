"""The package's source code, as a notebook shows it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import Markdown

# Markdown, because GitHub highlights code in it, but removes the style sheet that IPython's `Code` needs. The `div` is
# for nbconvert, whose own style sheet gives code in an output the font of the text around it.
PAGE = """\
<div style="font: var(--jp-code-font-size, 13px) / 1.3 var(--jp-code-font-family, monospace)">

```python
{}
```

</div>"""


def show_source(*objects: Callable[..., Any]) -> Markdown:
    """Show source code, highlighted and in a monospace font, in Jupyter, on GitHub and in nbconvert's HTML.

    Of a docstring, only the summary is shown.

    Parameters
    ----------
    *objects : function or class
        In the order in which to show them.

    Returns
    -------
    IPython.display.Markdown

    Examples
    --------
    >>> show_source(weight_variable, bias_variable)
    <IPython.core.display.Markdown object>
    """
    from IPython.display import Markdown  # only notebooks need it

    return Markdown(PAGE.format("\n\n".join(map(_with_summary, objects)).rstrip("\n")))


def _with_summary(shown: Callable[..., Any]) -> str:
    """The source of a function or class, with the first line of its docstring in place of the whole."""
    lines = inspect.getsource(shown).splitlines(keepends=True)
    definition = ast.parse("".join(lines)).body[0]
    assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
    docstring = definition.body[0]
    if ast.get_docstring(definition) and docstring.end_lineno != docstring.lineno:
        lines[docstring.lineno - 1 : docstring.end_lineno] = [lines[docstring.lineno - 1].rstrip() + '"""\n']
    return "".join(lines)
