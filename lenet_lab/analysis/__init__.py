"""Looking at a run: what TensorBoard shows, what inference costs, mistakes, results and figures."""
