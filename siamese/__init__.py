"""Train embedding networks on labelled images, and study how they are trained."""

__version__ = "0.1.0"
