"""The command line `mekiki`."""
