"""Image files as pixels: one, and many in worker processes.

Nothing here imports torch, so that a worker starts in a fraction of a second.
"""
