"""Sources of frames, the front end that reconstructs them, sinks, and `run`, which joins them."""
