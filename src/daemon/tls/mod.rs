//! mTLS: who may connect, and who they are.
