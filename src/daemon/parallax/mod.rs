//! The face that an unmodified Parallax drives.
