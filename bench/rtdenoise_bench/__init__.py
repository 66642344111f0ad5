"""Measurements of rtdenoise on the machine at hand; the command is `rtdenoise-bench`."""
