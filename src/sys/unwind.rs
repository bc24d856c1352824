//! In the place of an unwinder, in a program whose panics end it at once.
//!
//! The standard library brings what prints backtraces, a reader of DWARF among it: 160 kB in a program of which one runs per agent, and
//! whose symbols were taken out anyway. It asks the C compiler's library (Itanium C++ ABI: Exception Handling, level II) for the frames
//! of the stack. The linker finds these functions first; the optimiser sees that there are no frames, and drops the rest.

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`
const END_OF_STACK: c_int = 5;

/// Says that the stack has no frames, by never calling `_trace`.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_trace: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What only somebody who unwinds would get to.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )*};
}

never_called! {
    _Unwind_GetDataRelBase _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase
    _Unwind_Resume _Unwind_SetGR _Unwind_SetIP
}
