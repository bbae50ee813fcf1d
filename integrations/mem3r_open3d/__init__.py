"""A Mem3R scan in Open3D: fused meshes of long scans, datasets, views and pictures."""
