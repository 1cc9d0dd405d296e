"""What to show: the report and the tear sheet of a finished run, each one file that needs no network."""

from reports.page import write
from reports.tearsheet import write_tearsheet

__all__ = ["write", "write_tearsheet"]
