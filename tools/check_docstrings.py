"""Check the docstrings of the public names against the numpydoc standard, as `make check` does.

Prints one line for each error and exits with 1 if there is any. A name is public if
`lenet_lab.__all__` lists it; of `input_data`, a module, two names count.
"""

import os
import sys

from numpydoc.validate import validate

import lenet_lab

NOT_CHECKED = {"tf", "input_data"}  # TensorFlow itself, and a module
OF_INPUT_DATA = ("input_data.DataSet", "input_data.read_data_sets")
# The codes and their meaning: numpydoc's manual, "Built-in validation checks".
CHECKS = {
    "GL03", "GL06", "GL07", "GL08",  # a docstring without double blank lines; known sections in their order
    "SS01", "SS02", "SS03", "SS06",  # a summary of one line, with a capital letter and a full stop
    "PR01", "PR02", "PR03", "PR04",  # all parameters and no others, in order, each with a type
    "PR05", "PR07", "PR08", "PR09", "PR10",  # each with a description, in sentences
    "RT01", "RT03", "RT04", "RT05", "YD01",  # what is returned or yielded, with a description
    "EX01",  # an example
}  # fmt: skip
EXCEPTIONS = {"Classifier": {"PR01"}}  # a record, whose fields are described where they are declared


def errors(name: str) -> list[str]:
    """One line for each check that a public name fails."""
    found = validate(f"lenet_lab.{name}")
    place = f"{os.path.relpath(found['file'])}:{found['file_line']}"
    checks = CHECKS - EXCEPTIONS.get(name, set())
    return [f"{place}: lenet_lab.{name}: {code} {text}" for code, text in found["errors"] if code in checks]


def main() -> int:
    """Check every public name; return the exit status."""
    names = [name for name in lenet_lab.__all__ if name not in NOT_CHECKED]
    lines = [line for name in (*names, *OF_INPUT_DATA) for line in errors(name)]
    print("\n".join(lines) or f"Docstrings of {len(names) + len(OF_INPUT_DATA)} public names: no errors")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
