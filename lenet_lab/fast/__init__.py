"""The fast path: the training loop runs inside the graph, and each batch is split among the cores.

`lenet_lab.training.choose_loop` is the only place in the lab that imports this.
"""

from lenet_lab.fast.loop import fast_loop

__all__ = ["fast_loop"]
