"""An installation on the terminal."""

import platform

from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.records.installation import Installation


def show(installation: Installation) -> None:
    """The machine, then tables of extras, of engines and of packages that add to gatenorm."""
    console.say(f"gatenorm {installation.version}, Python {platform.python_version()} on {installation.platform}")
    memory = console.bytes_for_people(installation.memory_bytes) if installation.memory_bytes else "unknown"
    console.say(f"{installation.processors} processors ({installation.processor}), {memory} of memory")
    console.say(f"instructions for inference: {', '.join(installation.features) or 'none known'}")
    console.say(f"accelerators: {', '.join(installation.accelerators) or 'none'}")
    extras = table("extras", "extra", "packages", "install the rest by")
    for extra in installation.extras:
        packages = ", ".join(f"{name} {installed or '(missing)'}" for name, installed in extra.packages.items())
        missing = None in extra.packages.values()
        extras.add_row(extra.name, packages, f"pip install 'gatenorm[{extra.name}]'" if missing else "")
    console.print_table(extras)
    engines = table("engines", "engine", "installed", "can")
    for engine in installation.engines:
        engines.add_row(engine.name, "yes" if engine.installed else "no", ", ".join(engine.can))
    console.print_table(engines)
    if installation.packages:
        others = table("packages that add to gatenorm", "package", "adds", "broken")
        for package in installation.packages:
            others.add_row(package.name, ", ".join(package.adds), "; ".join(package.problems))
        console.print_table(others)
