"""What scripts/benchmark.py measures, a file for each subject."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"

os.environ.setdefault(HUGE_PAGES, "1")  # as train.py does, before torch reads it
sys.path.insert(0, str(ROOT))
