"""Without Open3D there is nothing to test here."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("open3d") else ["test_*.py"]
