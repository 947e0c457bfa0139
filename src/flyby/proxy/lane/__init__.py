"""The short cuts that are left; each calls the rule of the room that owns it."""
