"""The map: structure from motion over the keyframes, taken apart or made anew where it errs."""
