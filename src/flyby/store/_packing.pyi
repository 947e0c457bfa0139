"""Objects take another form, a slice at a time; from Python it is reached by `Store.pack_some`."""

from typing import final

@final
class Packer: ...
