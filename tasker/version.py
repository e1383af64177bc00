"""The version of this distribution: read here by the build, the CLI and the service."""

__version__ = "0.1.0"
