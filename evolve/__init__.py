"""The face: commands, configuration, progress, export; it builds every adapter and passes it in."""
