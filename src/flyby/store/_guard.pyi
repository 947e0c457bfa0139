"""Robust locks and pins; nothing of it is for Python."""
