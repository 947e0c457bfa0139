"""How much must be read to understand a request: the files of `src/` whose lines run while it is played.

A road that is told in few files can be understood; what grows here grows for every reader. The build has to call
Python's monitor for each line of Cython (FLYBY_TRACE=1, see setup.py), and Python is to have one (3.13), so this is a
build of its own: `tox -e reading`.

    counting.py      the files whose lines run, and how long they are
    plays.py         the requests that are counted, and how few files each may take
    __main__.py      `python -m tests.reading`: the counts, file by file
    test_reading.py  the bounds
"""
