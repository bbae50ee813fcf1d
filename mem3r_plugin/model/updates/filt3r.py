"""FILT3R: a Kalman filter on every state token (arXiv 2603.18493).

The state is a belief with one variance p per token, the candidate a measurement of it. From the paper: a
random walk p- = p + q before a frame, the gain k = p- / (p- + r), then p = (1 - k)^2 p- + r k^2 (Joseph).
r is fixed; q rises from `STILL` to `MOVING` by a sigmoid of how far the candidate moved since the frame
before, in running means of the stream's motion. The constants are those that its authors publish.

Ours: the first frame is written whole and leaves the variance `INITIAL`; the running mean is that before the
frame, so that a jump does not hide itself; the gain, between 0 and 1 as it is, is not clamped further.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mem3r_plugin.model.updates.rule import Update, UpdateContext

MEASUREMENT = 1.0
"""r, the variance of a candidate."""
INITIAL = 1.5
"""Variance of a token after the first frame."""
STILL, MOVING = 0.02, 0.5
"""Least and greatest q, the variance that a frame adds."""
THRESHOLD, SLOPE = 3.0, 20.0
"""Motion, in running means, at which q is half way, and how steep it is there."""
PACE = 0.05
"""Weight of a frame in the running mean of motion."""
LEAST_MOTION = 0.01
"""Floor of the running mean, so that a picture that stands still measures nothing by nothing."""


class FILT3RUpdate:
    """The gate is the Kalman gain of each token."""

    ignores_update_flag = False

    def step(self) -> FILT3RStep:
        """Begin with one frame."""
        return FILT3RStep()


class FILT3RStep:
    """One prediction and correction."""

    observer = None

    def finish(self, context: UpdateContext) -> Update:
        """The gain (batch, state tokens, 1); keeps candidate, variance and the running mean of motion."""
        kept = context.kept
        if context.first or not kept:  # a state written under another rule kept nothing
            variance = torch.full_like(context.candidate[..., 0], INITIAL, dtype=torch.float32)
            return Update(None, {"candidate": context.candidate, "variance": variance})
        motion = (context.candidate.float() - kept["candidate"].float()).norm(dim=-1)
        frame_motion = motion.mean(dim=-1, keepdim=True)
        usual = kept.get("motion", frame_motion)
        predicted = kept["variance"] + process_noise(motion, usual)
        gain = predicted / (predicted + MEASUREMENT)
        if context.update:
            kept = {
                "candidate": context.candidate,
                "variance": (1 - gain) ** 2 * predicted + MEASUREMENT * gain**2,
                "motion": torch.lerp(usual, frame_motion, PACE),
            }
        return Update(gain.unsqueeze(-1), kept)


def process_noise(motion: Tensor, usual: Tensor) -> Tensor:
    """The variance q that a frame adds (batch, tokens), from motion likewise and its mean (batch, 1)."""
    relative = motion / usual.clamp_min(LEAST_MOTION)
    return STILL + (MOVING - STILL) * torch.sigmoid(SLOPE * (relative - THRESHOLD))
