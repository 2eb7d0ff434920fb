"""From run directories to tables, tests and one offline page.

One direction: reading (directories to runs) → grouping (runs to groups and pairs) → statistics
(paired differences to a verdict) → comparison (all of it for one command) → tables and page.
Nothing here imports torch, and nothing that a run directory holds is executed.
"""
