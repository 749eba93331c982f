"""Harms real runs at random moments, and looks whether anything is lost: see `__main__`."""
