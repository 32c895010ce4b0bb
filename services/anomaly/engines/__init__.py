"""Two ways of telling a part from normal ones, one file each under the protocol of `engine.py`."""
