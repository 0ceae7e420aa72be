"""The version of everything in this repository; scripts/contract copies it to where it recurs."""

__version__ = "0.1.0"
