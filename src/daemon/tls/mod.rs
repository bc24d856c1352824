//! mTLS: who may connect, and who they are.
//!
//! ```text
//!  files ─▶ Material (certificate, key, CAs, CRLs, grants: checked as a whole) ─▶ Live ─▶ every new connection
//!    ▲                                                                             │
//!    └── looked at twice a second, or on SIGHUP; what is broken changes nothing    └──▶ every open one, once more
//! ```

pub mod crl;
pub mod identity;
pub mod live;
pub mod material;
pub mod secret;
pub mod verifier;

pub use identity::Identity;
pub use live::{Live, Status};
pub use material::{Material, MaterialError};
pub use verifier::naming;
