"""The packages of the distribution; everything else is in pyproject.toml.

pyproject.toml cannot say that the top-level folder `configs/` is installed as
`mem3r_plugin.configs` while all other packages are found by searching.
"""

from setuptools import find_packages, setup

integrations = find_packages("integrations")

setup(
    packages=[*find_packages(include=["mem3r_plugin*"]), "mem3r_plugin.configs", *integrations],
    package_dir={
        "mem3r_plugin.configs": "configs",
        **{name: f"integrations/{name.replace('.', '/')}" for name in integrations},
    },
)
