"""The run directory: its only writer, its only reader, who holds it, and where it comes from.

Nothing here imports torch at module level, and nothing that a run directory holds is executed.
"""
