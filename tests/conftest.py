"""What holds for every test."""

import os

# Tests run side by side on all cores, and threads that wait for a core by spinning cost a multiple
# of the work; the libraries read this when they are loaded.
for library in ("OPENBLAS", "MKL", "OMP"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
