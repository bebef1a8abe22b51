"""Records founders in argv[1], publishing after each argv[2], until killed or out of disk."""

import sys
from pathlib import Path

from journal import IDENTITY, founded

from population.errors import LineageError
from population.lineage import DuckLineage

if __name__ == "__main__":
    try:
        with DuckLineage.open(Path(sys.argv[1]), IDENTITY) as lineage:
            while True:
                lineage.record(founded(lineage.seq + 1))
                print(lineage.seq, flush=True)
                if lineage.seq % int(sys.argv[2]) == 0:
                    lineage.publish()
    except LineageError as error:
        print(f"LineageError: {error}", flush=True)
