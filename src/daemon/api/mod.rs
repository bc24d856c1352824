//! The handlers of /v1, of the minimal face and of operations: they turn HTTP into a call, and its error into a problem.
