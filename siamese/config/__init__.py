"""What a run is asked to be: the schema of a configuration, its checks, and what it names to be built.

Nothing here imports torch.
"""
