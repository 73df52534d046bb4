"""The version, in a file that imports nothing, so that setup.cfg and --version can read it."""

VERSION = "0.5.0"
