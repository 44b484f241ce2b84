"""Executors: independent jobs run somewhere, each brought to its end once, whatever happens to who runs it.

pool     what every executor promises, and which there are
attempt  one job tried once, wherever that is
shared   what all jobs read, stored once and mapped by each process
local    processes of this machine
cluster  an existing Ray cluster, or one started here
alarm    a wake-up call on an event loop, finer than its own timers
"""
