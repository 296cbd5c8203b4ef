"""Figures: dlc beside other frameworks, each alone in its process, in turns."""
