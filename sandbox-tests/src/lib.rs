//! Tries to get out of a sandbox, from inside.
