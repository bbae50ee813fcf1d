"""Procedural worlds, losses and the trainer; needs the extra `train`."""
