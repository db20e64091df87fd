"""Run programs written for TensorFlow 1 as they are: `import tensorflow as tf` gives them version 1.

In a notebook, put ``import lenet_lab.tf1; lenet_lab.tf1.install()`` above the old
code. From a shell, run ``python -m lenet_lab.tf1 old_program.py``, or the same
with a notebook.
"""

import builtins
import functools
import importlib
import inspect
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lenet_lab.compat import tf as v1
from lenet_lab.tf1.proxy import REPLACEMENTS, Missing, Proxy, missing_message

__all__ = ["REPLACEMENTS", "Missing", "Proxy", "install", "missing_message"]

# Code in these folders, or in any folder of the names below, keeps importing the real TensorFlow.
LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(Path(__file__).parents[1]))
PACKAGE_FOLDERS = {"site-packages", "dist-packages"}  # where pip and Linux distributions install


def install() -> None:
    """Give TensorFlow 1 to user code that imports `tensorflow`; calling this again changes nothing.

    From now on, every form of `import tensorflow` in user code gives the version 1
    API with version 2 behaviour off. It includes `tensorflow.examples.tutorials.mnist`
    and the parts of `tensorflow.contrib` that are in `lenet_lab.tf1.contrib`.
    Installed libraries (TensorFlow, Keras, TensorBoard) still import the real
    TensorFlow.

    NumPy gets back what old programs use and it has dropped since: `np.float`,
    `np.int`, `np.object`, `np.str`, and the argument `newshape` of `np.reshape`.
    """
    if getattr(builtins.__import__, "gives_tensorflow_1", False):
        return
    top = _tensorflow_1()
    original = builtins.__import__

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        is_tensorflow = level == 0 and (name == "tensorflow" or name.startswith("tensorflow."))
        if not is_tensorflow or _is_library(globals or {}):
            return original(name, globals, locals, fromlist, level)
        return _import_for_user(top, original, name, fromlist or ())

    import_.gives_tensorflow_1 = True  # type: ignore[attr-defined]
    builtins.__import__ = import_
    _restore_numpy_names()


def _restore_numpy_names() -> None:
    for kind in (float, int, bool, object, str):
        if kind.__name__ not in np.__dict__:
            setattr(np, kind.__name__, kind)  # they were the plain Python types
    if "newshape" not in inspect.signature(np.reshape).parameters:
        reshape = np.reshape

        @functools.wraps(reshape)
        def reshape_(a: Any, *arguments: Any, **options: Any) -> np.ndarray:
            if "newshape" in options:
                arguments = (options.pop("newshape"), *arguments)
            return reshape(a, *arguments, **options)

        np.reshape = reshape_


def _is_library(importer: Mapping[str, object]) -> bool:
    """Whether the module with these globals is an installed library or part of this package."""
    file = importer.get("__file__")
    if not file:
        return False  # a notebook or a Python shell
    path = Path(os.path.realpath(str(file)))
    if PACKAGE_FOLDERS.intersection(path.parts):
        return True
    return any(path.is_relative_to(os.path.realpath(folder)) for folder in LIBRARIES)


def _import_for_user(
    top: Proxy, original: Callable[..., types.ModuleType], name: str, fromlist: Sequence[str]
) -> types.ModuleType:
    """What an import statement gives: `tensorflow` itself, or with `from` the module that it names."""
    module = _find_module(top, original, name)
    for part in fromlist:
        if part == "*":
            if isinstance(module, Proxy):
                module.load_public_names()
            continue
        try:
            getattr(module, part)
        except Missing as error:
            raise ImportError(str(error), name=name) from None
        except AttributeError:  # a submodule of a real module that is not imported yet
            original(name, None, None, (part,), 0)
    return module if fromlist else top


def _find_module(top: Proxy, original: Callable[..., types.ModuleType], name: str) -> types.ModuleType:
    module: types.ModuleType = top
    for part in name.split(".")[1:]:
        try:
            module = getattr(module, part)
        except AttributeError as error:
            try:  # a module that only the real TensorFlow has, such as tensorflow.python.framework
                return original(name, None, None, ("*",), 0)
            except ModuleNotFoundError:
                if isinstance(error, Missing):
                    raise ModuleNotFoundError(str(error), name=name) from None
                raise
    return module


def _tensorflow_1() -> Proxy:
    from lenet_lab.tf1.contrib import contrib
    from lenet_lab.tf1.examples import examples

    python = importlib.import_module("tensorflow.python")
    top = Proxy("", {"contrib": contrib(), "examples": examples(), "python": python}, fallback=v1)
    for module in _submodules(top):
        # `importlib.import_module` and pickle look modules up by name.
        sys.modules.setdefault(module.__name__, module)
    return top


def _submodules(module: Proxy) -> list[Proxy]:
    """The proxies in a proxy's members, at every depth."""
    children = [value for value in module.__dict__.values() if isinstance(value, Proxy)]
    return children + [below for child in children for below in _submodules(child)]
