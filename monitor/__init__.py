"""The ganwatch daemon and the model kernel it shares with training.

Nothing in this package imports TensorFlow, pandas or `training`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ganwatch")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
