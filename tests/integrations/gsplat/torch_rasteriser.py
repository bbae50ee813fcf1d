"""A slow rasteriser in torch, in place of gsplat's where there is no CUDA."""

from __future__ import annotations

from typing import Any

import gsplat
import torch
from torch import Tensor

SH_C0 = 0.28209479177387814
BLUR = 0.3  # pixels squared, as gsplat adds to every footprint


def rotation_matrices(quaternions: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def rasterise(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    sh_degree: int | None,
    packed: bool,
    render_mode: str,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """What `gsplat.rasterization` gives for one view, with constant colours only."""
    assert render_mode == "RGB+ED"
    assert not packed
    assert len(viewmats) == 1
    view, calibration = viewmats[0], Ks[0]
    local = means @ view[:3, :3].T + view[:3, 3]
    depth = local[:, 2].clamp_min(0.01)
    all_means2d = ((local / depth[:, None]) @ calibration.T)[None, :, :2]
    means2d = all_means2d[0]  # its gradient reaches the tensor that the strategy watches
    axes = rotation_matrices(quats) * scales[:, None]
    covariance = view[:3, :3] @ axes @ axes.mT @ view[:3, :3].T
    zero = torch.zeros_like(depth)
    focal_x, focal_y = calibration[0, 0], calibration[1, 1]
    jacobian = torch.stack(
        [
            torch.stack([focal_x / depth, zero, -focal_x * local[:, 0] / depth**2], -1),
            torch.stack([zero, focal_y / depth, -focal_y * local[:, 1] / depth**2], -1),
        ],
        dim=1,
    )
    footprint = jacobian @ covariance @ jacobian.mT + BLUR * torch.eye(2)
    order = torch.argsort(depth)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    offset = torch.stack([x, y], -1)[None] - means2d[order, None, None]
    distance = torch.einsum("nhwi,nij,nhwj->nhw", offset, footprint[order].inverse(), offset)
    visible = (local[order, 2] > 0.01)[:, None, None]
    alpha = opacities[order, None, None] * torch.exp(-distance / 2) * visible
    alpha = alpha.clamp_max(0.999)
    before = torch.cat([torch.ones_like(alpha[:1]), (1 - alpha).cumprod(0)[:-1]])
    weight = alpha * before
    colour = (0.5 + SH_C0 * colors[:, 0]).clamp_min(0)[order]
    covered = weight.sum(0)
    rendered = torch.einsum("nhw,nc->hwc", weight, colour)
    expected = torch.einsum("nhw,n->hw", weight, depth[order]) / covered.clamp_min(1e-10)
    radius = 3 * footprint.detach().diagonal(dim1=1, dim2=2).amax(-1).sqrt()
    radii = torch.where(local[:, 2] > 0.01, radius, 0.0)[None]
    information = {
        "means2d": all_means2d,
        "radii": radii[..., None].expand(-1, -1, 2) if gsplat.__version__ >= "1.5" else radii,
        "width": width,
        "height": height,
        "n_cameras": 1,
        "gaussian_ids": None,
    }
    return (
        torch.cat([rendered, expected[..., None]], -1)[None],
        covered[None, ..., None],
        information,
    )
