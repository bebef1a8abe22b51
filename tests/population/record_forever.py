"""Records founders until it is killed or the disk is full; publishes after every twentieth."""

import sys
from pathlib import Path

from journal import IDENTITY, founded

from population.errors import LineageError
from population.lineage import DuckLineage

if __name__ == "__main__":
    try:
        with DuckLineage.open(Path(sys.argv[1]), IDENTITY) as lineage:
            lineage.publish()
            while True:
                lineage.record(founded(lineage.seq + 1))
                print(lineage.seq, flush=True)
                if lineage.seq % 20 == 0:
                    lineage.publish()
    except LineageError as error:
        print(f"LineageError: {error}", flush=True)
