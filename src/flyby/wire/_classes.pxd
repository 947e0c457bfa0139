"""What each byte may be, as one table that every scanner of this folder compiles in.

A bit a class: TOKEN is tchar (RFC 9110 5.6.2); VALUE is what a field value or a reason phrase may hold: visible bytes,
obs-text, space and tab (RFC 9110 5.5); QUERY is visible ASCII less `" # < >`; PATH is QUERY less `? \\ ^ { }` and the
backtick (browsers leave those, `|` and `[]` raw in queries, so there they must pass); QUOTED is qdtext (RFC 9110
5.6.4); LABEL is what a label of a host name is made of, with the underscore that exists in the wild; DIGIT and HEX.
"""

cdef extern from *:
    """
    static const unsigned char flyby_classes[256] = {
          0,   0,   0,   0,   0,   0,   0,   0,   0,  18,   0,   0,   0,   0,   0,   0,
          0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
         18,  31,   2,  19,  31,  31,  31,  31,  30,  30,  31,  31,  30,  95,  31,  30,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255,  30,  30,  18,  30,  18,  26,
         30, 223, 223, 223, 223, 223, 223,  95,  95,  95,  95,  95,  95,  95,  95,  95,
         95,  95,  95,  95,  95,  95,  95,  95,  95,  95,  95,  30,  10,  30,  27,  95,
         27, 223, 223, 223, 223, 223, 223,  95,  95,  95,  95,  95,  95,  95,  95,  95,
         95,  95,  95,  95,  95,  95,  95,  95,  95,  95,  95,  26,  31,  26,  31,   0,
         18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,
         18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,
         18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,
         18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,
         18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,
         18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,
         18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,
         18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18,  18
    };
    """
    const unsigned char CLASSES "flyby_classes"[256]

cdef enum:
    TOKEN = 1
    VALUE = 2
    PATH = 4
    QUERY = 8
    QUOTED = 16
    DIGIT = 32
    LABEL = 64
    HEX = 128
