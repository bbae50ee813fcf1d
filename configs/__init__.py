"""YAML presets, installed as `mem3r_plugin.configs`; each holds only what is not the default."""
