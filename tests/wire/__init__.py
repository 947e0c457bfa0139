"""Tests of `flyby.wire`."""
