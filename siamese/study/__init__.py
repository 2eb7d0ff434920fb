"""Studies: a plan that is settled before its runs, the rows of those runs, and what they say of each claim.

``plan`` reads plan.yaml and says which runs it asks for, ``rows`` makes runs.csv of run directories, ``verdicts`` holds
the rows against the claims. Nothing here imports torch.
"""
