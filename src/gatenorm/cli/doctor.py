"""``gatenorm doctor``: what is installed here, and what this machine can do."""

from gatenorm.cli import console
from gatenorm.cli.options import common

NAME = "doctor"
EXAMPLE = "Example: gatenorm doctor"


def command(*, json: common.Json) -> None:
    """Show which optional packages are installed, how to install the others, and what this machine supports."""
    from msgspec.structs import replace

    from gatenorm.api.extending import extending_packages
    from gatenorm.cli.tables.doctor import show
    from gatenorm.engines._installation import installation

    installed = replace(installation(), packages=extending_packages())
    console.deliver(json, installed, lambda: show(installed))
