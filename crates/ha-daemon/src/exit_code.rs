//! Exit codes that supervisors and scripts can rely on.

use std::process::{ExitCode as ProcessExitCode, Termination};

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Stopped as asked, or the configuration is good.
    Ok,
    /// It could not go on; a supervisor should start it again.
    Failure,
    /// Bad configuration or usage: starting it again cannot help.
    Usage,
}

impl ExitCode {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
        }
    }
}

impl Termination for ExitCode {
    fn report(self) -> ProcessExitCode {
        ProcessExitCode::from(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn the_numbers_are_documented() {
        assert_eq!([ExitCode::Ok, ExitCode::Failure, ExitCode::Usage].map(ExitCode::code), [0, 1, 2]);
    }
}
