"""The package's source code, as a notebook shows it."""

from __future__ import annotations

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

    return Markdown(PAGE.format("\n\n".join(map(inspect.getsource, objects)).rstrip("\n")))
