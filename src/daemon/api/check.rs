//! What a request that does not pass through the supervisor as a whole is checked for.

use crate::api::agent::Size;
use crate::daemon::problem::Fault;

/// Whether a terminal can have this size.
///
/// # Errors
/// 422
pub fn size(field: &'static str, size: Size) -> Result<(), Fault> {
    let fits = |n: u16| (1..=1000).contains(&n);
    if fits(size.cols) && fits(size.rows) {
        return Ok(());
    }
    Err(Fault::unprocessable(field, format_args!("{field}: columns and rows are 1 to 1000 each")))
}
