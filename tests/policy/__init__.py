"""Tests of flyby.policy: tables with an id and an RFC anchor for each case, and properties of the parsers."""
