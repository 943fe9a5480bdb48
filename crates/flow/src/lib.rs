//! The Source and Sink traits and the one loop between them.
