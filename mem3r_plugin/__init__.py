"""Mem3R, a streaming 3-D reconstruction network, as a pose-and-depth front end."""
