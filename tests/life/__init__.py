"""The life of a request, played on real sockets: who leaves, who stays, and what is given back on every way out."""
