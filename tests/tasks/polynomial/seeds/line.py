import json
from pathlib import Path

SLOPE = 0.2  # 0..1
OFFSET = 0.1  # -0.5..0.5

Path("coefficients.json").write_text(json.dumps([OFFSET, SLOPE]))
