"""The dyno's end of the tunnel: its pure parts by tables, the rest against a scripted edge and a scripted app."""
