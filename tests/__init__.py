"""The tests, one folder for each package of `src/flyby`, and what is shown of the whole: e2e, desync, conformance."""
