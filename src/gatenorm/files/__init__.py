"""Small files that others wrote, read within limits; files and directories that appear whole or not at all; locks."""

from gatenorm.files.reading import LARGE, SMALL, open_regular, open_small, parse_json, read_small
from gatenorm.files.writing import (
    can_be_written,
    check_apart,
    check_new_directory,
    check_new_file,
    locked,
    new_directory,
    new_file,
    remove_partials,
    replacing,
    write_bytes,
    write_errors,
    write_json,
    write_text,
)

__all__ = [
    "LARGE",
    "SMALL",
    "can_be_written",
    "check_apart",
    "check_new_directory",
    "check_new_file",
    "locked",
    "new_directory",
    "new_file",
    "open_regular",
    "open_small",
    "parse_json",
    "read_small",
    "remove_partials",
    "replacing",
    "write_bytes",
    "write_errors",
    "write_json",
    "write_text",
]
