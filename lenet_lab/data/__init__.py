"""The data on disk: the IDX format, the download of MNIST, and the stand-in digits."""
