"""`python -m kd_gui`: open the window."""

from __future__ import annotations

import sys

from kd_gui.app import main

sys.exit(main())
