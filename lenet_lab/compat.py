"""The one place that imports TensorFlow: `tf` is `tensorflow.compat.v1` with version 2 behaviour off.

`timeline` is TensorFlow 1's own maker of Chrome traces, which lives outside the public names.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# A value set outside wins over each of these.
# Without this, TensorFlow leaves Intel's oneDNN off on processors that lack AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# No notes on CUDA or processor flags; TensorFlow's errors reach Python as exceptions anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keep what is written to file descriptor 2 to show it only if the block fails.

    On a machine without CUDA, TensorFlow's libraries say so as they load, before
    the log level above is obeyed.
    """
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)


with _stderr_held_back():
    import tensorflow.compat.v1 as tf

    # Switching version 2 off logs that its opposite is deprecated: no news to a lab in TensorFlow 1.
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.WARN)
    from tensorflow.python.client import timeline
    from tensorflow.python.util import _pywrap_util_port

if not _pywrap_util_port.IsMklEnabled():
    print(
        "TensorFlow runs without oneDNN, by its settings or for lack of a processor that it knows: training takes some "
        "times as long. (Where another module imports tensorflow, import lenet_lab before it.)",
        file=sys.stderr,
    )

__all__ = ["tf", "timeline"]
