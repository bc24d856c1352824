//! One wrapper per system call: borrowed descriptors in, owned ones out. The only unsafe code.

pub mod kernel;
