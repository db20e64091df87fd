"""Does a committed notebook still show what its code computes? Code is compared by structure, not by its text.

The hash covers the syntax trees of the notebook's code cells and of every module of the package
that they import. It leaves out what computes nothing: comments, docstrings, type hints, the wording
of errors and the names of local variables. It is the same on Python 3.10 to 3.13. Files that code
reads, such as data or a saved model, are not part of it.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import resolve_name
from itertools import chain
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Which field names a variable, in each kind of node that can.
VARIABLE_FIELDS = {
    ast.Name: "id", ast.ExceptHandler: "name", ast.MatchAs: "name", ast.MatchStar: "name", ast.MatchMapping: "rest"
}  # fmt: skip
TYPE_MODULES = {"__future__", "collections.abc", "typing"}  # imported for annotations
READS_NAMES = {"dir", "eval", "exec", "locals", "vars"}  # with one of these, names of variables are computation


def code_hash(cells: Sequence[str], package: Path) -> str:
    """Hash the structure of a notebook's code and of the modules that it imports.

    Parameters
    ----------
    cells : sequence of str
        The source of each code cell, in order.
    package : pathlib.Path
        The folder of the package whose modules count. Its last part is the name to import it by.

    Returns
    -------
    str
        A SHA-256, as 64 hexadecimal digits.

    Raises
    ------
    SyntaxError
        If a cell or a module is not plain Python. Its ``filename`` is "code cell 3" or the module's path.
    """
    # Interactive: a cell shows its last expression, even a lone string, so a string in front is no docstring.
    parsed = [ast.Interactive(ast.parse(cell, f"code cell {number}").body) for number, cell in enumerate(cells, 1)]
    trees = [_OnlyComputation().visit(tree) for tree in parsed]
    modules = reached_modules(trees, package)
    parts = [_structure(tree) for tree in trees]
    parts += [f"{name}: {_structure(tree)}" for name, tree in sorted(modules.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def reached_modules(trees: Iterable[ast.AST], package: Path) -> dict[str, ast.Module]:
    """Find the modules of a package that code imports, directly or through other modules of the package.

    An import counts wherever it stands, even inside a function; one for type checkers alone does not.

    Parameters
    ----------
    trees : iterable of ast.AST
        The code to begin with.
    package : pathlib.Path
        The package's folder.

    Returns
    -------
    dict
        By full name, each module's syntax tree without what computes nothing. Under a package's
        name stands its ``__init__.py``.

    Raises
    ------
    SyntaxError
        If a module is not Python.
    """
    # Names are compared here, since some file systems would take `classifier.py` for `Classifier`.
    paths = {path.relative_to(package.parent).with_suffix("").parts: path for path in package.rglob("*.py")}
    paths = {parts[:-1] if parts[-1] == "__init__" else parts: path for parts, path in paths.items()}
    modules: dict[str, ast.Module] = {}
    waiting = [name for tree in trees for name in _imported_names(tree)]
    while waiting:
        name = waiting.pop()
        path = paths.get(tuple(name.split(".")))
        if path and name not in modules:
            modules[name] = _OnlyComputation().visit(ast.parse(path.read_bytes(), str(path)))
            waiting += _imported_names(modules[name], name if path.stem == "__init__" else name.rpartition(".")[0])
    return modules


def _imported_names(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Yield `a`, `a.b` and `a.b.c` for `import a.b.c` and for `from a.b import c`, where `c` may be a module."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _structure(tree: ast.AST) -> str:
    _number_locals(tree)
    return _dump(tree)


def _dump(value: object) -> str:
    """Write out a tree. The text of `ast.dump` would differ between versions of Python."""
    if isinstance(value, ast.Constant):
        return f"Constant({value.value!a})"  # its other field, `kind`, is the u of u"text"
    if isinstance(value, ast.AST):
        fields = [(name, field) for name, field in ast.iter_fields(value) if field is not None and field != []]
        return f"{type(value).__name__}({', '.join(f'{name}={_dump(field)}' for name, field in fields)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_dump, value))}]"
    return ascii(value)


class _OnlyComputation(ast.NodeTransformer):
    """Removes docstrings, `pass`, the messages of errors, and type hints outside class bodies with their imports."""

    in_class = False

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._visit_body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._visit_body(node, in_class=True)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._visit_body(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _visit_body(
        self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, in_class: bool = False
    ) -> ast.AST:
        if node.body and isinstance(node.body[0], ast.Expr) and _is_string(node.body[0].value):
            del node.body[0]
        outer, self.in_class = self.in_class, in_class
        self.generic_visit(node)
        self.in_class = outer
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST]:
        self.generic_visit(node)
        only_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return list(node.orelse) if only_for_types else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module in TYPE_MODULES else node  # a computation that uses one names it again

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id == "__version__":
            return None  # else each release would make every notebook stale
        return self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if self.in_class:  # a field of a dataclass or NamedTuple
            return node
        return ast.Assign(targets=[node.target], value=node.value) if node.value else None

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        # Python 3.12.1 ends a format with an empty string where other versions do not: f"{x:{width}}"
        node.values = [value for value in node.values if not (isinstance(value, ast.Constant) and value.value == "")]
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [argument for argument in node.exc.args if not _is_text(argument)]
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_text(node: ast.AST) -> bool:
    """Whether an expression is a string, or puts one together: f"{x}", "..." + x, "..." % x, "...".format(x)."""
    match node:
        case ast.BinOp(left, ast.Add() | ast.Mod(), right):
            return _is_text(left) or _is_text(right)
        case ast.Call(ast.Attribute(value)):
            return _is_text(value)
    return isinstance(node, ast.JoinedStr) or _is_string(node)


def _number_locals(tree: ast.AST) -> None:
    """Put a number in place of each local variable's name.

    A variable of a function or comprehension gets one unless its name also stands for something
    else in there. So every use of the name in there means a local variable, and all of them get
    the number. Other names stay: parameters, globals, attributes, fields, imports, functions, classes.
    """
    numbers: dict[tuple[ast.AST, str], int] = {}
    for scope in reversed(list(ast.walk(tree))):  # inner scopes first, so that their own variables have numbers by then
        if isinstance(scope, FUNCTIONS):
            inside: list[ast.AST] = [*scope.body] if isinstance(scope.body, list) else [scope.body]
            variables = _bound_names(inside) - _kept_names([scope.args, *inside])
        elif isinstance(scope, COMPREHENSIONS):
            first = scope.generators[0]  # what it iterates over is evaluated outside
            inside = [child for child in ast.iter_child_nodes(scope) if child is not first] + [first.target, *first.ifs]
            variables = _bound_names([generator.target for generator in scope.generators]) - _kept_names(inside)
        else:
            continue
        for node in _walk(inside):
            name = _variable(node)
            if name in variables:
                setattr(node, VARIABLE_FIELDS[type(node)], numbers.setdefault((scope, name), len(numbers)))


def _walk(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    return chain.from_iterable(map(ast.walk, nodes))


def _variable(node: ast.AST) -> str | None:
    """The name in a node that may name a variable, unless it is a number already."""
    name = getattr(node, VARIABLE_FIELDS[type(node)]) if type(node) in VARIABLE_FIELDS else None
    return name if isinstance(name, str) else None


def _bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that code assigns to, deletes, or binds by `for`, `with`, `except` or `match`."""
    bound = (node for node in _walk(nodes) if not isinstance(getattr(node, "ctx", None), ast.Load))
    return {name for node in bound if (name := _variable(node))}


def _kept_names(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that code, with all that is nested in it, uses for something other than local variables."""
    kept: set[str] = set()
    for node in _walk(nodes):
        match node:
            case ast.arg(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                kept.add(name)
            case ast.ClassDef(name):
                kept |= {name} | _bound_names(node.body)
            case ast.alias(name, alias):
                kept.add(alias or name.partition(".")[0])
            case ast.Global(names) | ast.Nonlocal(names):
                kept.update(names)
            case ast.Name(name) if name in READS_NAMES:
                return {variable for each in _walk(nodes) if (variable := _variable(each))}
    return kept
