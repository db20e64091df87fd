"""Tables in Markdown."""

from collections.abc import Sequence


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    r"""Lay out rows of text as a Markdown table whose columns are aligned.

    Parameters
    ----------
    rows : sequence of sequences of str
        The heading first; every row has as many cells. A ``|`` in a cell is
        written as ``\|``, so that it does not end the cell.

    Returns
    -------
    str
        The lines of the table, without a line break at the end.

    Raises
    ------
    ValueError
        If there is no heading, or if the rows differ in length.

    Examples
    --------
    >>> print(markdown_table([("layer", "weights"), ("1", "7840")]))
    | layer | weights |
    |-------|---------|
    | 1     | 7840    |
    """
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"the rows have {[len(row) for row in rows]} cells, expected a heading and rows of its length")
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells)]
    heading, *lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return "\n".join([heading, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines])
