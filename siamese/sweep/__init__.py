"""Sweeps: many runs from one command line, each complete in a directory of its own.

``plan`` turns a command line into jobs and their directories, ``job`` runs one of them in a process
of its own wherever a Hydra launcher calls it, ``states`` reads from the directories how they are,
``progress`` shows it, and ``sweep`` holds them together; ``study`` and ``search`` are a search with
Optuna in the same way. Nothing here imports torch: a sweep that has nothing left to do answers in
about a second.
"""
