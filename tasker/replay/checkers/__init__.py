"""The checker library: one invariant a module, each shown to fail on a planted bug (`tests/unit/replay`).

It serves unit tests, simulations, runs under faults and `tasker log verify` alike. A checker of the log is fed
one shard's events in order and told when the shard ends; it never raises and reports each `Finding` as it meets
it. What else it needs (acknowledgements, what was published, a sink's records, the rows of a view) it is given.

| invariant | module         | holds                                                                          |
|-----------|----------------|--------------------------------------------------------------------------------|
| I1        | `acknowledged` | an acknowledged command is in the log exactly once                             |
| I2        | `complete`     | positions and seqs without gaps, the hash chain                                |
| I3        | `epochs`       | epochs and times never go back                                                 |
| I4        | `published`    | the published stream equals the log up to the cursor                           |
| I5        | `projected`    | the rows of a view equal the fold at its checkpoint                            |
| I7        | `once`         | one completion a step, one start and one outcome an attempt, one effect a key  |
| I8        | `order`        | no step before its parents, nothing after the end                              |
|           | `placed`       | places of concurrency keys: never more than may, in turn, all given back       |
|           | `circuits`     | circuits open, are tried and close only as they may                            |
|           | `tried`        | they open for recorded failures; nothing new begins while one is open          |
|           | `sticky`       | an attempt is kept for the worker that its step sticks to                      |
| I9        | `timely`       | no timer early or late, every task ends                                        |
| I11       | `bounded`      | caps hold, and a refusal is typed and says when to ask again                   |
| I13       | `metered`      | usage and cost in the views equal a recount of the log                         |
| snapshot  | `kept`         | every snapshot is what the events up to its own give                           |
| fold      | `folded`       | every event is understood and moves its task                                   |
"""
