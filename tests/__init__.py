"""Tests of dlc, in the folders that they mirror."""
