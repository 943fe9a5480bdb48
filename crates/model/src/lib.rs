//! What flows: names, table schemas, positions and errors; no I/O.
