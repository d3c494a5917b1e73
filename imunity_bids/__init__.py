"""ImUnity as a BIDS App."""

from importlib import metadata


def version() -> str:
    """Version of the installed package."""
    return metadata.version("imunity-bids")
