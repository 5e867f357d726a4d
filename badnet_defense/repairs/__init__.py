"""Repairs: what turns a backdoored net into one that keeps its skill and loses its backdoor."""
