"""ImUnity as a BIDS App."""

from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imunity_bids.run.one_file import harmonize_image as harmonize_image


def version() -> str:
    """Version of the installed package."""
    return metadata.version("imunity-bids")


def __getattr__(name: str) -> Any:
    """`harmonize_image` is imported when it is first asked for: the package itself stays light."""
    if name == "harmonize_image":
        from imunity_bids.run.one_file import harmonize_image

        return harmonize_image
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
