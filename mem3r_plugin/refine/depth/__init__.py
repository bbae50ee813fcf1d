"""Depth at refined poses: matched between neighbours, joined with what the network believes."""
