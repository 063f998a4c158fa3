"""The feature repository. ``feast -c feature_repo`` loads its modules by bare name, so they import each other that way;
the line below makes the same names resolve for ``import feature_repo.views``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
