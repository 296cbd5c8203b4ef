"""Tests of dlc.ir."""
