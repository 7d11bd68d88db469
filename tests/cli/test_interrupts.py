"""Ctrl-C at any time: one line and the status that shells expect."""

from __future__ import annotations

import subprocess
import sys


def test_an_interrupt_while_modules_are_imported_is_one_line():
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from gatenorm.cli import main\n"  # as the installed script does
        "sys.exit(main(['--help']))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 130
    assert (answer.stdout, answer.stderr) == ("", "interrupted; nothing half-written was left behind\n")
