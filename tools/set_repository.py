"""Write the repository's address on GitHub into badges and first cells: python tools/set_repository.py OWNER/NAME.

Nothing in the repository knows this address. Call this once it has one, then `make student`, and commit.
"""

import re
import sys
from pathlib import Path

import nbformat

from lenet_lab.notebooks import ALL_NOTEBOOKS, NOTEBOOKS, made_from
from lenet_lab.paths import whole_file

ROOT = Path(__file__).parent.parent
NAME = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9])*/(?!\.\.?$)[A-Za-z0-9._-]+")  # GitHub's rule
ADDRESS = re.compile(r'(LENET_LAB_SOURCE", ")[^"]*(")')
BADGES = re.compile(r"(<!-- badges -->\n).*?(<!-- /badges -->)", re.DOTALL)


def set_repository(repository, folder=ROOT):
    """Put the badges and the address of `repository`, such as "ada/lenet_lab", into the files below `folder`."""
    repository = repository.removesuffix(".git")
    if not NAME.fullmatch(repository):
        sys.exit(f"{repository!r} is no repository on GitHub, expected OWNER/NAME")
    for name in ALL_NOTEBOOKS:
        path = folder / "notebooks" / name
        notebook = nbformat.read(path, 4)
        title, install = notebook.cells[:2]
        fresh = notebook.metadata["lenet_lab"]["made_from"] == made_from(notebook)
        title.source = with_badges(title.source, open_badges(repository, name))
        install.source = ADDRESS.sub(rf"\1https://github.com/{repository}\2", install.source)
        if fresh:  # where lenet_lab is installed, the first cell does nothing, so the outputs are still of this code
            notebook.metadata["lenet_lab"]["made_from"] = made_from(notebook)
        with whole_file(path) as part:
            nbformat.write(notebook, part)
    readme = folder / "README.md"
    workflow = f"https://github.com/{repository}/actions/workflows/tests.yml"
    tests = f"[![tests]({workflow}/badge.svg)]({workflow})"
    content = with_badges(readme.read_text("utf-8"), [tests, *open_badges(repository, NOTEBOOKS[0])])
    with whole_file(readme) as part:
        part.write_text(content, "utf-8")


def open_badges(repository, name):
    """The badges that open a notebook on Colab and on Binder."""
    colab, binder = "https://colab.research.google.com", "https://mybinder.org"
    on_colab = f"{colab}/github/{repository}/blob/main/notebooks/{name}"
    on_binder = f"{binder}/v2/gh/{repository}/main?urlpath=lab/tree/notebooks/{name}"
    return [
        f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({on_colab})",
        f"[![Open in Binder]({binder}/badge_logo.svg)]({on_binder})",
    ]


def with_badges(text, badges):
    """Put badges between the two comments that mark their place."""
    text, places = BADGES.subn(lambda place: place[1] + "\n".join(badges) + "\n" + place[2], text)
    if places != 1:
        sys.exit(f"There are {places} places for badges in a file that begins {text[:40]!r}, expected one")
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    set_repository(sys.argv[1])
