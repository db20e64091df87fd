"""Programs written for TensorFlow 1 run as they are: `import tensorflow as tf` gives them version 1.

In a notebook: ``import lenet_lab.tf1; lenet_lab.tf1.install()``, then the old
code. From a shell: ``python -m lenet_lab.tf1 old_program.py``, or a `.ipynb`.
"""

import builtins
import functools
import importlib
import inspect
import os
import sys
import sysconfig
import types

# Keras 2, from the package tf_keras, still has what version 1 built on it: tf.layers, tf.nn.rnn_cell.
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np  # noqa: E402

from lenet_lab.compat import tf as v1  # noqa: E402

LIBRARIES = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep
# What to write instead of what today's TensorFlow has not got, by the name's beginning.
INSTEAD = {
    "contrib.slim": "tf.layers, and a loop over session.run for slim.learning",
    "contrib.layers": "tf.layers",
    "contrib.learn": "tf.keras, or a loop over session.run",
    "contrib.eager": "tf.enable_eager_execution() at the program's start",
    "contrib.data": "tf.data",
    "contrib.seq2seq": "the package tensorflow-addons' successors, or tf.keras",
    "contrib.factorization": "scikit-learn's KMeans",
    "contrib.tensor_forest": "scikit-learn's RandomForestClassifier",
    "contrib.boosted_trees": "scikit-learn's GradientBoostingClassifier",
    "contrib.metrics": "tf.metrics",
    "contrib.losses": "tf.losses",
    "contrib": "what https://www.tensorflow.org/guide/migrate says of it",
    "estimator": "tf.keras, or a loop over session.run",
    "mul": "tf.multiply",
    "sub": "tf.subtract",
    "neg": "tf.negative",
    "pack": "tf.stack",
    "unpack": "tf.unstack",
    "batch_matmul": "tf.matmul",
    "select": "tf.where",
    "inv": "tf.reciprocal",
    "scalar_summary": "tf.summary.scalar",
    "histogram_summary": "tf.summary.histogram",
    "image_summary": "tf.summary.image",
    "merge_summary": "tf.summary.merge",
    "merge_all_summaries": "tf.summary.merge_all",
    "train.SummaryWriter": "tf.summary.FileWriter",
    "nn.rnn": "tf.nn.static_rnn",
    "nn.seq2seq": "tf.keras",
}


class Missing(AttributeError):
    """A name of TensorFlow 1 that can't be had; the message tells what to use in its place."""


class Stand(types.ModuleType):
    """A module as an old program sees it: first our own members, then those of a module of TensorFlow.

    Parameters
    ----------
    path : str
        The name below `tensorflow`, such as ``"contrib.rnn"``; empty for the top.
    members : dict
        What it has of ours.
    behind : module, optional
        What answers for everything else.
    """

    def __init__(self, path: str, members: dict | None = None, behind: types.ModuleType | None = None):
        super().__init__("tensorflow." + path if path else "tensorflow", getattr(behind, "__doc__", None))
        self.__dict__.update(members or {}, _path=path, _behind=behind, __path__=[])

    def __getattr__(self, name: str):
        path = f"{self._path}.{name}".lstrip(".")
        if name.startswith("__") and not hasattr(self._behind, name):
            raise AttributeError(name)
        try:
            value = getattr(self._behind, name)
        except (AttributeError, ImportError) as error:
            raise Missing(missing_message(path)) from error
        if isinstance(value, types.ModuleType) and not path.startswith(("keras", "python", "compat")):
            value = Stand(path, behind=value)  # so that what a submodule lacks is told as well
        self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *(dir(self._behind) if self._behind else ())})


def missing_message(path: str) -> str:
    """One sentence on a name below `tensorflow` that can't be had, and what to use in its place."""
    known = [start for start in INSTEAD if path == start or path.startswith(start + ".")]
    instead = INSTEAD[max(known, key=len)] if known else "its successor in https://www.tensorflow.org/api_docs"
    return f"tf.{path} is not in TensorFlow {v1.VERSION}, nor does lenet_lab.tf1 stand in for it; use {instead}"


def install() -> None:
    """Let code outside of installed libraries import TensorFlow 1; a second call changes nothing.

    From then on, `import tensorflow`, in every form, gives user code the v1 API
    with v2 behaviour off, `tensorflow.examples.tutorials.mnist` and the parts of
    `tensorflow.contrib` that `lenet_lab.tf1.contrib` has. Installed libraries
    (TensorFlow, Keras, TensorBoard) go on importing the real one. NumPy gets back
    names that such programs use and that it has dropped since: `np.float`,
    `np.int`, `np.object`, `np.str`, and `newshape` for `np.reshape`.
    """
    if getattr(builtins.__import__, "of_lenet_lab", False):
        return
    top = _tensorflow_1()
    original = builtins.__import__

    def import_(name, globals=None, locals=None, fromlist=(), level=0):
        asked = level == 0 and (name == "tensorflow" or name.startswith("tensorflow."))
        if not asked or _is_library(globals or {}):
            return original(name, globals, locals, fromlist, level)
        return _import_for_user(top, original, name, fromlist or ())

    import_.of_lenet_lab = True
    builtins.__import__ = import_
    _restore_numpy_names()


def _restore_numpy_names() -> None:
    for kind in (float, int, bool, object, str):
        if kind.__name__ not in np.__dict__:
            setattr(np, kind.__name__, kind)  # as they were: the plain Python types
    if "newshape" not in inspect.signature(np.reshape).parameters:
        reshape = np.reshape

        @functools.wraps(reshape)
        def reshape_(a, *arguments, **options):
            if "newshape" in options:
                arguments = (options.pop("newshape"), *arguments)
            return reshape(a, *arguments, **options)

        np.reshape = reshape_


def _is_library(importer: dict) -> bool:
    file = importer.get("__file__")
    return bool(file) and os.path.realpath(file).startswith((*LIBRARIES, PACKAGE))


def _import_for_user(top: Stand, original, name: str, fromlist: tuple[str, ...]):
    """What an import statement yields: the top module, or with `from` the named one."""
    module = top
    for part in name.split(".")[1:]:
        try:
            module = getattr(module, part)
        except AttributeError as error:
            try:  # a module that only the real TensorFlow has, such as tensorflow.python.framework
                module = original(name, None, None, ("*",), 0)
                break
            except ModuleNotFoundError:
                if isinstance(error, Missing):
                    raise ModuleNotFoundError(str(error), name=name) from None
                raise
    for part in fromlist:
        if part == "*":
            continue
        try:
            getattr(module, part)
        except Missing as error:
            raise ImportError(str(error), name=name) from None
        except AttributeError:  # a submodule of a real module, not yet imported
            original(name, None, None, (part,), 0)
    return module if fromlist else top


def _tensorflow_1() -> Stand:
    from lenet_lab.tf1.contrib import contrib
    from lenet_lab.tf1.examples import examples

    python = importlib.import_module("tensorflow.python")
    members = {"contrib": contrib(), "examples": examples(), "python": python}
    top = Stand("", members, behind=v1)
    for module in _below(top):
        # For importlib and pickle, which look modules up by name.
        sys.modules.setdefault(module.__name__, module)
    return top


def _below(module: Stand) -> list[Stand]:
    own = [value for value in module.__dict__.values() if isinstance(value, Stand)]
    return own + [lower for value in own for lower in _below(value)]
