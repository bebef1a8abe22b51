import json
from pathlib import Path

SLOPE = 0.6  # -2..2
BEND = -0.05  # -1..1


def coefficients():
    return [0.0, SLOPE, 0.0, BEND]


Path("coefficients.json").write_text(json.dumps(coefficients()))
