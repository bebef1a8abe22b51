import json
from pathlib import Path

SLOPE = 0.6  # 0..1.2
BEND = -0.05  # -0.2..0


def coefficients():
    return [0.0, SLOPE, 0.0, BEND]


Path("coefficients.json").write_text(json.dumps(coefficients()))
