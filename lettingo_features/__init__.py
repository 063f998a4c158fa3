"""LLM-written text about users and items as point-in-time correct Feast features."""

__version__ = "0.1.0"
