"""The page about a run: the same one as a file (`evolve report`) and live (`evolve ui`)."""
