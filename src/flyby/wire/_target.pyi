"""Types of `_target.pyx`, which offers its functions to C only."""
