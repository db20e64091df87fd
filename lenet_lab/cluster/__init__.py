"""Several machines: TensorFlow's own servers, training on them, and what it costs. The lab does not need this."""
