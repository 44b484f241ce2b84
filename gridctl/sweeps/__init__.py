"""Sweeps: many scenarios of one grid over the same traffic, and which of them nobody beats.

target       a field path such as `cluster/paris-rtx spec.deployments[0].replicas`
axes         the file's axes, and the scenarios that are their product
reading      a sweep file against a grid: what is wrong, at file, line and column
arrangement  a scenario's own resources and policy
work         one replay of one scenario, wherever that is
sweeping     the service: make, resume, keep
results      what a sweep came to: rows, ranges, the front, tables of two axes
"""
