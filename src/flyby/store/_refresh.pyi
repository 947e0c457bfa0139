"""An object's head and times change, and its body stays; from Python by `Store.refresh` and `Store.renew`."""
