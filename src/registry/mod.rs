//! What lies in etcd about agents and nodes, and the way there: for the daemon, which writes it, and for people, who look.
//!
//! ```text
//!  /parallax/services/agent/<id>      one agent: Parallax lists these, and calls what it finds   (entry)
//!  /parallax/services/monitor/<node>  one node: Parallax never selects this type                  (entry)
//! ```

pub mod access;
pub mod check;
pub mod entry;
pub mod view;

pub use access::{Access, AccessError};
pub use entry::{Entry, Mark};
pub use view::View;
