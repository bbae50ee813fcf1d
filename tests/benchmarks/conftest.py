"""What is measured with Open3D is tested where it is installed."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("open3d") else ["test_*.py"]
