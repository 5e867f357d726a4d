"""Reading untrusted files in a limited process: client, server, tasks, limits, HDF5 rules."""
