"""Small files that others wrote, read within limits; files and directories that appear whole or not at all; locks."""

from gatenorm.files.locks import locked as locked
from gatenorm.files.reading import (
    LARGE as LARGE,
    SMALL as SMALL,
    open_regular as open_regular,
    open_small as open_small,
    parse_json as parse_json,
    read_small as read_small,
)
from gatenorm.files.writing import (
    can_be_written as can_be_written,
    check_apart as check_apart,
    check_new_directory as check_new_directory,
    check_new_file as check_new_file,
    new_directory as new_directory,
    new_file as new_file,
    new_output as new_output,
    remove_partials as remove_partials,
    replacing as replacing,
    scratch_copy as scratch_copy,
    write_bytes as write_bytes,
    write_errors as write_errors,
    write_json as write_json,
    write_text as write_text,
)
